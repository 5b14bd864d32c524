"""One frame of a recording -> rows of the message table, or a reason why not.

Both generations of Kalshi's wire format (`wire.py`) give the same rows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeGuard

import msgspec
import pyarrow as pa

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT, MAX_SIZE_CENTI
from kalshi_pipeline.market.integrity import Reason
from kalshi_pipeline.market.prices import NO, YES, mirror_bp, to_scaled
from kalshi_pipeline.names import is_ticker
from kalshi_pipeline.recordings.wire import (
    UNREADABLE,
    DeltaFrame,
    Number,
    SnapshotFrame,
    TickerFrame,
    TradeFrame,
    decode_any_line,
    decode_any_message,
    decode_line,
)

MESSAGES_VERSION = "2"


class MessageKind(IntEnum):
    """What a row of the message table is."""

    SNAPSHOT = 0  # a whole book begins; its LEVEL rows follow and share its frame
    LEVEL = 1
    DELTA = 2
    TRADE = 3
    TICKER = 4
    LIFECYCLE = 5
    CONTROL = 6  # carries no market data but may use up a seq
    REJECTED = 7  # a delta or snapshot in quarantine: its seq was seen, its content is not trusted


MESSAGE_SCHEMA = pa.schema(
    [
        ("frame", pa.int64()),  # ordinal of the frame in the recording
        ("epoch", pa.int32()),  # the collector's connection
        ("sid", pa.int32()),  # subscription
        ("seq", pa.int64()),  # counter of the subscription, over all its markets; null = none
        ("recv_ms", pa.int64()),
        ("exchange_ms", pa.int64()),
        ("market", pa.dictionary(pa.int32(), pa.string())),
        ("kind", pa.uint8()),  # MessageKind
        ("side", pa.uint8()),  # ladder 0 YES / 1 NO; TRADE: taker bought YES / NO
        ("price_bp", pa.int32()),  # ladder's own scale; TRADE, TICKER: YES scale
        ("size_centi", pa.int64()),  # DELTA: signed change; TICKER: traded volume so far
        ("file", pa.int16()),
        ("offset", pa.int64()),  # byte offset of the line in the decompressed file
        ("detail", pa.string()),  # LIFECYCLE: its message; CONTROL: its type
    ]
)


class Rejected(Exception):
    """A frame that cannot be trusted: why, and the value that shows it."""

    def __init__(self, reason: Reason, value: object, market: str | None = None) -> None:
        super().__init__(reason, value)
        self.reason, self.value, self.market = reason, value, market


class _ExactNumbers(dict[Number, int]):
    """Remembers conversions: a session has few distinct prices and sizes."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self._scale = scale

    def __missing__(self, text: Number) -> int:
        if len(self) > 1_000_000:
            self.clear()
        converted = self[text] = to_scaled(text, self._scale)
        return converted


