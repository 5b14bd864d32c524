"""The order-book replay, compiled: frames in, trusted book states out.

One kernel for every market of a session. A market's book is two dense ladders of bids, YES and NO,
over its own tick grid; all ladders lie in one flat array. Sizes are exact integers and are never
clamped: a change that would make a size negative ends the segment instead.

The rules are those of `docs/ARCHITECTURE.md` (books) and reliability rules D1-D16; the twin that
the tests hold against this kernel is `tests/oracle/replay.py`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.market.integrity import Reason, SegmentEnd

BOOKS_KERNEL_VERSION = "1"


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
    REJECTED = 3  # quarantined while decoding: its market's book is not trusted any more


class FrameFlag(IntEnum):
    """What the sequence numbers say about a frame."""

    NONE = 0
    GAP_BEFORE = 1
    DUPLICATE = 2
    CONFLICT = 3


class Frames(NamedTuple):
    """F frames of one session in replay order, and the levels of its snapshots."""

    kind: NDArray[np.uint8]  # [F] FrameKind
    flag: NDArray[np.uint8]  # [F] FrameFlag
    market: NDArray[np.int32]  # [F] market code; -1 = none
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


# columns of the per-market state
_STATUS, _SUB, _SEGMENT, _TIME, _CROSSED_SINCE, _CROSSED_COUNT, _ROWS, _EXCHANGE = range(8)
_BEST, _TOTAL, _COUNT = 8, 10, 12  # one each for the YES and the NO ladder
_WIDTH = 14
_NO_BOOK, _OPEN, _BROKEN, _OVER = range(4)
# verdicts as plain integers, for the compiler
_APPLIED, _BEFORE = int(Reason.APPLIED), int(Reason.BEFORE_SNAPSHOT)
_DUPLICATE, _CONFLICT = int(Reason.DUPLICATE), int(Reason.CONFLICT)
_OFF_TICK, _NEGATIVE = int(Reason.PRICE_OFF_TICK), int(Reason.NEGATIVE_SIZE)
_CROSSED, _AFTER_GAP = int(Reason.CROSSED), int(Reason.AFTER_GAP)
_STALE, _AFTER_CLOSE = int(Reason.STALE_EPOCH), int(Reason.AFTER_CLOSE)
NOT_A_BOOK_ROW = 255  # trades outside a segment, and frames quarantined before the replay
_END_CLOSED, _END_GAP = int(SegmentEnd.MARKET_CLOSED), int(SegmentEnd.GAP)
_END_EPOCH, _END_NEGATIVE = int(SegmentEnd.NEW_EPOCH), int(SegmentEnd.NEGATIVE_SIZE)
_END_CROSSED, _END_REJECTED = int(SegmentEnd.CROSSED), int(SegmentEnd.REJECTED_ROW)
_END_CONFLICT, _END_DRIFT = int(SegmentEnd.CONFLICT), int(SegmentEnd.DRIFT)
_SNAPSHOT, _DELTA = int(FrameKind.SNAPSHOT), int(FrameKind.DELTA)
_TRADE, _REJECTED = int(FrameKind.TRADE), int(FrameKind.REJECTED)
_CLOSE = int(RowKind.CLOSE)
_GAP_FLAG, _DUPLICATE_FLAG, _CONFLICT_FLAG = 1, 2, 3
_N_SEGMENTS, _N_LADDER, _N_CROSSED = 0, 1, 2
_N_DRIFT, _N_BACK, _MS_CROSSED = 3, 4, 5
_CLOCK_BACK_MS = 1_000


@numba.njit(cache=True)
def replay(
    frames: Frames,
    markets: Markets,
    rules: Rules,
    ladder: NDArray[np.int64],
    rows: BookRows,
    segments: Segments,
    ladders: Ladders,
    counters: NDArray[np.int64],
) -> None:
    """Replay a session.

    Args:
        frames: what was received, in replay order.
        markets: grids and closing times.
        rules: tolerances.
        ladder: `[sum of 2 * levels]` zeros; left as the books at the end.
        rows: output, one entry a frame.
        segments: output, `counters[SEGMENTS]` entries.
        ladders: output, `counters[LADDER_LEVELS]` entries.
        counters: output, see `Counters`.
    """
    state = np.zeros((len(markets.base), _WIDTH), dtype=np.int64)
    state[:, _SUB] = -1
    state[:, _EXCHANGE] = -1
    state[:, _CROSSED_SINCE] = -1
    for f in range(len(frames.kind)):
        rows.reason[f] = NOT_A_BOOK_ROW
        rows.segment[f] = -1
        if frames.flag[f] == _GAP_FLAG:
            _break_subscription(state, segments, frames.subscription[f])
        m = frames.market[f]
        if m < 0:
            continue
        market = state[m]
        market[_EXCHANGE] = max(market[_EXCHANGE], frames.exchange_ms[f])
        kind = frames.kind[f]
        if kind == _REJECTED:
            if market[_SUB] == frames.subscription[f]:
                _break(market, segments, _END_REJECTED)
            continue
        if kind == _TRADE:
            if market[_STATUS] == _OPEN:
                _record(f, m, frames, markets, rules, ladder, market, rows, counters)
            continue
        rows.reason[f] = _verdict(
            f, m, frames, markets, rules, ladder, market, rows, segments, counters
        )
        if rows.reason[f] == _APPLIED and rows.row_kind[f] != _CLOSE:
            _record(f, m, frames, markets, rules, ladder, market, rows, counters)
            if rows.reason[f] == _APPLIED:
                _keep_ladder(f, m, frames, markets, rules, ladder, market, ladders, counters)
            else:
                _break(market, segments, _END_CROSSED)


@numba.njit(cache=True)
def _verdict(f, m, frames, markets, rules, ladder, market, rows, segments, counters):  # type: ignore[no-untyped-def]
    # what becomes of a delta or snapshot; applies it to the ladder if it is trusted
    flag = frames.flag[f]
    if flag == _DUPLICATE_FLAG:
        return _DUPLICATE
    if flag == _CONFLICT_FLAG:
        _break(market, segments, _END_CONFLICT)
        return _CONFLICT
    sub = frames.subscription[f]
    if sub < market[_SUB]:
        return _STALE
    if frames.kind[f] == _SNAPSHOT:
        return _take_snapshot(
            f, m, frames, markets, rules, ladder, market, rows, segments, counters
        )
    if sub > market[_SUB]:
        # a new connection that has not shown this market's book yet
        if market[_STATUS] == _OPEN:
            _break(market, segments, _END_EPOCH)
        market[_SUB] = sub
        market[_STATUS] = _NO_BOOK
    status = market[_STATUS]
    if status == _NO_BOOK:
        return _BEFORE
    if status == _BROKEN:
        return _AFTER_GAP
    if status == _OVER:
        return _AFTER_CLOSE
    return _take_delta(f, m, frames, markets, ladder, market, rows, segments)


@numba.njit(cache=True)
def _take_delta(f, m, frames, markets, ladder, market, rows, segments):  # type: ignore[no-untyped-def]
    side, price = frames.side[f], frames.price_bp[f]
    if not _on_tick(markets, m, side, price):
        _break(market, segments, _END_REJECTED)
        return _OFF_TICK
    index = price // markets.step_bp[m]
    cell = markets.base[m] + side * markets.levels[m] + index
    before = ladder[cell]
    after = before + frames.size_centi[f]
    if after < 0:
        _break(market, segments, _END_NEGATIVE)
        return _NEGATIVE
    ladder[cell] = after
    market[_TOTAL + side] += after - before
    if before == 0 and after > 0:
        market[_COUNT + side] += 1
        market[_BEST + side] = max(market[_BEST + side], index)
    elif before > 0 and after == 0:
        market[_COUNT + side] -= 1
        if market[_BEST + side] == index:
            start = markets.base[m] + side * markets.levels[m]
            while index > 0 and ladder[start + index] == 0:
                index -= 1
            market[_BEST + side] = index
    rows.row_kind[f] = _DELTA
    return _APPLIED


@numba.njit(cache=True)
def _take_snapshot(f, m, frames, markets, rules, ladder, market, rows, segments, counters):  # type: ignore[no-untyped-def]
    first, end = frames.first_level[f], frames.first_level[f + 1]
    close = markets.close_ms[m]
    if first == end and close >= 0 and max(frames.time_ms[f], market[_EXCHANGE]) >= close:
        rows.row_kind[f] = _CLOSE
        if market[_STATUS] == _OPEN:
            rows.segment[f] = market[_SEGMENT]
            rows.time_ms[f] = max(frames.time_ms[f], market[_TIME])
            _end(market, segments, _END_CLOSED)
        market[_STATUS] = _OVER
        market[_SUB] = frames.subscription[f]
        return _APPLIED
    for v in range(first, end):
        if not _on_tick(markets, m, frames.level_side[v], frames.level_price_bp[v]):
            _break(market, segments, _END_REJECTED)
            return _OFF_TICK
    differing = _load(f, m, frames, markets, ladder, market)
    same_stream = market[_STATUS] == _OPEN and market[_SUB] == frames.subscription[f]
    if not (same_stream and (differing == 0 or rules.polls)):
        if market[_STATUS] == _OPEN:
            if same_stream:
                counters[_N_DRIFT] += differing
                _end(market, segments, _END_DRIFT)
            else:
                _end(market, segments, _END_EPOCH)
        _open(f, m, frames, market, segments, counters)
    rows.row_kind[f] = _SNAPSHOT
    return _APPLIED


@numba.njit(cache=True)
def _load(f, m, frames, markets, ladder, market):  # type: ignore[no-untyped-def]
    # put a snapshot in place of the ladders; returns how many levels differ from those replayed
    base, levels, step = markets.base[m], markets.levels[m], markets.step_bp[m]
    first, end = frames.first_level[f], frames.first_level[f + 1]
    equal = 0
    for v in range(first, end):
        cell = base + frames.level_side[v] * levels + frames.level_price_bp[v] // step
        if ladder[cell] == frames.level_size_centi[v]:
            equal += 1
    known = market[_COUNT] + market[_COUNT + 1]
    differing = (end - first - equal) + (known - equal)
    for side in range(2):
        start = base + side * levels
        for i in range(market[_BEST + side] + 1):
            ladder[start + i] = 0
        market[_BEST + side] = 0
        market[_TOTAL + side] = 0
        market[_COUNT + side] = 0
    for v in range(first, end):
        side = frames.level_side[v]
        index = frames.level_price_bp[v] // step
        cell = base + side * levels + index
        market[_TOTAL + side] += frames.level_size_centi[v] - ladder[cell]
        if ladder[cell] == 0:
            market[_COUNT + side] += 1
        ladder[cell] = frames.level_size_centi[v]
        market[_BEST + side] = max(market[_BEST + side], index)
    return differing


@numba.njit(cache=True)
def _record(f, m, frames, markets, rules, ladder, market, rows, counters):  # type: ignore[no-untyped-def]
    # write the state after frame f; turns the verdict into CROSSED where a cross has lasted too long
    base, levels, step = markets.base[m], markets.levels[m], markets.step_bp[m]
    time_ms = max(frames.time_ms[f], market[_TIME])
    if frames.time_ms[f] < market[_TIME] - _CLOCK_BACK_MS:
        counters[_N_BACK] += 1
    best_yes, best_no = market[_BEST], market[_BEST + 1]
    bid, ask = best_yes * step, 10_000 - best_no * step
    if frames.kind[f] == _TRADE:
        rows.row_kind[f] = _TRADE
    elif _outlasts_tolerance(bid > ask, time_ms, rules, market, counters):
        rows.reason[f] = _CROSSED
        return
    rows.reason[f] = _APPLIED
    market[_TIME] = time_ms
    market[_ROWS] += 1
    rows.segment[f] = market[_SEGMENT]
    rows.time_ms[f] = time_ms
    rows.bid_bp[f] = bid
    rows.ask_bp[f] = ask
    rows.bid_size_centi[f] = ladder[base + best_yes]
    rows.ask_size_centi[f] = ladder[base + levels + best_no]
    rows.bid_total_centi[f] = market[_TOTAL]
    rows.ask_total_centi[f] = market[_TOTAL + 1]
    rows.bid_levels[f] = market[_COUNT]
    rows.ask_levels[f] = market[_COUNT + 1]
    near, second, value = _walk(ladder, base, best_yes, step, rules)
    rows.bid_near_centi[f] = near
    rows.bid_second_bp[f] = second
    rows.sell_value_micro[f] = value
    near, second, value = _walk(ladder, base + levels, best_no, step, rules)
    rows.ask_near_centi[f] = near
    rows.ask_second_bp[f] = 10_000 - second
    # buying YES at a is selling the mirror: cost = k dollars - value of k on the NO ladder
    rows.buy_cost_micro[f] = rules.cost_size_centi * 10_000 - value


@numba.njit(cache=True)
def _outlasts_tolerance(crossed, time_ms, rules, market, counters):  # type: ignore[no-untyped-def]
    if not crossed:
        if market[_CROSSED_SINCE] >= 0:
            counters[_MS_CROSSED] += time_ms - market[_CROSSED_SINCE]
            market[_CROSSED_SINCE] = -1
            market[_CROSSED_COUNT] = 0
        return False
    counters[_N_CROSSED] += 1
    market[_CROSSED_COUNT] += 1
    if market[_CROSSED_SINCE] < 0:
        market[_CROSSED_SINCE] = time_ms
    lasted_ms = time_ms - market[_CROSSED_SINCE]
    return (
        lasted_ms > rules.crossed_tolerance_ms
        and market[_CROSSED_COUNT] > rules.crossed_tolerance_messages
    )


@numba.njit(cache=True)
def _walk(ladder, start, best, step, rules):  # type: ignore[no-untyped-def]
    # from the best level down: size near the touch, second level, value of selling k into it
    near, second, value = 0, 0, 0
    missing = rules.cost_size_centi
    near_end = best - rules.near_bp // step
    index = best
    while index > 0 and (index >= near_end or missing > 0 or second == 0):
        size = ladder[start + index]
        if size > 0:
            if index >= near_end:
                near += size
            if index < best and second == 0:
                second = index * step
            taken = min(size, missing)
            value += taken * index * step
            missing -= taken
        index -= 1
    return near, second, value


@numba.njit(cache=True)
def _keep_ladder(f, m, frames, markets, rules, ladder, market, ladders, counters):  # type: ignore[no-untyped-def]
    if frames.kind[f] != _SNAPSHOT and market[_ROWS] % rules.ladder_every != 0:
        return
    n = counters[_N_LADDER]
    for side in range(2):
        start = markets.base[m] + side * markets.levels[m]
        for index in range(market[_BEST + side] + 1):
            if ladder[start + index] > 0:
                ladders.frame[n] = f
                ladders.side[n] = side
                ladders.price_bp[n] = index * markets.step_bp[m]
                ladders.size_centi[n] = ladder[start + index]
                n += 1
    counters[_N_LADDER] = n


@numba.njit(cache=True)
def _on_tick(markets, m, side, price_bp):  # type: ignore[no-untyped-def]
    return markets.valid[markets.grid[m], price_bp if side == 0 else 10_000 - price_bp]


@numba.njit(cache=True)
def _open(f, m, frames, market, segments, counters):  # type: ignore[no-untyped-def]
    n = counters[_N_SEGMENTS]
    segments.market[n] = m
    segments.first_frame[n] = f
    segments.end[n] = 0
    counters[_N_SEGMENTS] = n + 1
    market[_STATUS] = _OPEN
    market[_SUB] = frames.subscription[f]
    market[_SEGMENT] = n
    market[_TIME] = frames.time_ms[f]
    market[_CROSSED_SINCE] = -1
    market[_CROSSED_COUNT] = 0
    market[_ROWS] = 0


@numba.njit(cache=True)
def _end(market, segments, why):  # type: ignore[no-untyped-def]
    segments.end[market[_SEGMENT]] = why


@numba.njit(cache=True)
def _break(market, segments, why):  # type: ignore[no-untyped-def]
    # the book is not trusted until the next snapshot
    if market[_STATUS] == _OPEN:
        _end(market, segments, why)
        market[_STATUS] = _BROKEN


@numba.njit(cache=True)
def _break_subscription(state, segments, subscription):  # type: ignore[no-untyped-def]
    for m in range(len(state)):
        if state[m, _SUB] == subscription:
            _break(state[m], segments, _END_GAP)
