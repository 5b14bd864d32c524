"""What the order-book replay reads and writes: frames in, rows, segments and ladders out.

Plain arrays in named tuples, so that the compiled kernel and the code around it share one set of
names. Units end the names; `[F]` is one entry a frame, `[M]` one a market, `[V]` one a level.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowKind(IntEnum):
    """What a message row of the book table does."""

    SNAPSHOT = 0  # replaces the book
    DELTA = 1  # changes one level of one bid ladder
    TRADE = 2  # a public trade; the book changes by deltas of its own
    CLOSE = 3  # the empty snapshot at or after the market's close: the end of the market


class FrameKind(IntEnum):
    """What a frame asks of the replay."""

    SNAPSHOT = 0
    DELTA = 1
    TRADE = 2
    REJECTED = 3  # quarantined while decoding: the book it was meant for is not trusted any more
    OTHER = 4  # says nothing about a book


class FrameFlag(IntFlag):
    """What is known about a frame before its content is looked at."""

    NONE = 0
    GAP_BEFORE = 1  # sequence numbers are missing before it
    DUPLICATE = 2  # its sequence number has been seen, with the same content
    CONFLICT = 4  # its sequence number comes with two contents
    CLOCK_JUMP = 8  # received more than a day after or before the subscription's last frame
    LINE_LOST = 16  # an unreadable line came before it, and no counter tells what that was


class Frames(NamedTuple):
    """F frames of one session in replay order, and the levels of its snapshots."""

    kind: NDArray[np.uint8]  # [F] FrameKind
    flag: NDArray[np.uint8]  # [F] FrameFlag
    market: NDArray[np.int32]  # [F] market code; -1 = none, or REJECTED: could not be read
    subscription: NDArray[np.int32]  # [F] code of (epoch, sid), in order of first appearance
    time_ms: NDArray[np.int64]  # [F] receive time
    exchange_ms: NDArray[np.int64]  # [F] -1 = not said
    side: NDArray[np.uint8]  # [F] DELTA, TRADE
    price_bp: NDArray[np.int32]  # [F] DELTA, TRADE
    size_centi: NDArray[np.int64]  # [F] DELTA (signed), TRADE
    first_level: NDArray[np.int64]  # [F + 1] SNAPSHOT: its levels
    level_side: NDArray[np.uint8]  # [V]
    level_price_bp: NDArray[np.int32]  # [V]
    level_size_centi: NDArray[np.int64]  # [V]


class Markets(NamedTuple):
    """M markets of one session."""

    step_bp: NDArray[np.int32]  # [M] spacing of the dense ladder
    base: NDArray[np.int64]  # [M] where the market's two ladders begin in the flat array
    levels: NDArray[np.int64]  # [M] length of one ladder
    grid: NDArray[np.int32]  # [M] row of `valid`
    valid: NDArray[np.bool_]  # [G, 10001] prices an order may rest at, YES scale
    close_ms: NDArray[np.int64]  # [M] declared close; -1 = unknown


class Rules(NamedTuple):
    """Settings of the replay; see `config.BookConfig`."""

    near_bp: int
    cost_size_centi: int
    crossed_tolerance_ms: int
    crossed_tolerance_messages: int
    ladder_every: int
    polls: bool  # snapshots are the updates: a different one is no drift
    clock_back_ms: int  # a receive clock going back further is counted


class BookRows(NamedTuple):
    """State after each frame `[F]`; meaningful where `reason` is APPLIED and `segment` >= 0."""

    reason: NDArray[np.uint8]
    row_kind: NDArray[np.uint8]
    segment: NDArray[np.int32]
    time_ms: NDArray[np.int64]  # receive time, never decreasing within a segment
    bid_bp: NDArray[np.int32]  # 0 = no bids
    ask_bp: NDArray[np.int32]  # 10,000 = no asks
    bid_size_centi: NDArray[np.int64]
    ask_size_centi: NDArray[np.int64]
    bid_near_centi: NDArray[np.int64]
    ask_near_centi: NDArray[np.int64]
    bid_total_centi: NDArray[np.int64]
    ask_total_centi: NDArray[np.int64]
    bid_levels: NDArray[np.int32]
    ask_levels: NDArray[np.int32]
    bid_second_bp: NDArray[np.int32]  # second best bid; 0 = none
    ask_second_bp: NDArray[np.int32]  # second best ask; 10,000 = none
    buy_cost_micro: NDArray[np.int64]  # of k contracts; what finds no offer costs 1 dollar each
    sell_value_micro: NDArray[np.int64]  # of k contracts; what finds no bid is worth 0


class Segments(NamedTuple):
    """Trusted stretches, capacity one a snapshot."""

    market: NDArray[np.int32]
    first_frame: NDArray[np.int64]
    end: NDArray[np.uint8]  # SegmentEnd


class Ladders(NamedTuple):
    """Full ladders kept at snapshots and every N messages, as runs of levels."""

    frame: NDArray[np.int64]  # [L] the frame after which the ladder holds
    side: NDArray[np.uint8]
    price_bp: NDArray[np.int32]
    size_centi: NDArray[np.int64]


class Counters(IntEnum):
    """Slots of the replay's counters."""

    SEGMENTS = 0
    LADDER_LEVELS = 1
    CROSSED_STATES = 2
    DRIFTED_LEVELS = 3
    CLOCK_BACK = 4
    CROSSED_MS = 5
