"""The two kinds of frames there are millions of, book changes and trades, written by compiled code.

A row becomes the bytes of a line of the recording; a trade is two lines: the change of the level it
hit, and the public trade. Lines are put together from constant pieces, into which the numbers are
written. `tests/oracle/frames.py` is the slow twin.

Source: Kalshi API documentation, "orderbook updates", "public trades".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import copy_bytes, kernel
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.recordings.generator.frames import (
    BOOK_SID,
    SIDES,
    TRADE_SID,
    Wire,
    market_id,
    rfc3339,
)
from kalshi_pipeline.recordings.generator.order_flow import FlowKind

TRADE, KINDS = int(FlowKind.TRADE), len(FlowKind)
ROW_BYTES = 1_024  # more than a change and its trade take, tickers of 100 characters included
SPLITMIX = np.uint64(0x9E3779B97F4A7C15)
_MS = "0" * 13  # where a time in ms goes
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), dtype=np.uint8)

# Pieces of every line, in this order; then those that name a market.
_HEAD, _AMOUNT, _TAIL, _TRADE_HEAD, _NO_PRICE, _TAKEN, _TAKER, _CENTS, _DOLLARS = (
    0, 1, 2, 4, 5, 6, 7, 9, 10
)  # fmt: skip
_LEGACY_DOLLARS, _MARKETS = 11, 12


class Texts(NamedTuple):
    """Everything constant in the lines of one connection, one piece after the other.

    Args:
        data: uint8 `[bytes]`.
        at: int64 `[pieces + 1]` where each piece begins.
        trades: first of the pieces that name the market of a trade, one a market.
        seed: uint64 `[markets]` of the ids of its trades.
        legacy: generation of the wire.
    """

    data: NDArray[np.uint8]
    at: NDArray[np.int64]
    trades: int
    seed: NDArray[np.uint64]
    legacy: bool


def texts_of(wire: Wire, connection: int, tickers: Sequence[str]) -> Texts:
    """The constant parts of the lines of a connection."""
    legacy = wire == "legacy"
    begin = f'{{"recv_ms":{_MS},"conn":{connection},"event":{{"type":'
    stamp = f'"ts":"{rfc3339(0)}"' if legacy else f'"ts_ms":{_MS}'
    quote = "" if legacy else '"'
    taken = '","count":' if legacy else '","count_fp":"'
    pieces = [
        f'{begin}"orderbook_delta","sid":{BOOK_SID},"seq":',
        '","delta":' if legacy else '","delta_fp":"',
        *(f'{quote},"side":"{side}",{stamp}}}}}}}\n' for side in SIDES),
        f'{begin}"trade","sid":{TRADE_SID},"msg":{{"trade_id":"',
        '","no_price_dollars":"',
        taken,
        *(_taker(wire, side, book) for side, book in zip(SIDES, ("bid", "ask"), strict=True)),
        ',"no_price":',
        ',"yes_price_dollars":"' if legacy else '"',
        ',"price_dollars":"',
    ]
    change = '"price":' if legacy else '"market_id":"{id}","price_dollars":"'
    price = "yes_price" if legacy else "yes_price_dollars"
    for ticker in tickers:
        own = change.replace("{id}", market_id(ticker))
        pieces.append(f',"msg":{{"market_ticker":"{ticker}",{own}')
    pieces += [f'","market_ticker":"{ticker}","{price}":' for ticker in tickers]
    encoded = [piece.encode() for piece in pieces]
    return Texts(
        np.frombuffer(b"".join(encoded), dtype=np.uint8),
        np.cumsum([0, *map(len, encoded)]),
        _MARKETS + len(tickers),
        np.array([crc32(ticker.encode()) for ticker in tickers], dtype=np.uint64),
        legacy,
    )


def _taker(wire: Wire, side: str, book: str) -> str:
    # from after the count to the end of a trade; the time in s is written over its zeros
    if wire == "legacy":
        return f',"taker_side":"{side}","ts":{_MS[:10]}}}}}}}\n'
    return (
        f'","taker_side":"{side}","taker_outcome_side":"{side}","taker_book_side":"{book}",'
        f'"is_block_trade":false,"ts":{_MS[:10]},"ts_ms":{_MS}}}}}}}\n'
    )


@kernel
def _text(out: NDArray[np.uint8], p: int, texts: Texts, piece: int) -> int:
    begin, end = texts.at[piece], texts.at[piece + 1]
    copy_bytes(out, p, texts.data, begin, end - begin)
    return p + int(end - begin)


@kernel
def _four(out: NDArray[np.uint8], p: int, value: int) -> int:
    copy_bytes(out, p, _FOUR_DIGITS, 4 * value, 4)
    return p + 4


@kernel
def _integer(out: NDArray[np.uint8], p: int, value: int) -> int:
    width, rest = 1, value // 10
    while rest > 0:
        width += 1
        rest //= 10
    for i in range(p + width - 1, p - 1, -1):
        out[i] = 48 + value % 10
        value //= 10
    return p + width


@kernel
def _time(out: NDArray[np.uint8], p: int, time_ms: int) -> None:
    # 13 digits
    out[p] = 48 + time_ms // 1_000_000_000_000
    _four(out, p + 1, time_ms // 100_000_000 % 10_000)
    _four(out, p + 5, time_ms // 10_000 % 10_000)
    _four(out, p + 9, time_ms % 10_000)


@kernel
def _dollars(out: NDArray[np.uint8], p: int, price_bp: int) -> int:
    out[p] = 48 + price_bp // BP_PER_DOLLAR
    out[p + 1] = 46
    return _four(out, p + 2, price_bp % BP_PER_DOLLAR)


@kernel
def _count(out: NDArray[np.uint8], p: int, size_centi: int, legacy: bool) -> int:
    if size_centi < 0:
        out[p] = 45
        p, size_centi = p + 1, -size_centi
    p = _integer(out, p, size_centi // 100)
    if legacy:
        return p
    out[p] = 46
    out[p + 1] = 48 + size_centi // 10 % 10
    out[p + 2] = 48 + size_centi % 10
    return p + 3


@kernel
def _rfc3339(out: NDArray[np.uint8], p: int, time_ms: int) -> None:
    # over `1970-01-01T00:00:00.000Z`; the civil date of a day number
    # Source: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days
    days, in_day = time_ms // 86_400_000 + 719_468, time_ms % 86_400_000
    era, of_era = days // 146_097, days % 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153  # months since March
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    _four(out, p, year_of_era + era * 400 + (1 if month <= 2 else 0))
    _two(out, p + 5, month)
    _two(out, p + 8, day)
    _two(out, p + 11, in_day // 3_600_000)
    _two(out, p + 14, in_day // 60_000 % 60)
    _two(out, p + 17, in_day // 1_000 % 60)
    _two(out, p + 20, in_day // 10 % 100)
    out[p + 22] = 48 + in_day % 10


@kernel
def _two(out: NDArray[np.uint8], p: int, value: int) -> None:
    out[p] = 48 + value // 10
    out[p + 1] = 48 + value % 10


@kernel
def _mixed(state: np.uint64) -> np.uint64:
    # one step of splitmix64
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def _trade_id(out: NDArray[np.uint8], p: int, seed: np.uint64, connection: int, seq: int) -> int:
    # 8-4-4-4-12 hexadecimal digits; no two trades of a session share (market, connection, seq)
    state = (seed << np.uint64(32)) ^ (np.uint64(connection) << np.uint64(56)) ^ np.uint64(seq)
    for half in range(2):
        state += SPLITMIX
        word = _mixed(state)
        for i in range(16):
            if (half == 0 and (i == 8 or i == 12)) or (half == 1 and (i == 0 or i == 4)):
                out[p] = 45
                p += 1
            nibble = int((word >> np.uint64(60 - 4 * i)) & np.uint64(15))
            out[p] = 48 + nibble if nibble < 10 else 87 + nibble
            p += 1
    return p


@kernel
def _head(out: NDArray[np.uint8], p: int, texts: Texts, piece: int, recv_ms: int) -> int:
    end = _text(out, p, texts, piece)
    _time(out, p + len('{"recv_ms":'), recv_ms)
    return end


@kernel
def _delta(
    out: NDArray[np.uint8],
    p: int,
    texts: Texts,
    market: int,
    seq: int,
    change: NDArray[np.int64],
    time_ms: int,
) -> int:
    p = _text(out, _integer(out, p, seq), texts, _MARKETS + market)
    if texts.legacy:
        p = _text(out, _integer(out, p, change[2] // 100), texts, _LEGACY_DOLLARS)
    p = _text(out, _dollars(out, p, change[2]), texts, _AMOUNT)
    p = _text(out, _count(out, p, change[3], texts.legacy), texts, _TAIL + change[1])
    if texts.legacy:
        _rfc3339(out, p - len('1970-01-01T00:00:00.000Z"}}}\n'), time_ms)
    else:
        _time(out, p - len("0000000000000}}}\n"), time_ms)
    return p


@kernel
def _trade(
    out: NDArray[np.uint8],
    p: int,
    texts: Texts,
    market: int,
    change: NDArray[np.int64],
    time_ms: int,
) -> int:
    # after the id; the taker of a resting YES bid buys NO
    taker = 1 - change[1]
    yes_bp = change[2] if taker else BP_PER_DOLLAR - change[2]
    p = _text(out, p, texts, texts.trades + market)
    if texts.legacy:
        p = _text(out, _integer(out, p, yes_bp // 100), texts, _CENTS)
        p = _integer(out, p, (BP_PER_DOLLAR - yes_bp) // 100)
    p = _dollars(out, _text(out, p, texts, _DOLLARS), yes_bp)
    p = _dollars(out, _text(out, p, texts, _NO_PRICE), BP_PER_DOLLAR - yes_bp)
    p = _count(out, _text(out, p, texts, _TAKEN), -change[3], texts.legacy)
    p = _text(out, p, texts, _TAKER + taker)
    seconds_at = p - len("0000000000}}}\n")
    if not texts.legacy:
        _time(out, p - len("0000000000000}}}\n"), time_ms)
        seconds_at -= len(',"ts_ms":0000000000000')
    _integer(out, seconds_at, time_ms // 1_000)
    return p


@kernel
def write_rows(
    out: NDArray[np.uint8],
    texts: Texts,
    first: int,
    recv_ms: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    market: NDArray[np.int32],
    change: NDArray[np.int64],
    connection: int,
    seq: int,
) -> tuple[int, int, int]:
    """Write the lines of rows until the buffer is full or a row is none of FlowKind.

    Args:
        out: `[bytes]` buffer, written from its beginning.
        texts: constant parts of the connection's lines.
        first: row to begin with.
        recv_ms: `[n]` when each row is received, of 13 digits like every time here.
        time_ms: `[n]` when it happened.
        market: `[n]` whose book changed.
        change: `[n, 4]` FlowKind; ladder; price_bp in the ladder's own scale; change_centi.
        connection: number of the connection.
        seq: number of the first row in its subscription.

    Returns:
        Row not written yet, bytes written, next seq.
    """
    p, i = 0, first
    while i < len(time_ms) and change[i, 0] < KINDS and p + ROW_BYTES <= len(out):
        m = market[i]
        p = _head(out, p, texts, _HEAD, recv_ms[i])
        p = _delta(out, p, texts, m, seq, change[i], time_ms[i])
        if change[i, 0] == TRADE:
            p = _head(out, p, texts, _TRADE_HEAD, recv_ms[i])
            p = _trade_id(out, p, texts.seed[m], connection, seq)
            p = _trade(out, p, texts, m, change[i], time_ms[i])
        seq += 1
        i += 1
    return i, p, seq
