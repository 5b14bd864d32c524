"""The order-book replay, compiled: frames in, trusted book states out.

One kernel for every market of a session. A market's book is two dense ladders of bids, YES and NO,
over its own tick grid; all ladders lie in one flat array. Sizes are exact integers and are never
clamped: a change that would make a size negative ends the segment instead.

The rules are those of `docs/ARCHITECTURE.md` (books) and reliability rules D1-D16; the twin that
the tests hold against this kernel is `tests/oracle/replay.py`.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.market.integrity import Reason, SegmentEnd
from kalshi_pipeline.market.replay_tables import (
    BookRows,
    Counters,
    FrameFlag,
    FrameKind,
    Frames,
    Ladders,
    Markets,
    RowKind,
    Rules,
    Segments,
)

BOOKS_KERNEL_VERSION = "2"


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
_END_CLOCK = int(SegmentEnd.CLOCK_JUMP)
_SNAPSHOT, _DELTA = int(FrameKind.SNAPSHOT), int(FrameKind.DELTA)
_TRADE, _REJECTED = int(FrameKind.TRADE), int(FrameKind.REJECTED)
_OTHER = int(FrameKind.OTHER)
_CLOSE = int(RowKind.CLOSE)
_GAP_FLAG, _DUPLICATE_FLAG = int(FrameFlag.GAP_BEFORE), int(FrameFlag.DUPLICATE)
_CONFLICT_FLAG, _CLOCK_FLAG = int(FrameFlag.CONFLICT), int(FrameFlag.CLOCK_JUMP)
_LOST_FLAG = int(FrameFlag.LINE_LOST)
_EVERY = -1  # in place of a subscription
_N_SEGMENTS, _N_LADDER = int(Counters.SEGMENTS), int(Counters.LADDER_LEVELS)
_N_CROSSED, _MS_CROSSED = int(Counters.CROSSED_STATES), int(Counters.CROSSED_MS)
_N_DRIFT, _N_BACK = int(Counters.DRIFTED_LEVELS), int(Counters.CLOCK_BACK)


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
        kind, m = frames.kind[f], frames.market[f]
        if frames.flag[f] != 0:
            _accuse(frames.flag[f], frames.subscription[f], state, segments)
        if kind == _REJECTED and m < 0:
            _break_subscription(state, segments, frames.subscription[f], _END_REJECTED)
        if kind == _OTHER or m < 0:
            continue
        market = state[m]
        market[_EXCHANGE] = max(market[_EXCHANGE], frames.exchange_ms[f])
        if kind == _REJECTED:
            if frames.subscription[f] >= market[_SUB]:
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


@kernel
def _verdict(f, m, frames, markets, rules, ladder, market, rows, segments, counters):  # type: ignore[no-untyped-def]
    # what becomes of a delta or snapshot; applies it to the ladder if it is trusted
    if frames.flag[f] & _DUPLICATE_FLAG:
        return _DUPLICATE
    sub = frames.subscription[f]
    if sub < market[_SUB]:
        return _STALE
    conflict = frames.flag[f] & _CONFLICT_FLAG
    if frames.kind[f] == _SNAPSHOT and not conflict:
        return _take_snapshot(
            f, m, frames, markets, rules, ladder, market, rows, segments, counters
        )
    if sub > market[_SUB]:
        # a new connection that has not shown this market's book yet
        if market[_STATUS] == _OPEN:
            _break(market, segments, _END_EPOCH)
        market[_SUB] = sub
        market[_STATUS] = _NO_BOOK
    if conflict:
        _break(market, segments, _END_CONFLICT)
        return _CONFLICT
    status = market[_STATUS]
    if status == _NO_BOOK:
        return _BEFORE
    if status == _BROKEN:
        return _AFTER_GAP
    if status == _OVER:
        return _AFTER_CLOSE
    return _take_delta(f, m, frames, markets, ladder, market, rows, segments)


@kernel
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


@kernel
def _take_snapshot(f, m, frames, markets, rules, ladder, market, rows, segments, counters):  # type: ignore[no-untyped-def]
    first, end = frames.first_level[f], frames.first_level[f + 1]
    close = markets.close_ms[m]
    if first == end and close >= 0 and max(frames.time_ms[f], market[_EXCHANGE]) >= close:
        rows.row_kind[f] = _CLOSE
        rows.time_ms[f] = frames.time_ms[f]
        rows.ask_bp[f] = rows.ask_second_bp[f] = 10_000
        rows.buy_cost_micro[f] = rules.cost_size_centi * 10_000
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


@kernel
def _load(f, m, frames, markets, ladder, market):  # type: ignore[no-untyped-def]
    # put a snapshot in place of the ladders; returns how many levels differ from those replayed
    base, levels, step = markets.base[m], markets.levels[m], markets.step_bp[m]
    first, end = frames.first_level[f], frames.first_level[f + 1]
    # levels the snapshot does not mention, and those it gives another size
    differing = market[_COUNT] + market[_COUNT + 1]
    for v in range(first, end):
        cell = base + frames.level_side[v] * levels + frames.level_price_bp[v] // step
        if ladder[cell] > 0:
            differing -= 1
        if ladder[cell] != frames.level_size_centi[v]:
            differing += 1
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


@kernel
def _record(f, m, frames, markets, rules, ladder, market, rows, counters):  # type: ignore[no-untyped-def]
    # write the state after frame f; the verdict becomes CROSSED where a cross has lasted too long
    base, levels, step = markets.base[m], markets.levels[m], markets.step_bp[m]
    time_ms = max(frames.time_ms[f], market[_TIME])
    if frames.time_ms[f] < market[_TIME] - rules.clock_back_ms:
        counters[_N_BACK] += 1
    if market[_CROSSED_SINCE] >= 0:
        counters[_MS_CROSSED] += time_ms - market[_TIME]
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


@kernel
def _outlasts_tolerance(crossed, time_ms, rules, market, counters):  # type: ignore[no-untyped-def]
    if not crossed:
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


@kernel
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


@kernel
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


@kernel
def _on_tick(markets, m, side, price_bp):  # type: ignore[no-untyped-def]
    return markets.valid[markets.grid[m], price_bp if side == 0 else 10_000 - price_bp]


@kernel
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


@kernel
def _end(market, segments, why):  # type: ignore[no-untyped-def]
    segments.end[market[_SEGMENT]] = why


@kernel
def _break(market, segments, why):  # type: ignore[no-untyped-def]
    # the book is not trusted until the next snapshot
    if market[_STATUS] == _OPEN:
        _end(market, segments, why)
        market[_STATUS] = _BROKEN


@kernel
def _accuse(flag, subscription, state, segments):  # type: ignore[no-untyped-def]
    # what is known about the stream before the frame's own content is looked at
    if flag & _LOST_FLAG:
        _break_subscription(state, segments, _EVERY, _END_GAP)
    if flag & _GAP_FLAG:
        _break_subscription(state, segments, subscription, _END_GAP)
    if flag & _CLOCK_FLAG:
        _break_subscription(state, segments, subscription, _END_CLOCK)


@kernel
def _break_subscription(state, segments, subscription, why):  # type: ignore[no-untyped-def]
    for m in range(len(state)):
        if subscription == _EVERY or state[m, _SUB] == subscription:
            _break(state[m], segments, why)
