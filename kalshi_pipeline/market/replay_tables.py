"""What the order-book replay reads and writes: frames in, rows, segments and ladders out.

Few arrays, so that the compiler hands them on cheaply: the columns of an output lie below each
other in one matrix an element type, and have their names here. Units end the names; `[F]` is one
entry a frame record, `[M]` one a market, `[R]` one a row.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowKind(IntEnum):
    """What a message row of the book table does."""

    SNAPSHOT = 0  # replaces the book
    DELTA = 1  # changes one level of one bid ladder
    TRADE = 2  # a public trade; the book changes by deltas of its own
    CLOSE = 3  # the empty snapshot at or after the market's close: the end of the market


class FrameKind(IntEnum):
    """What a frame record asks of the replay."""

    SNAPSHOT = 0  # its LEVEL records follow it
    DELTA = 1
    TRADE = 2
    REJECTED = 3  # quarantined while decoding: the book it was meant for is not trusted any more
    OTHER = 4  # says nothing about a book
    LEVEL = 5
    DUPLICATE = 6  # a delta or snapshot whose sequence number has been seen, with the same content
    CONFLICT = 7  # a delta or snapshot whose sequence number comes with two contents


# One frame of one market, or one level of a snapshot: a cache line, so that sorting by market and
# reading in order touch one line each.
FRAME = np.dtype(
    [
        ("position", np.int64),  # place in the replay order of the session
        ("seq", np.int64),  # -1 = none
        ("time_ms", np.int64),  # receive time
        ("exchange_ms", np.int64),  # -1 = not said
        ("size_centi", np.int64),  # DELTA: signed
        ("offset", np.int64),  # of its line in the recording
        ("price_bp", np.int32),
        ("subscription", np.int32),  # code of (epoch, sid), in order of first appearance
        ("market", np.int32),
        ("file", np.int16),
        ("kind", np.uint8),  # FrameKind
        ("side", np.uint8),
    ]
)
Frames = NDArray[Any]  # [F] of FRAME, market by market, each in replay order


class MarketColumn(IntEnum):
    """Columns of what is known about the markets, `[M, 7]` integers."""

    STEP_BP = 0  # spacing of the dense ladder
    LEVELS = 1  # length of one ladder
    GRID = 2  # row of `valid`
    CLOSE_MS = 3  # declared close; -1 = unknown
    LAST_BOOK = 4  # position from which on an empty snapshot is the close
    NEAR = 5  # places that are near the touch
    INVERSE = 6  # price_bp * inverse >> 32 = price_bp // step_bp, for prices up to a dollar


class Rules(NamedTuple):
    """Settings of the replay; see `config.BookConfig`."""

    cost_size_centi: int
    crossed_tolerance_ms: int
    crossed_tolerance_messages: int
    ladder_every: int
    polls: bool  # snapshots are the updates: a different one is no drift
    clock_back_ms: int  # a receive clock going back further is counted
    touch_only: bool = False  # leave the other columns of plain deltas out: for comparisons only


class AccusationColumn(IntEnum):
    """Columns of what speaks against every market of a subscription, `[A, 3]`, by position."""

    POSITION = 0  # before the frame at this place is looked at
    SUBSCRIPTION = 1  # -1 = every one
    WHY = 2  # SegmentEnd


class Wide(IntEnum):
    """Columns of 64 bits of the book rows."""

    POSITION = 0
    SEQ = 1  # -1 = none
    RECV_MS = 2
    SIZE_CENTI = 3
    TIME_MS = 4  # receive time, never decreasing within a segment
    BID_SIZE_CENTI = 5
    ASK_SIZE_CENTI = 6
    BID_NEAR_CENTI = 7
    ASK_NEAR_CENTI = 8
    BID_TOTAL_CENTI = 9
    ASK_TOTAL_CENTI = 10
    BUY_COST_MICRO = 11  # of k contracts; what finds no offer costs 1 dollar each
    SELL_VALUE_MICRO = 12  # of k contracts; what finds no bid is worth 0


class Narrow(IntEnum):
    """Columns of 32 bits of the book rows."""

    SUBSCRIPTION = 0
    SEGMENT = 1  # -1 = in none
    PRICE_BP = 2
    BID_BP = 3  # 0 = no bids
    ASK_BP = 4  # 10,000 = no asks
    BID_LEVELS = 5
    ASK_LEVELS = 6
    BID_SECOND_BP = 7  # second best bid; 0 = none
    ASK_SECOND_BP = 8  # second best ask; 10,000 = none
    MARKET = 9


class Tiny(IntEnum):
    """Columns of 8 bits of the book rows."""

    KIND = 0  # RowKind
    SIDE = 1


class SegmentColumn(IntEnum):
    """Columns of the trusted stretches that have ended; rows are those of the whole session."""

    MARKET = 0
    FIRST_ROW = 1
    END_ROW = 2
    START_MS = 3
    END_MS = 4
    ENDED_BY = 5  # SegmentEnd


class LadderColumn(IntEnum):
    """Columns of the full ladders kept at snapshots and every N messages, as runs of levels."""

    ROW = 0  # the row of the session after which the ladder holds
    SIDE = 1
    PRICE_BP = 2
    SIZE_CENTI = 3


class RefusedColumn(IntEnum):
    """Columns of the frames that were not applied."""

    FRAME = 0  # index into the frames
    REASON = 1


class Output(NamedTuple):
    """Buffers the replay fills; it returns when one is full. R rows, S segments, V levels."""

    wide: NDArray[np.int64]  # [13, R]
    narrow: NDArray[np.int32]  # [10, R]
    tiny: NDArray[np.uint8]  # [2, R]
    segments: NDArray[np.int64]  # [S, 6]
    ladders: NDArray[np.int64]  # [V, 4]
    refused: NDArray[np.int64]  # [R, 2]

    def rows(self, count: int) -> dict[str, NDArray[Any]]:
        """The first rows as named columns, not copied."""
        parts = ((self.wide, Wide), (self.narrow, Narrow), (self.tiny, Tiny))
        return {
            column.name.lower(): values[column, :count]
            for values, columns in parts
            for column in columns
        }


# columns of one type begin this many entries apart from a round number: columns at equal places of
# their pages would drive each other out of the cache
_STAGGER = 24


def output_buffers(rows: int, longest_ladder: int) -> Output:
    """Empty buffers for so many rows, and room for some whole ladders beside."""
    columns = [
        np.zeros((len(kind), rows + _STAGGER), dtype)[:, :rows]
        for kind, dtype in ((Wide, np.int64), (Narrow, np.int32), (Tiny, np.uint8))
    ]
    return Output(
        columns[0],
        columns[1],
        columns[2],
        np.zeros((max(rows // 16, 64), len(SegmentColumn)), np.int64),
        np.zeros((2 * rows + 8 * longest_ladder, len(LadderColumn)), np.int64),
        np.zeros((rows, len(RefusedColumn)), np.int64),
    )


class Counters(IntEnum):
    """Slots of the replay's counters: where it stands, what lies in its buffers, what it met."""

    MARKET = 0  # next market, and next frame
    FRAME = 1
    ROWS = 2  # in the buffers; whoever empties them sets these to 0
    SEGMENTS = 3
    LADDER_LEVELS = 4
    REFUSED = 5
    ROW_BASE = 6  # rows in earlier buffers
    SEGMENTS_OPENED = 7
    APPLIED = 8  # deltas and snapshots
    BEFORE_SNAPSHOT = 9
    CROSSED_STATES = 10
    CROSSED_MS = 11
    DRIFTED_LEVELS = 12
    CLOCK_BACK = 13
    UPDATED_MARKETS = 14  # with at least one delta applied
    FIRST_MARKET = 15  # code of the first market of `begins`
