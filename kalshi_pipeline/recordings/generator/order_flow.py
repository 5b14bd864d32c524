"""Order flow of one generated market: when its book changes, and how.

A zero-intelligence book around a fair value: limit orders, cancels and small uninformed trades, all
quoted outside the fair value. When the fair value has moved through a quote, that quote is traded
or cancelled before anything else happens, within milliseconds, so that whoever rests there pays for
the spread earned elsewhere: when a later quote trades through a resting order, the fair value is on
the wrong side of that order. Spread capture is not free money here, and neither is the touch.

Prices are indices into the market's valid prices, in the YES scale, so that one kernel serves
every tick grid. Every event is exactly one change of one level: one delta frame. Parameters are in
`styles.py`.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel, kernel
from kalshi_pipeline.recordings.generator.styles import Clock, FlowStyle

UNIFORMS = 5  # random numbers an event uses: action, side, place, size, rounding

ADD_SHARE = 0.52  # of events on a book at its target depth that are not trades
WHOLE_TRADE_SHARE = 0.8  # of informed trades that clear the level
CANCEL_SIZE = 0.6  # median cancel, in median orders: small orders come and go faster
OUTER_SIZE = 0.35  # median order at the touch or anywhere, in median orders: depth is behind it
LARGEST_ORDER = 50.0  # in median orders


class FlowKind(IntEnum):
    """What happened to the level."""

    ADD = 0
    CANCEL = 1
    TRADE = 2


# Compiled code knows plain integers.
ADD, CANCEL, TRADE = int(FlowKind.ADD), int(FlowKind.CANCEL), int(FlowKind.TRADE)


class Pattern(IntEnum):
    """How activity spreads over the market's time."""

    EVEN = 0
    FRONT = 1
    MIDDLE = 2
    BACK = 3


@allocating_kernel
def fair_value_micro(
    driver: NDArray[np.float64], remaining: NDArray[np.float64], low: float, high: float
) -> NDArray[np.int64]:
    """Fair value int64 `[n]` in 1/1,000,000 dollar of a claim on the driver ending in [low, high).

    Args:
        driver: `[n]` W at each time.
        remaining: `[n]` 1 - u at each time, above zero.
        low: lower end, may be -inf.
        high: upper end, may be inf.
    """
    fair = np.empty(len(driver), dtype=np.int64)
    for i in range(len(driver)):
        if i > 0 and driver[i] == driver[i - 1] and remaining[i] == remaining[i - 1]:
            fair[i] = fair[i - 1]
            continue
        scale = math.sqrt(2.0 * remaining[i])
        above_low = 0.5 * math.erfc((low - driver[i]) / scale)
        above_high = 0.5 * math.erfc((high - driver[i]) / scale)
        fair[i] = round((above_low - above_high) * 1_000_000)
    return fair


@kernel
def _best(sizes: NDArray[np.int64], start: int, step: int) -> int:
    # First price that holds size, walking from `start`; one beyond the end where none does.
    place = start
    while 0 <= place < len(sizes) and sizes[place] == 0:
        place += step
    return place


@kernel
def _order_size_centi(style: FlowStyle, scale: float, u: float, rounding: float) -> int:
    odds = u / (1.0 - u)
    size_centi = style.size_centi * scale * min(odds**style.size_spread, LARGEST_ORDER)
    contracts = max(1, int(size_centi / 100.0))
    if rounding < style.round_share:
        digit = 1
        while contracts >= 10 * digit:
            digit *= 10
        contracts = contracts // digit * digit
    hundredths = 0
    if rounding > 1.0 - style.fractional_share:
        hundredths = int((rounding - 1.0 + style.fractional_share) / style.fractional_share * 99)
    return 100 * contracts + hundredths


@kernel
def _offset_micro(style: FlowStyle, where: float) -> float:
    # Distance of a new order from the fair value: exponential beyond the half spread at the touch,
    # beyond that with a scale of its own for the depth.
    if where < style.near_share:
        return style.half_spread_micro * (0.7 - 0.4 * math.log(1.0 - where / style.near_share))
    behind = (where - style.near_share) / (1.0 - style.near_share - style.far_share)
    return style.half_spread_micro - style.depth_micro * math.log(1.0 - behind)


@kernel
def _quote_place(
    side: int,
    fair: int,
    where: float,
    other_best: int,
    prices_micro: NDArray[np.int64],
    style: FlowStyle,
) -> int:
    # Where an order of this side may rest outside the fair value without crossing; -1 where it
    # cannot. An order too far out rests at the last price.
    last = len(prices_micro) - 1
    if (
        (fair < prices_micro[0] or other_best == 0)
        if side == 0
        else (fair > prices_micro[last] or other_best == last)
    ):
        return -1
    far = where - (1.0 - style.far_share)
    offset = 0.0 if far >= 0.0 else _offset_micro(style, where)
    if side == 0:
        place = int(np.searchsorted(prices_micro, fair - offset, side="right")) - 1
        if far >= 0.0:
            place = int(far / style.far_share * (place + 1))
        return min(max(place, 0), other_best - 1)
    place = int(np.searchsorted(prices_micro, fair + offset, side="left"))
    if far >= 0.0:
        place = last - int(far / style.far_share * (last + 1 - place))
    return max(min(place, last), other_best + 1)


