"""Frames as they come on the wire, both generations, as types that decode them.

Decimal strings (`*_dollars_fp`, `price_dollars`, `delta_fp`) since 12 March 2026, whole cents with
integer counts before. Source: Kalshi API documentation, "orderbook updates", "public trades",
"market ticker".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Number = str | int | float
# what the columns of the message table can hold
END_OF_IDS, END_OF_TIME_MS = 1 << 31, 253_402_300_800_000  # the year 10,000
Id = Annotated[int, msgspec.Meta(ge=0, lt=END_OF_IDS)]
Seq = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
UnixMs = Annotated[int, msgspec.Meta(ge=0, lt=END_OF_TIME_MS)]


class _Snapshot(msgspec.Struct):
    market_ticker: str
    yes_dollars_fp: list[tuple[Number, Number]] | None = None
    no_dollars_fp: list[tuple[Number, Number]] | None = None
    yes_dollars: list[tuple[Number, Number]] | None = None
    no_dollars: list[tuple[Number, Number]] | None = None
    yes: list[tuple[Number, Number]] | None = None
    no: list[tuple[Number, Number]] | None = None


class _Delta(msgspec.Struct):
    market_ticker: str
    side: str
    price_dollars: Number | None = None
    price: Number | None = None
    delta_fp: Number | None = None
    delta: Number | None = None
    ts_ms: UnixMs | None = None


class _Trade(msgspec.Struct):
    market_ticker: str
    yes_price_dollars: Number | None = None
    yes_price: Number | None = None
    count_fp: Number | None = None
    count: Number | None = None
    taker_outcome_side: str | None = None
    taker_side: str | None = None
    is_block_trade: bool = False
    ts_ms: UnixMs | None = None


class _Ticker(msgspec.Struct):
    market_ticker: str
    price_dollars: Number | None = None
    volume_fp: Number | None = None
    ts_ms: UnixMs | None = None


class SnapshotFrame(msgspec.Struct, tag_field="type", tag="orderbook_snapshot"):
    """A whole book."""

    sid: Id
    msg: _Snapshot
    seq: Seq | None = None


class DeltaFrame(msgspec.Struct, tag_field="type", tag="orderbook_delta"):
    """A change of one level of one bid ladder."""

    sid: Id
    msg: _Delta
    seq: Seq | None = None


class TradeFrame(msgspec.Struct, tag_field="type", tag="trade"):
    """A public trade."""

    msg: _Trade
    sid: Id | None = None
    seq: Seq | None = None


class TickerFrame(msgspec.Struct, tag_field="type", tag="ticker"):
    """A market's summary; `volume_fp` counts traded contracts."""

    msg: _Ticker
    sid: Id | None = None
    seq: Seq | None = None


class AnyEvent(msgspec.Struct):
    """A frame of any form."""

    type: Any = None
    sid: Any = None
    seq: Any = None
    msg: msgspec.Raw = msgspec.Raw(b"null")


class AnyMessage(msgspec.Struct):
    """What a message of any form may say about its market."""

    market_ticker: Any = None


class Line(msgspec.Struct):
    """One line of a recording."""

    recv_ms: UnixMs
    conn: Id
    event: SnapshotFrame | DeltaFrame | TradeFrame | TickerFrame


class AnyLine(msgspec.Struct):
    """A line with a frame of any form."""

    recv_ms: UnixMs
    conn: Id
    event: AnyEvent


# what a decoder raises on a line that is no frame at all; a frame of another form than the typed
# ones raises msgspec.ValidationError, which is one of them
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

decode_line = msgspec.json.Decoder(Line, strict=True).decode
decode_any_line = msgspec.json.Decoder(AnyLine).decode
decode_any_message = msgspec.json.Decoder(AnyMessage).decode
