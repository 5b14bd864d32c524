"""What the scanner knows by name, reads and writes: plain arrays in named tuples.

`[R]` is one entry a row of the message table, `[N]` one a name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR

# groups of names: the fields of the three nested objects, and the types of frames
LINE, EVENT, MESSAGE, TYPE = range(4)
GROUPS = 3  # nested objects
LADDERS = ("yes_dollars_fp", "yes_dollars", "yes", "no_dollars_fp", "no_dollars", "no")
# a name's code is its place here
KNOWN = (
    *((LINE, name) for name in ("recv_ms", "conn", "event")),
    *((EVENT, name) for name in ("type", "sid", "seq", "msg")),
    *((MESSAGE, name) for name in (
        "market_ticker", "ts_ms", "is_block_trade", "side", "taker_outcome_side", "taker_side",
        "price_dollars", "price", "delta_fp", "delta", "yes_price_dollars", "yes_price",
        "count_fp", "count", "volume_fp", *LADDERS,
    )),
    *((TYPE, name) for name in ("orderbook_snapshot", "orderbook_delta", "trade", "ticker")),
)  # fmt: skip
(
    F_RECV_MS, F_CONN, F_EVENT, F_TYPE, F_SID, F_SEQ, F_MSG, F_MARKET, F_TS_MS, F_BLOCK,
    F_SIDE, F_OUTCOME_SIDE, F_TAKER_SIDE,
    F_PRICE_DOLLARS, F_PRICE, F_DELTA_FP, F_DELTA, F_YES_PRICE_DOLLARS, F_YES_PRICE,
    F_COUNT_FP, F_COUNT, F_VOLUME_FP, F_LADDER,
) = range(23)  # fmt: skip
FIELDS = F_LADDER + len(LADDERS)  # codes from here on are types, then fields to pass over
SEEN, UNKNOWN = FIELDS, FIELDS + 1  # kept behind the values: fields seen, kinds of unknown names
UNKNOWN_FIELD, UNKNOWN_TICKER = 1, 2
T_SNAPSHOT, T_DELTA, T_TRADE, T_TICKER = range(FIELDS, FIELDS + 4)

ODD = -1  # in place of a place, a code or a number of rows: the reference must look at the line
# stand for null in the columns that may be null
NULL_64, NULL_32, NULL_SIDE = np.int64(-(1 << 63)), np.int32(-(1 << 31)), np.uint8(255)
NULLS: dict[np.dtype[Any], np.generic] = {
    null.dtype: null for null in (NULL_64, NULL_32, NULL_SIDE)
}
MAX_LADDER = BP_PER_DOLLAR - 1  # a price is given once
MAX_ROWS = 1 + 2 * MAX_LADDER  # of one frame


class Names(NamedTuple):
    """A hash table of byte strings, each with a group; see `frame_columns.NameTable`."""

    slot: NDArray[np.int32]  # [power of two] code of a name; -1 = free
    group: NDArray[np.int32]  # [N]
    start: NDArray[np.int64]  # [N + 1] of the name's text
    text: NDArray[np.uint8]


class Scratch(NamedTuple):
    """What is known of the line being read, and of the lines before it."""

    values: NDArray[np.int64]  # [FIELDS + 2]
    ladder: NDArray[np.int64]  # [6, 2] first and end level
    level_bp: NDArray[np.int32]  # [6 * MAX_LADDER]
    level_centi: NDArray[np.int64]
    seen: NDArray[np.int64]  # [10,001] last ladder that had a level of this price
    follows: NDArray[np.int32]  # [GROUPS + names] the name that came next the last time


class Columns(NamedTuple):
    """Rows of the message table; without `detail`, which no scanned frame has."""

    frame: NDArray[np.int64]
    epoch: NDArray[np.int32]
    sid: NDArray[np.int32]
    seq: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    exchange_ms: NDArray[np.int64]
    market: NDArray[np.int32]
    kind: NDArray[np.uint8]
    side: NDArray[np.uint8]
    price_bp: NDArray[np.int32]
    size_centi: NDArray[np.int64]
    file: NDArray[np.int16]
    offset: NDArray[np.int64]


class OddLines(NamedTuple):
    """Lines that the reference has to look at."""

    start: NDArray[np.int64]  # place in the text
    end: NDArray[np.int64]
    row: NDArray[np.int64]  # scanned rows before it
    frame: NDArray[np.int64]


class Cursor(NamedTuple):
    """Where the scanner stands: one number each, kept between calls."""

    place: NDArray[np.int64]  # in the text: all before it is done
    row: NDArray[np.int64]  # rows written
    frame: NDArray[np.int64]  # ordinal of the next frame
    odd: NDArray[np.int64]  # odd lines noted
    ladders: NDArray[np.int64]  # ladders read so far, a mark for `Scratch.seen`