_SIDES = {"yes": YES, "no": NO}
_FRAME_TYPES = frozenset({"orderbook_snapshot", "orderbook_delta", "trade", "ticker"})
_LONGEST_NAME = 100
MAX_VOLUME_CENTI = 1_000 * MAX_SIZE_CENTI
_dollars = _ExactNumbers(BP_PER_DOLLAR)
_cents = _ExactNumbers(BP_PER_DOLLAR // 100)
_contracts = _ExactNumbers(CENTI_PER_CONTRACT)

# frame columns, in the order of MESSAGE_SCHEMA after (frame, epoch) and before (file, offset)
Row = tuple[
    int | None,  # sid
    int | None,  # seq
    int,  # recv_ms
    int | None,  # exchange_ms
    str | None,  # market
    int,  # kind
    int | None,  # side
    int | None,  # price_bp
    int | None,  # size_centi
    str | None,  # detail
]


class FrameDecoder:
    """Turns lines into rows.

    Args:
        markets: tickers the session subscribed to; empty = any.
        use_yes_price: NO levels come in the YES scale (the subscription's flag of that name).
    """

    def __init__(
        self, markets: frozenset[str] = frozenset(), *, use_yes_price: bool = False
    ) -> None:
        self._markets = markets
        self._use_yes_price = use_yes_price

    def decode(self, text: bytes) -> tuple[int, list[Row], Rejected | None]:
        """Rows of one line.

        Returns:
            The connection, the rows (one, or one and a level each for a snapshot), and the verdict
            where the frame is not trusted: its row then is REJECTED, or there is none at all where
            not even the connection could be read (connection -1).
        """
        try:
            line = decode_line(text)
        except msgspec.ValidationError:
            return self._decode_odd(text)
        except UNREADABLE as error:
            return -1, [], Rejected(Reason.CORRUPT_LINE, str(error))
        event = line.event
        try:
            if isinstance(event, DeltaFrame):
                return line.conn, [self._delta(line.recv_ms, event)], None
            if isinstance(event, SnapshotFrame):
                return line.conn, self._snapshot(line.recv_ms, event), None
            if isinstance(event, TradeFrame):
                return line.conn, [self._trade(line.recv_ms, event)], None
            return line.conn, [self._ticker(line.recv_ms, event)], None
        except Rejected as verdict:
            ticker, name = event.msg.market_ticker, str(event.__struct_config__.tag)
            verdict.market = ticker if is_ticker(ticker) else None
            row = self._set_aside(name, event.sid, event.seq, line.recv_ms, ticker)
            return line.conn, [row], verdict

    def _set_aside(
        self, name: str, sid: int | None, seq: int | None, recv_ms: int, ticker: object
    ) -> Row:
        # a book frame that is not trusted breaks its market's book, or every book of the
        # subscription where the market cannot be read; one of a foreign market breaks none
        may_be_of_a_book = name not in ("trade", "ticker")
        if may_be_of_a_book and (self._is_known(ticker) or not isinstance(ticker, str)):
            market = ticker if isinstance(ticker, str) else None
            return _row(sid, seq, recv_ms, None, market, MessageKind.REJECTED)
        return _row(sid, seq, recv_ms, None, None, MessageKind.CONTROL, name)

    def _delta(self, recv_ms: int, event: DeltaFrame) -> Row:
        msg = event.msg
        self._require_known(msg.market_ticker)
        side = _SIDES.get(msg.side)
        if side is None:
            raise Rejected(Reason.SIDE_INVALID, msg.side)
        price = self._price(side, msg.price_dollars, msg.price)
        change = _size(msg.delta_fp if msg.delta_fp is not None else msg.delta, -MAX_SIZE_CENTI)
        return (
            event.sid, event.seq, recv_ms, msg.ts_ms, msg.market_ticker,
            MessageKind.DELTA, side, price, change, None,
        )  # fmt: skip

    def _snapshot(self, recv_ms: int, event: SnapshotFrame) -> list[Row]:
        msg = event.msg
        self._require_known(msg.market_ticker)
        head = _row(event.sid, event.seq, recv_ms, None, msg.market_ticker, MessageKind.SNAPSHOT)
        rows = [head]
        ladders = (
            (
                YES,
                msg.yes_dollars_fp if msg.yes_dollars_fp is not None else msg.yes_dollars,
                msg.yes,
            ),
            (NO, msg.no_dollars_fp if msg.no_dollars_fp is not None else msg.no_dollars, msg.no),
        )
        for side, dollars, cents in ladders:
            seen = set()
            for price, size in (dollars if dollars is not None else cents) or ():
                in_dollars = price if dollars is not None else None
                level_bp = self._price(side, in_dollars, price)
                size_centi = _size(size, 1)
                if level_bp in seen:
                    raise Rejected(Reason.SIZE_INVALID, f"level {price} is given twice")
                seen.add(level_bp)
                rows.append(
                    (event.sid, event.seq, recv_ms, None, msg.market_ticker,
                     MessageKind.LEVEL, side, level_bp, size_centi, None)
                )  # fmt: skip
        return rows

    def _trade(self, recv_ms: int, event: TradeFrame) -> Row:
        msg = event.msg
        if msg.is_block_trade or not self._is_known(msg.market_ticker):
            # a block trade does not meet the book; it is no evidence about it
            return _row(
                event.sid, event.seq, recv_ms, msg.ts_ms, None, MessageKind.CONTROL, "trade"
            )
        side = _SIDES.get(msg.taker_outcome_side or msg.taker_side or "")
        if side is None:
            raise Rejected(Reason.SIDE_INVALID, msg.taker_outcome_side or msg.taker_side)
        price = _price_bp(msg.yes_price_dollars, msg.yes_price)
        size = _size(msg.count_fp if msg.count_fp is not None else msg.count, 1)
        return (
            event.sid, event.seq, recv_ms, msg.ts_ms, msg.market_ticker,
            MessageKind.TRADE, side, price, size, None,
        )  # fmt: skip

    def _ticker(self, recv_ms: int, event: TickerFrame) -> Row:
        msg = event.msg
        if not self._is_known(msg.market_ticker):
            return _row(
                event.sid, event.seq, recv_ms, msg.ts_ms, None, MessageKind.CONTROL, "ticker"
            )
        price = None if msg.price_dollars is None else _number(_dollars, msg.price_dollars)
        if price is not None and not 0 <= price <= BP_PER_DOLLAR:  # 0: never traded
            raise Rejected(Reason.PRICE_OUT_OF_RANGE, msg.price_dollars)
        volume = None if msg.volume_fp is None else _size(msg.volume_fp, 0, MAX_VOLUME_CENTI)
        return (
            event.sid, event.seq, recv_ms, msg.ts_ms, msg.market_ticker,
            MessageKind.TICKER, None, price, volume, None,
        )  # fmt: skip

    def _decode_odd(self, text: bytes) -> tuple[int, list[Row], Rejected | None]:
        # frames of no fixed form (control, lifecycle), or book frames that lack a field
        try:
            text.decode()  # a field that is not looked into is not checked otherwise
            line = decode_any_line(text)
        except UNREADABLE as error:
            return -1, [], Rejected(Reason.CORRUPT_LINE, str(error))
        event = line.event
        name = str(event.type)[:_LONGEST_NAME]
        sid, seq = _integer(event.sid, 1 << 31), _integer(event.seq, 1 << 62)
        ticker = _ticker_of(event.msg)
        if name in _FRAME_TYPES or not isinstance(event.type, str):
            row = self._set_aside(name, sid, seq, line.recv_ms, ticker)
            known = ticker if is_ticker(ticker) else None
            return line.conn, [row], Rejected(Reason.MISSING_FIELD, name, known)
        if name.startswith("market_lifecycle"):
            market = ticker if self._is_known(ticker) else None
            detail = bytes(event.msg).decode()
            row = _row(sid, seq, line.recv_ms, None, market, MessageKind.LIFECYCLE, detail)
        else:
            row = _row(sid, seq, line.recv_ms, None, None, MessageKind.CONTROL, name)
        return line.conn, [row], None

    def _price(self, side: int, dollars: Number | None, cents: Number | None) -> int:
        price = _price_bp(dollars, cents)
        return mirror_bp(price) if self._use_yes_price and side == NO else price

    def _is_known(self, ticker: object) -> TypeGuard[str]:
        if self._markets:
            return isinstance(ticker, str) and ticker in self._markets
        return is_ticker(ticker)

    def _require_known(self, ticker: str) -> None:
        if not self._is_known(ticker):
            raise Rejected(Reason.UNKNOWN_MARKET, ticker)


def _row(
    sid: int | None,
    seq: int | None,
    recv_ms: int,
    exchange_ms: int | None,
    market: str | None,
    kind: int,
    detail: str | None = None,
) -> Row:
    return (sid, seq, recv_ms, exchange_ms, market, kind, None, None, None, detail)


def _price_bp(dollars: Number | None, cents: Number | None) -> int:
    if dollars is not None:
        price = _number(_dollars, dollars)
    elif cents is not None:
        price = _number(_cents, cents)
    else:
        raise Rejected(Reason.MISSING_FIELD, "price")
    if not 0 < price < BP_PER_DOLLAR:
        raise Rejected(Reason.PRICE_OUT_OF_RANGE, dollars if dollars is not None else cents)
    return price


def _size(text: Number | None, least: int, most: int = MAX_SIZE_CENTI) -> int:
    if text is None:
        raise Rejected(Reason.MISSING_FIELD, "size")
    try:
        size = _contracts[text]
    except ValueError:
        raise Rejected(Reason.SIZE_INVALID, text) from None
    if not least <= size <= most:
        raise Rejected(Reason.SIZE_INVALID, text)
    return size


def _number(numbers: _ExactNumbers, text: Number) -> int:
    try:
        return numbers[text]
    except ValueError:
        raise Rejected(Reason.NOT_A_NUMBER, text) from None


def _integer(value: object, end: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        return None
    return value


def _ticker_of(msg: msgspec.Raw) -> object:
    try:
        return decode_any_message(msg).market_ticker
    except UNREADABLE:
        return None