@kernel
def _cancel_place(
    sizes: NDArray[np.int64], best: int, step: int, count: int, style: FlowStyle, place: float
) -> int:
    # The level whose order is cancelled, counted from the touch over the levels that hold size.
    if place < style.near_cancel_share:
        rank = int(-style.cancel_scale * math.log(1.0 - place / style.near_cancel_share))
    else:
        rank = int((place - style.near_cancel_share) / (1.0 - style.near_cancel_share) * count)
    at = best
    for _ in range(min(rank, count - 1)):
        at = _best(sizes, at + step, step)
    return at


@kernel
def _stale_side(best: NDArray[np.int64], fair: int, prices_micro: NDArray[np.int64]) -> int:
    # The ladder whose touch the fair value has moved through; -1 where there is none.
    if best[0] >= 0 and prices_micro[best[0]] > fair:
        return 0
    if best[1] < len(prices_micro) and prices_micro[best[1]] < fair:
        return 1
    return -1


@kernel
def _is_wide(best: NDArray[np.int64], prices_micro: NDArray[np.int64], style: FlowStyle) -> bool:
    # more than a tick, and more than the market's makers usually leave
    bid, ask = best
    if bid < 0 or ask >= len(prices_micro):
        return True
    gap_micro = prices_micro[ask] - prices_micro[bid]
    return bool(ask - bid > 1 and gap_micro > 4.0 * style.half_spread_micro)


@kernel
def _uninformed(
    ladders: NDArray[np.int64],
    state: NDArray[np.int64],
    prices_micro: NDArray[np.int64],
    fair: int,
    random: NDArray[np.float64],
    style: FlowStyle,
) -> tuple[int, int, int, int]:
    # Kind, side, place and change of an event on a book that the fair value leaves in peace.
    best, held, total, pending = state
    action, where, how_much, rounding = random[0], random[2], random[3], random[4]
    s, size = int(random[1] < 0.5), pending[1]
    if size > 0:  # the second half of a replacement
        s, pending[1] = pending[0], 0
    else:
        calm = 1.0 - style.trade_share
        if held[s] > 0 and action > calm:
            size = _order_size_centi(style, style.trade_size, how_much, rounding)
            return TRADE, s, best[s], -min(size, ladders[s, best[s]])
        excess = min(0.6 * held[s] / style.levels + 0.4 * total[s] / style.total_centi - 1.0, 1.0)
        adds = calm * (ADD_SHARE - (1.0 - ADD_SHARE) * excess)
        if held[s] > 0 and action > adds:
            size = _order_size_centi(style, CANCEL_SIZE, how_much, rounding)
            at = _cancel_place(ladders[s], best[s], 2 * s - 1, held[s], style, where)
            # of two levels the larger: size is quoted, and pulled, by the makers
            other = _cancel_place(ladders[s], best[s], 2 * s - 1, held[s], style, how_much)
            at = other if ladders[s, other] > ladders[s, at] else at
            whole = action > calm - style.whole_cancel_share * (calm - adds)
            change = ladders[s, at] if whole else min(size, ladders[s, at])
            if random[1] * 2.0 % 1.0 < style.replace_share:
                pending[0], pending[1] = s, change
            return CANCEL, s, at, -change
        if random[1] * 2.0 % 1.0 < style.improve_share and _is_wide(best, prices_micro, style):
            where *= style.near_share
        is_behind = style.near_share <= where <= 1.0 - style.far_share
        size = _order_size_centi(style, 1.0 if is_behind else OUTER_SIZE, how_much, rounding)
    at = _quote_place(s, fair, where, best[1 - s], prices_micro, style)
    if at < 0:  # near 0 and 1 dollar one side has no price outside the fair value; the other has
        s = 1 - s
        at = _quote_place(s, fair, where, best[1 - s], prices_micro, style)
    return ADD, s, at, size


