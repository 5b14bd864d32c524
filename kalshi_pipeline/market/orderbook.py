"""The order-book replay, compiled: frames in, trusted book states out.

Market by market: a market's book is two dense ladders of bids, YES and NO, over its own tick grid,
and stays in the cache while its frames pass. What speaks against a whole subscription is merged in
from a short list. Sizes are exact integers and are never clamped: a change that would make a size
negative ends the segment instead.

The rules are those of `docs/BOOKS.md` (books) and reliability rules D1-D16; the twin that
the tests hold against this kernel is `tests/oracle/replay.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, prefetch
from kalshi_pipeline.market.book_levels import (
    INVERSE,
    LEVELS,
    NEAR_PLACES,
    STEP,
    load_snapshot,
    on_tick,
    place_of,
    set_level,
)
from kalshi_pipeline.market.book_rows import (
    N_LEVELS,
    N_MARKET,
    N_SEGMENT,
    N_SUB,
    T_KIND,
    keep_ladder,
    write_depth,
    write_message,
    write_row,
    write_touch,
)
from kalshi_pipeline.market.integrity import Reason, SegmentEnd
from kalshi_pipeline.market.ladder import BEST, SIDE_WIDTH, change_level, clear_side
from kalshi_pipeline.market.replay_state import (
    ACCUSED,
    BROKEN,
    CROSSED_COUNT,
    CROSSED_SINCE,
    EXCHANGE,
    FIRST_ROW,
    MARKET,
    N_ROWS,
    N_SEGMENTS,
    NO,
    NO_BOOK,
    OPEN,
    OVER,
    ROW_BASE,
    SEGMENT,
    START,
    STATUS,
    SUB,
    TIME,
    UNTIL_KEPT,
    YES,
    accuse,
    begin_market,
    count_time,
    count_update,
    end_segment,
    outlasts_tolerance,
)
from kalshi_pipeline.market.replay_tables import (
    AccusationColumn,
    Counters,
    FrameKind,
    Frames,
    MarketColumn,
    Output,
    RowKind,
    Rules,
)

BOOKS_KERNEL_VERSION = "3"

u = np.uint64  # an index that is known not to be negative costs the compiler no test

# verdicts as plain integers, for the compiler
_APPLIED, _BEFORE = int(Reason.APPLIED), int(Reason.BEFORE_SNAPSHOT)
_DUPLICATE, _CONFLICT = int(Reason.DUPLICATE), int(Reason.CONFLICT)
_OFF_TICK, _NEGATIVE = int(Reason.PRICE_OFF_TICK), int(Reason.NEGATIVE_SIZE)
_CROSSED, _AFTER_GAP = int(Reason.CROSSED), int(Reason.AFTER_GAP)
_STALE, _AFTER_CLOSE = int(Reason.STALE_EPOCH), int(Reason.AFTER_CLOSE)
_END_RECORDING, _END_CLOSED = int(SegmentEnd.END_OF_RECORDING), int(SegmentEnd.MARKET_CLOSED)
_END_EPOCH, _END_NEGATIVE = int(SegmentEnd.NEW_EPOCH), int(SegmentEnd.NEGATIVE_SIZE)
_END_CROSSED, _END_REJECTED = int(SegmentEnd.CROSSED), int(SegmentEnd.REJECTED_ROW)
_END_CONFLICT, _END_DRIFT = int(SegmentEnd.CONFLICT), int(SegmentEnd.DRIFT)
_SNAPSHOT, _DELTA = int(FrameKind.SNAPSHOT), int(FrameKind.DELTA)
_TRADE, _REJECTED = int(FrameKind.TRADE), int(FrameKind.REJECTED)
_LEVEL, _DUPLICATED = int(FrameKind.LEVEL), int(FrameKind.DUPLICATE)
_CONFLICTING = int(FrameKind.CONFLICT)
_CLOSE = int(RowKind.CLOSE)
_AT_MARKET, _AT_FRAME = int(Counters.MARKET), int(Counters.FRAME)
_N_REFUSED, _OPENED = int(Counters.REFUSED), int(Counters.SEGMENTS_OPENED)
_N_APPLIED, _N_BEFORE = int(Counters.APPLIED), int(Counters.BEFORE_SNAPSHOT)
_N_DRIFT, _FIRST_MARKET = int(Counters.DRIFTED_LEVELS), int(Counters.FIRST_MARKET)
_AHEAD = 32  # frames between the one that is read and the one that is fetched from memory
# columns as plain integers
_GRID = int(MarketColumn.GRID)
_CLOSES, _LAST_BOOK = int(MarketColumn.CLOSE_MS), int(MarketColumn.LAST_BOOK)
_POSITION = int(AccusationColumn.POSITION)


@kernel
def replay(
    frames: Frames,
    begins: NDArray[np.int64],
    markets: NDArray[np.int64],
    valid: NDArray[np.bool_],
    rules: Rules,
    accusations: NDArray[np.int64],
    state: NDArray[np.int64],
    ladder: NDArray[np.int64],
    out: Output,
    counters: NDArray[np.int64],
) -> None:
    """Replay frames until they end or a buffer is full.

    Args:
        frames: `[F]` frames, market by market, each market in replay order.
        begins: `[M + 1]` where each market's frames begin; the first market is
            `counters[MARKET]`, and `counters[FRAME]` the next of its frames.
        markets: `[M, 5]` grids and closing times, see `MarketColumn`.
        valid: `[G, 2, longest ladder]` places of each ladder where an order may rest.
        rules: tolerances.
        accusations: `[A, 3]` what speaks against whole subscriptions, see `AccusationColumn`.
        state: `[STATE_WIDTH]`, kept between calls.
        ladder: `[2 * longest ladder]`, kept between calls.
        out: buffers; `counters` say how far they are filled.
        counters: see `Counters`; `counters[MARKET]` is M once all is done.
    """
    n_markets = len(begins) - 1
    while counters[_AT_MARKET] < n_markets:
        m = counters[_AT_MARKET]
        market = markets[u(m)]
        end, grid = begins[u(m + 1)], market[_GRID]
        if counters[_AT_FRAME] == begins[u(m)]:
            filled = counters[N_ROWS]
            if 2 * filled > out.wide.shape[1] and filled + end - begins[u(m)] > out.wide.shape[1]:
                return  # a buffer holds whole markets where it can
            begin_market(counters[_FIRST_MARKET] + m, state, ladder, 2 * market[LEVELS])
        while counters[_AT_FRAME] < end and _has_room(out, counters, market[LEVELS]):
            _plain_deltas(
                frames, end, market, valid[u(grid)], rules, accusations, state, ladder,
                out.wide, out.narrow, out.tiny, counters,
            )  # fmt: skip
            if counters[_AT_FRAME] < end and counters[N_ROWS] < out.wide.shape[1]:
                _any_frame(
                    frames, end, market, valid[u(grid)], rules, accusations, state, ladder,
                    out, counters,
                )  # fmt: skip
        if counters[_AT_FRAME] < end or counters[N_SEGMENTS] + 2 >= len(out.segments):
            return
        accuse(1 << 62, accusations, state, out, counters)
        end_segment(state, _END_RECORDING, out, counters)
        counters[_AT_MARKET] = m + 1


@kernel
def _has_room(out, counters, levels):  # type: ignore[no-untyped-def]
    # for whatever one frame may add
    return (
        counters[N_ROWS] < out.wide.shape[1]
        and counters[_N_REFUSED] < len(out.refused)
        and counters[N_SEGMENTS] + 2 < len(out.segments)
        and counters[N_LEVELS] + 2 * levels <= len(out.ladders)
    )


@kernel
def _plain_deltas(  # type: ignore[no-untyped-def]
    frames, end, market, valid, rules, accusations, state, ladder, wide, narrow, tiny, counters
):
    # the deltas of one open book, up to the first frame that asks for more than that
    step, levels, sub = market[STEP], market[LEVELS], state[SUB]
    inverse, near, k = market[INVERSE], market[NEAR_PLACES], rules.cost_size_centi
    depth = not rules.touch_only
    f, first_row = counters[_AT_FRAME], counters[N_ROWS]
    r, now, known = first_row, state[TIME], state[EXCHANGE]
    until_kept, segment, back = state[UNTIL_KEPT], state[SEGMENT], rules.clock_back_ms
    position = (1 << 62) - 1
    if state[ACCUSED] < len(accusations):
        position = accusations[u(state[ACCUSED]), _POSITION] - 1
    last_row = min(np.int64(wide.shape[1]), r + until_kept - 1)
    if state[STATUS] != OPEN or state[CROSSED_SINCE] >= 0:
        return
    while f < end and r < last_row:
        frame = frames[u(f)]
        prefetch(frames, f + _AHEAD)
        side, price = np.int64(frame["side"]), np.int64(frame["price_bp"])
        place, size = price * inverse >> 32, frame["size_centi"]
        if (
            (np.int64(frame["kind"]) != _DELTA)
            | (np.int64(frame["subscription"]) != sub)
            | (frame["position"] > position)
            | (place * step != price)
            | (price < 0)
            | (price > 10_000)
            | (side > 1)
            | (frame["time_ms"] < now - back)
        ):
            break
        start = side * levels
        before = ladder[u(start + place)]
        after = before + size
        s = YES + side * SIDE_WIDTH
        # levels - 1 places make a dollar: a bid beyond the other side's best crosses
        crosses = place + state[u(YES + NO - s + BEST)] > levels - 1
        if (after < 0) | (not valid[u(side), u(place)]) | (crosses and after > 0):
            break
        ladder[u(start + place)] = after
        change_level(state, s, ladder, start, place, before, after, near, k, depth)
        now = max(now, frame["time_ms"])
        known = max(known, frame["exchange_ms"])
        write_touch(r, step, levels, state, ladder, wide, narrow)
        if depth:
            write_message(r, frame, now, wide, narrow, tiny)
            write_depth(r, step, k, state, wide, narrow)
        r += 1
        f += 1
    done = r - first_row
    if depth:
        narrow[N_SUB, first_row:r] = sub
        narrow[N_SEGMENT, first_row:r] = segment
        narrow[N_MARKET, first_row:r] = state[MARKET]
        tiny[T_KIND, first_row:r] = _DELTA
    counters[_AT_FRAME], counters[N_ROWS] = f, r
    counters[_N_APPLIED] += done
    if done > 0:
        count_update(state, counters)
    state[TIME], state[EXCHANGE], state[UNTIL_KEPT] = now, known, until_kept - done


@kernel
def _any_frame(frames, end, market, valid, rules, accusations, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    # one frame of whatever kind, by every rule
    f = counters[_AT_FRAME]
    frame = frames[u(f)]
    kind, sub = np.int64(frame["kind"]), np.int64(frame["subscription"])
    counters[_AT_FRAME] = f + 1
    if kind == _LEVEL:
        return
    accuse(frame["position"], accusations, state, out, counters)
    state[EXCHANGE] = max(state[EXCHANGE], frame["exchange_ms"])
    if kind == _REJECTED:
        if sub >= state[SUB]:
            end_segment(state, _END_REJECTED, out, counters)
        return
    if kind == _TRADE:
        if state[STATUS] == OPEN:
            count_time(frame["time_ms"], rules, state, counters)
            _record(frame, _TRADE, market, rules, state, ladder, out, counters)
        return
    if kind == _SNAPSHOT and sub >= state[SUB]:
        reason = _take_snapshot(f, end, frames, market, valid, rules, state, ladder, out, counters)
    else:
        reason = _verdict(kind, sub, state, out, counters)
        if reason == _APPLIED:
            reason = _take_delta(frame, market, valid, rules, state, ladder, out, counters)
    if reason == _APPLIED:
        counters[_N_APPLIED] += 1
    elif reason == _BEFORE:
        counters[_N_BEFORE] += 1
    else:
        n = counters[_N_REFUSED]
        out.refused[u(n), 0] = f
        out.refused[u(n), 1] = reason
        counters[_N_REFUSED] = n + 1


@kernel
def _verdict(kind, sub, state, out, counters):  # type: ignore[no-untyped-def]
    # what becomes of a delta, or of a delta or snapshot that cannot be applied
    if kind == _DUPLICATED:
        return _DUPLICATE
    if sub < state[SUB]:
        return _STALE
    if sub > state[SUB]:
        # a new connection that has not shown this market's book yet
        end_segment(state, _END_EPOCH, out, counters)
        state[SUB] = sub
        state[STATUS] = NO_BOOK
    if kind == _CONFLICTING:
        end_segment(state, _END_CONFLICT, out, counters)
        return _CONFLICT
    status = state[STATUS]
    if status == NO_BOOK:
        return _BEFORE
    if status == BROKEN:
        return _AFTER_GAP
    if status == OVER:
        return _AFTER_CLOSE
    return _APPLIED


@kernel
def _take_delta(frame, market, valid, rules, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    if not on_tick(frame, market, valid):
        end_segment(state, _END_REJECTED, out, counters)
        return _OFF_TICK
    levels, side = market[LEVELS], np.int64(frame["side"])
    before = ladder[u(side * levels + place_of(frame, market))]
    if before + frame["size_centi"] < 0:
        end_segment(state, _END_NEGATIVE, out, counters)
        return _NEGATIVE
    set_level(frame, market, rules, state, ladder, before + frame["size_centi"])
    count_time(frame["time_ms"], rules, state, counters)
    if outlasts_tolerance(frame, levels, rules, state, counters):
        end_segment(state, _END_CROSSED, out, counters)
        return _CROSSED
    count_update(state, counters)
    _record(frame, _DELTA, market, rules, state, ladder, out, counters)
    if state[UNTIL_KEPT] == rules.ladder_every:
        keep_ladder(market, state, ladder, out, counters)
    return _APPLIED


@kernel
def _take_snapshot(f, end, frames, market, valid, rules, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    frame = frames[u(f)]
    sub, time_ms = np.int64(frame["subscription"]), frame["time_ms"]
    last = f + 1
    while last < end and np.int64(frames[u(last)]["kind"]) == _LEVEL:
        last += 1
    counters[_AT_FRAME] = last
    if last == f + 1 and _is_closing(frame, market, state):
        _take_close(frame, market, rules, state, ladder, out, counters)
        return _APPLIED
    for v in range(f + 1, last):
        if not on_tick(frames[u(v)], market, valid):
            end_segment(state, _END_REJECTED, out, counters)
            return _OFF_TICK
    differing = load_snapshot(f, last, frames, market, rules, state, ladder)
    same_stream = state[STATUS] == OPEN and state[SUB] == sub
    if not (same_stream and (differing == 0 or rules.polls)):
        if same_stream:
            counters[_N_DRIFT] += differing
            end_segment(state, _END_DRIFT, out, counters)
        end_segment(state, _END_EPOCH, out, counters)
        state[STATUS], state[SUB] = OPEN, sub
        state[TIME], state[START] = time_ms, time_ms
        state[FIRST_ROW] = counters[ROW_BASE] + counters[N_ROWS]
        state[SEGMENT] = counters[_OPENED]
        state[UNTIL_KEPT] = rules.ladder_every
        state[CROSSED_SINCE], state[CROSSED_COUNT] = -1, 0
        counters[_OPENED] += 1
    count_time(time_ms, rules, state, counters)
    if outlasts_tolerance(frame, market[LEVELS], rules, state, counters):
        end_segment(state, _END_CROSSED, out, counters)
        return _CROSSED
    _record(frame, _SNAPSHOT, market, rules, state, ladder, out, counters)
    keep_ladder(market, state, ladder, out, counters)
    return _APPLIED


@kernel
def _is_closing(frame, market, state):  # type: ignore[no-untyped-def]
    close = market[_CLOSES]
    at_close = close >= 0 and max(frame["time_ms"], state[EXCHANGE]) >= close
    return at_close or frame["position"] >= market[_LAST_BOOK]


@kernel
def _take_close(frame, market, rules, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    time_ms, segment = frame["time_ms"], -1
    if state[STATUS] == OPEN:
        time_ms, segment = max(time_ms, state[TIME]), state[SEGMENT]
        end_segment(state, _END_CLOSED, out, counters)
    state[STATUS], state[SUB] = OVER, frame["subscription"]
    clear_side(state, YES, ladder, 0)
    clear_side(state, NO, ladder, market[LEVELS])
    r = counters[N_ROWS]
    counters[N_ROWS] = r + 1
    write_row(r, frame, _CLOSE, segment, time_ms, market, rules, state, ladder, out)


@kernel
def _record(frame, kind, market, rules, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    # write the state after a frame of the open book
    state[TIME] = max(frame["time_ms"], state[TIME])
    state[UNTIL_KEPT] = state[UNTIL_KEPT] - 1 if state[UNTIL_KEPT] > 1 else rules.ladder_every
    r = counters[N_ROWS]
    counters[N_ROWS] = r + 1
    write_row(r, frame, kind, state[SEGMENT], state[TIME], market, rules, state, ladder, out)
