"""The step clock and the features of segments, compiled.

The formulas are those of `feature_table.py`; the twin that the tests hold against these kernels is
`tests/oracle/features.py`. What is remembered from message to message is a small state, carried
row by row; everything else of a step is computed for many steps at once (`block.py`). Each
number is made by the same operations however many rows come at a time, so that a live feed taking
messages one by one gets the rows of the tensor bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_kernel, lane_part
from kalshi_pipeline.elementary import decay64
from kalshi_pipeline.features.block import (
    AT_ONCE,
    CHANGE_10,
    CHANGE_60,
    CHANGE_600,
    EXACT_WIDTH,
    FLOW_10,
    FLOW_60,
    RATE_10,
    RATE_60,
    RATE_600,
    REAL_WIDTH,
    SINCE,
    SQUARES_60,
    SQUARES_600,
    STEPS,
    STRENGTH_10,
    STRENGTH_60,
    BookColumns,
    emit,
)
from kalshi_pipeline.market.replay_tables import RowKind

_TRADE = int(RowKind.TRADE)
ROWS = 64  # rows taken at a time: two blocks of them fill the steps
# the state: the row before, what is known of updates and mids, the decayed sums
_STARTED, _TIME, _BID, _ASK, _BID_SIZE, _ASK_SIZE = 0, 1, 2, 3, 4, 5
_NOW, _BEFORE, _MID, _SUMS = 6, 7, 8, 9
STATE_WIDTH = 21
# where the slots of rows begin: decays since the row before, what is added to the decayed sums
_ROW_SLOTS = [np.uint64(ROWS * slot) for slot in range(6)]
_DECAY_600, _DECAY_60, _DECAY_10, _UPDATE, _CHANGE, _FLOW = _ROW_SLOTS
_PER_600_S = 1 / 600_000
# added with every row, so that a sum to which nothing is added for days never comes near the
# denormal numbers, which cost a processor a hundred times as much; far below what a float32 shows
_LEAST = 1e-290


class SegmentRows(NamedTuple):
    """S segments of a book table, `[S]` each."""

    first_row: NDArray[np.int64]
    end_row: NDArray[np.int64]  # exclusive
    first_step: NDArray[np.int64]  # where in the tensor the segment's steps begin
    ticks: NDArray[np.int64]  # which tick table
    close_ms: NDArray[np.int64]  # known closing time; -1 = unknown


class Room(NamedTuple):
    """What is remembered of a segment, and where the kernels work."""

    state: NDArray[np.float64]  # zeros before the segment's first row
    prepared: NDArray[np.float64]  # of rows
    exact: NDArray[np.float64]  # of steps
    real: NDArray[np.float32]  # of steps
    rows: NDArray[np.int64]  # the row of each gathered step


def room() -> Room:
    """For one segment at a time."""
    return Room(
        np.zeros(STATE_WIDTH),
        np.zeros(6 * ROWS),
        np.zeros(EXACT_WIDTH),
        np.ones(REAL_WIDTH, dtype=np.float32),
        np.zeros(STEPS, dtype=np.int64),
    )


@lane_kernel
def mark_steps(
    book: BookColumns,
    first_row: NDArray[np.int64],
    end_row: NDArray[np.int64],
    min_step_ms: int,
    is_step: NDArray[np.bool_],
) -> None:
    """Mark the rows of each segment after which the agent may act.

    A step comes at the last row of a receive millisecond in which the book changed and is not
    crossed, at least `min_step_ms` after the step before; and at the segment's last row, where the
    episode ends.

    Args:
        book: book columns, `[R]` each.
        first_row: `[S]` first row of each segment.
        end_row: `[S]` end row of each, exclusive.
        min_step_ms: least distance of two steps.
        is_step: `[R]` output; rows in no segment are left as they are.
    """
    for segment in range(len(first_row)):
        first, last = np.uint64(first_row[segment]), np.uint64(end_row[segment] - 1)
        if end_row[segment] <= first_row[segment]:
            continue
        due_ms = np.int64(-1)
        changed = False
        for row in range(first, last):
            now = book.time_ms[row]
            changed |= book.kind[row] != _TRADE
            ends = book.time_ms[row + np.uint64(1)] != now
            is_step[row] = ends & changed & (now >= due_ms) & (book.bid_bp[row] <= book.ask_bp[row])
            if is_step[row]:
                due_ms = now + min_step_ms
            changed &= not ends
        is_step[last] = True


@lane_kernel
def segments_features(
    book: BookColumns,
    segments: SegmentRows,
    is_step: NDArray[np.bool_],
    tick_up_bp: NDArray[np.int32],
    cost_size_centi: int,
    continued: bool,
    room: Room,
    out: NDArray[np.float32],
) -> None:
    """Features of the steps of many segments.

    Args:
        book: book columns, `[R]` each. A segment begins with an update; a trade repeats the book
            before it.
        segments: which rows, and where their steps go.
        is_step: `[R]` rows after which the agent acts.
        tick_up_bp: `[G, 10001]` tick tables.
        cost_size_centi: k of the marginal costs.
        continued: whether the first segment goes on where the last one stopped that used `room`.
        room: to work in.
        out: `[T, 35]`.
    """
    for s in range(len(segments.first_row)):
        if s > 0 or not continued:
            room.state[:] = 0.0
        row, end, step = segments.first_row[s], segments.end_row[s], segments.first_step[s]
        gathered = 0
        while row < end:
            count = min(ROWS, end - row)
            gathered = _advance(book, row, count, is_step[row : row + count], room, gathered)
            row += count
            if gathered > STEPS - ROWS or (row == end and gathered > 0):
                emit(
                    book, room.rows, gathered, tick_up_bp[segments.ticks[s]], segments.close_ms[s],
                    cost_size_centi, room.exact, room.real, out[step:],
                )  # fmt: skip
                step += gathered
                gathered = 0


@lane_kernel
def take_row(book: BookColumns, row: int, any_step: NDArray[np.bool_], room: Room) -> None:
    """Take in one more row of the segment; its features can then be written.

    Args:
        book: book columns.
        row: which row.
        any_step: `[1]`, whatever it says.
        room: of the segment; zeros before its first row.
    """
    _advance(book, row, 1, any_step, room, 0)


@lane_kernel
def write_row(
    book: BookColumns,
    row: int,
    tick_up_bp: NDArray[np.int32],
    close_ms: int,
    cost_size_centi: int,
    room: Room,
    out: NDArray[np.float32],
) -> None:
    """Write the features as of the row taken in last.

    Args:
        book: book columns.
        row: that row.
        tick_up_bp: `[10001]` tick table of the market's grid.
        close_ms: known closing time; -1 = unknown.
        cost_size_centi: k of the marginal costs.
        room: of the segment.
        out: `[1, 35]`.
    """
    room.rows[0] = row
    emit(book, room.rows, 1, tick_up_bp, close_ms, cost_size_centi, room.exact, room.real, out)


@lane_part
def _advance(
    book: BookColumns,
    first: int,
    count: int,
    is_step: NDArray[np.bool_],
    room: Room,
    gathered: int,
) -> int:
    """Take up to `ROWS` rows.

    Args:
        book: book columns.
        first: first row.
        count: how many, at least 1.
        is_step: `[count]` which of them are steps.
        room: what is remembered; afterwards what the last row left stands where the next step's
            goes, whether it is one or not.
        gathered: steps gathered already, at most `STEPS - ROWS`.

    Returns:
        How many steps are gathered now.
    """
    state = room.state
    if state[_STARTED] == 0.0:
        state[_STARTED] = 1.0
        state[_TIME] = state[_NOW] = state[_BEFORE] = book.time_ms[first]
        state[_MID] = -1.0
        _keep_book(state, book, first)
    _decays(book.time_ms, first, count, state, room.prepared)
    _flows(book, first, count, state, room.prepared)
    gathered_now: int = _instants(book, first, count, is_step, room, gathered)
    _sums(count, is_step, room.prepared, state, room.exact, gathered)
    _keep_book(state, book, first + count - 1)
    return gathered_now


@lane_part
def _keep_book(state, book, row):  # type: ignore[no-untyped-def]
    state[_BID], state[_ASK] = book.bid_bp[row], book.ask_bp[row]
    state[_BID_SIZE], state[_ASK_SIZE] = book.bid_size_centi[row], book.ask_size_centi[row]


@lane_part
def _decays(time_ms, first, count, state, prepared):  # type: ignore[no-untyped-def]
    start = np.uint64(first)
    prepared[_DECAY_600] = time_ms[start] - np.int64(state[_TIME])
    for lane in range(np.uint64(1), np.uint64(count)):
        row = start + lane
        prepared[_DECAY_600 + lane] = time_ms[row] - time_ms[row - np.uint64(1)]
    state[_TIME] = time_ms[start + np.uint64(count - 1)]
    for lane in range(np.uint64(-(-count // AT_ONCE) * AT_ONCE)):
        d600 = decay64(prepared[_DECAY_600 + lane] * _PER_600_S)
        # exp(-s / 60) is its tenth power, exp(-s / 10) that one's sixth
        squared = d600 * d600
        fourth = squared * squared
        d60 = fourth * fourth * squared
        squared = d60 * d60
        prepared[_DECAY_600 + lane] = d600
        prepared[_DECAY_60 + lane] = d60
        prepared[_DECAY_10 + lane] = squared * squared * squared


@lane_part
def _flows(book, first, count, state, prepared):  # type: ignore[no-untyped-def]
    bids, asks = book.bid_bp, book.ask_bp
    bid_sizes, ask_sizes = book.bid_size_centi, book.ask_size_centi
    start = np.uint64(first)
    prepared[_FLOW] = _flow(
        np.int32(state[_BID]), np.int32(state[_ASK]),
        np.int64(state[_BID_SIZE]), np.int64(state[_ASK_SIZE]),
        bids[start], asks[start], bid_sizes[start], ask_sizes[start],
    )  # fmt: skip
    for lane in range(np.uint64(1), np.uint64(count)):
        row = start + lane
        before = row - np.uint64(1)
        prepared[_FLOW + lane] = _flow(
            bids[before], asks[before], bid_sizes[before], ask_sizes[before],
            bids[row], asks[row], bid_sizes[row], ask_sizes[row],
        )  # fmt: skip


@lane_part
def _flow(bid0, ask0, bid_size0, ask_size0, bid, ask, bid_size, ask_size):  # type: ignore[no-untyped-def]
    # contribution of one update at the touch (Cont, Kukanov, Stoikov 2014, section 2.1), contracts
    flow = bid_size if bid >= bid0 else 0
    flow -= bid_size0 if bid <= bid0 else 0
    flow -= ask_size if ask <= ask0 else 0
    flow += ask_size0 if ask >= ask0 else 0
    return np.float64(flow) * 0.01 + _LEAST


@lane_part
def _instants(book, first, count, is_step, room, gathered):  # type: ignore[no-untyped-def]
    # when the update before was, how the mid has changed, and which rows are steps
    state, prepared, exact = room.state, room.prepared, room.exact
    now, before, mid = np.int64(state[_NOW]), np.int64(state[_BEFORE]), np.int64(state[_MID])
    place = np.uint64(gathered)
    for lane in range(np.uint64(count)):
        row = np.uint64(first) + lane
        time_ms, is_update = book.time_ms[row], book.kind[row] != _TRADE
        earlier = now if time_ms > now else before
        before = earlier if is_update else before
        now = time_ms if is_update else now
        bid, ask = book.bid_bp[row], book.ask_bp[row]
        pair = np.int64(bid + ask if (bid > 0) & (ask < 10_000) else mid)
        prepared[_CHANGE + lane] = pair - (mid if mid >= 0 else pair)
        prepared[_UPDATE + lane] = is_update
        mid = pair
        exact[SINCE + place] = time_ms - earlier
        room.rows[place] = row
        place += np.uint64(is_step[lane])
    state[_NOW], state[_BEFORE], state[_MID] = now, before, mid
    return np.int64(place)


@lane_part
def _sums(count, is_step, prepared, state, exact, gathered):  # type: ignore[no-untyped-def]
    rate10, rate60, rate600 = state[_SUMS], state[_SUMS + 1], state[_SUMS + 2]
    change10, change60, change600 = state[_SUMS + 3], state[_SUMS + 4], state[_SUMS + 5]
    squares60, squares600 = state[_SUMS + 6], state[_SUMS + 7]
    flow10, flow60 = state[_SUMS + 8], state[_SUMS + 9]
    strength10, strength60 = state[_SUMS + 10], state[_SUMS + 11]
    place = np.uint64(gathered)
    for lane in range(np.uint64(count)):
        d10, d60 = prepared[_DECAY_10 + lane], prepared[_DECAY_60 + lane]
        d600 = prepared[_DECAY_600 + lane]
        update, flow = prepared[_UPDATE + lane], prepared[_FLOW + lane]
        square = prepared[_CHANGE + lane] * prepared[_CHANGE + lane] + _LEAST
        change, strength = prepared[_CHANGE + lane] + _LEAST, abs(flow)
        rate10, rate60 = rate10 * d10 + update, rate60 * d60 + update
        rate600 = rate600 * d600 + update
        change10, change60 = change10 * d10 + change, change60 * d60 + change
        change600 = change600 * d600 + change
        squares60, squares600 = squares60 * d60 + square, squares600 * d600 + square
        flow10, flow60 = flow10 * d10 + flow, flow60 * d60 + flow
        strength10, strength60 = strength10 * d10 + strength, strength60 * d60 + strength
        exact[RATE_10 + place] = rate10
        exact[RATE_60 + place] = rate60
        exact[RATE_600 + place] = rate600
        exact[CHANGE_10 + place] = change10
        exact[CHANGE_60 + place] = change60
        exact[CHANGE_600 + place] = change600
        exact[SQUARES_60 + place] = squares60
        exact[SQUARES_600 + place] = squares600
        exact[FLOW_10 + place] = flow10
        exact[FLOW_60 + place] = flow60
        exact[STRENGTH_10 + place] = strength10
        exact[STRENGTH_60 + place] = strength60
        place += np.uint64(is_step[lane])
    state[_SUMS], state[_SUMS + 1], state[_SUMS + 2] = rate10, rate60, rate600
    state[_SUMS + 3], state[_SUMS + 4], state[_SUMS + 5] = change10, change60, change600
    state[_SUMS + 6], state[_SUMS + 7] = squares60, squares600
    state[_SUMS + 8], state[_SUMS + 9] = flow10, flow60
    state[_SUMS + 10], state[_SUMS + 11] = strength10, strength60