@kernel
def advance(
    ladders: NDArray[np.int64],
    state: NDArray[np.int64],
    prices_micro: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    fair_micro: NDArray[np.int64],
    random: NDArray[np.float64],
    style: FlowStyle,
    out: NDArray[np.int64],
) -> None:
    """Let n events happen to a book.

    Args:
        ladders: `[2, K]` sizes of bids and asks at each valid price, YES scale; changed in place.
        state: `[4, 2]` touch, levels and size of bids and asks; side and size of an order that was
            cancelled to be quoted again. Zeros at first; changed in place.
        prices_micro: `[K]` the valid prices, ascending, 1/1,000,000 dollar.
        time_ms: `[n]` when each event is due, ascending; brought forward in place where a quote is
            still stale after the event before, or an order is quoted again.
        fair_micro: `[n]` the fair value when each event is due.
        random: `[n, 5]` uniform numbers in [0, 1).
        style: the market's parameters.
        out: `[n, 4]` FlowKind; ladder (0 bids, 1 asks); index of the price; signed change_centi.
    """
    best, held, total, pending = state
    best[0], best[1] = _best(ladders[0], len(prices_micro) - 1, -1), _best(ladders[1], 0, 1)
    fair = 0
    for i in range(len(time_ms)):
        # What remains of a stale quote goes at once and by the fair value that made it stale.
        stale = _stale_side(best, fair, prices_micro) if i > 0 else -1
        if stale >= 0:
            time_ms[i] = min(time_ms[i], time_ms[i - 1] + int(3 * random[i, 2]))
        elif i > 0 and pending[1] > 0:
            time_ms[i] = min(time_ms[i], time_ms[i - 1] + int(random[i, 4] < 0.2))
        else:
            fair = fair_micro[i]
            stale = _stale_side(best, fair, prices_micro)
        if stale >= 0:
            s, at = stale, best[stale]
            kind = TRADE if random[i, 0] < style.fair_trade_share else CANCEL
            whole = kind == CANCEL or random[i, 3] < WHOLE_TRADE_SHARE
            half = ladders[s, at] // 200 * 100  # whole contracts, or all of it
            change = -(ladders[s, at] if whole or half == 0 else half)
        else:
            kind, s, at, change = _uninformed(ladders, state, prices_micro, fair, random[i], style)
        held[s] -= ladders[s, at] > 0
        ladders[s, at] += change
        total[s] += change
        held[s] += ladders[s, at] > 0
        best[s] = _best(ladders[s], max(best[0], at) if s == 0 else min(best[1], at), 2 * s - 1)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = kind, s, at, change


def event_times(
    rng: np.random.Generator,
    count: int,
    clock: Clock,
    pattern: Pattern,
    window: tuple[float, float, float, float],
) -> NDArray[np.int64]:
    """Times int64 `[count]` of book changes, ascending, in [from, to).

    Args:
        rng: source of randomness.
        count: number of changes.
        clock: bursts and gaps.
        pattern: where in the market's time they fall.
        window: from, to: the stretch of the market's time that is asked for; then its beginning
            and its end, ms.
    """
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    from_ms, to_ms, begin_ms, end_ms = window
    life_ms = end_ms - begin_ms
    low, high = (share_before(pattern, (at - begin_ms) / life_ms) for at in (from_ms, to_ms))
    if clock.burst == 0:
        gaps = np.exp(rng.normal(0.0, clock.gap_sigma, count + 1))
        share = np.cumsum(gaps)[:-1] / gaps.sum()
        times = begin_ms + life_ms * _quantile(low + (high - low) * share, pattern)
    else:
        first = rng.random(count) < 1.0 / clock.burst
        first[0] = True
        share = low + (high - low) * rng.random(int(first.sum()))
        begins = begin_ms + life_ms * _quantile(share, pattern)
        median_ms = min(clock.gap_median_ms, 0.1 * (to_ms - from_ms) / count)
        times = rng.normal(math.log(max(median_ms, 1e-3)), clock.gap_sigma, count)
        np.exp(times, out=times)
        times[first] = 0.0
        np.cumsum(times, out=times)
        starts = np.flatnonzero(first)
        times += np.repeat(begins - times[starts], np.diff(np.append(starts, count)))
        late = times >= to_ms
        times[late] = 2 * to_ms - 1 - times[late]
        times.sort()
    np.clip(times, from_ms, to_ms - 1, out=times)
    return times.astype(np.int64)


def share_before(pattern: Pattern, time: float) -> float:
    """Share of a market's activity in the first `time` (0 to 1) of its time."""
    x = min(max(time, 0.0), 1.0)
    if pattern is Pattern.FRONT:
        return 1.0 - (1.0 - x) ** 2
    if pattern is Pattern.BACK:
        return x**2
    if pattern is Pattern.MIDDLE:
        return 2 * x**2 if x < 0.5 else 1.0 - 2 * (1.0 - x) ** 2
    return x


def _quantile(share: NDArray[np.float64], pattern: Pattern) -> NDArray[np.float64]:
    # Inverse distribution functions of the densities 1, 2(1 - x), triangle, 2x on [0, 1].
    if pattern is Pattern.FRONT:
        return 1.0 - np.sqrt(1.0 - share)
    if pattern is Pattern.BACK:
        return np.sqrt(share)
    if pattern is Pattern.MIDDLE:
        return np.where(share < 0.5, np.sqrt(share / 2), 1.0 - np.sqrt((1.0 - share) / 2))
    return share
