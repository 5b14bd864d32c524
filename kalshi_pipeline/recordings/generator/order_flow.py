"""Order flow of one generated market: when its book changes, and how.

A zero-intelligence book around a fair value: limit orders, cancels and small uninformed trades, all
quoted outside the fair value. When the fair value has moved through a quote, that quote is traded
or cancelled before anything else happens, within milliseconds, so that whoever rests there pays for
the spread earned elsewhere: when a later quote trades through a resting order, the fair value is on
the wrong side of that order. Spread capture is not free money here, and neither is the touch.

Prices are indices into the market's valid prices, in the YES scale, so that one kernel serves
every tick grid. Every event is exactly one change of one level: one delta frame.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNIFORMS = 5  # random numbers an event uses: action, side, place, size, rounding

ADD_SHARE = 0.54  # of events on a book at its target depth that are not trades
FAIR_TRADE_SHARE = 0.65  # of stale quotes that are traded; makers cancel the others in time
WHOLE_LEVEL_SHARE = 0.8  # of informed trades that clear the level
WHOLE_CANCEL_SHARE = 0.6
NEAR_CANCEL_SHARE = 0.5  # cancels close to the touch; the others anywhere in the ladder
ROUND_SIZE_SHARE = 0.5
FRACTIONAL_SHARE = 0.15
NEAR_QUOTE_SHARE = 0.5  # of orders that compete at the touch; the others make the depth behind it
DEPTH_MICRO = 25_000.0  # smallest mean distance of the orders behind the touch
SMALL_TRADE = 0.2  # an uninformed trade's mean size, in mean order sizes

MEAN_BURST = 10.0  # book changes in a burst
BURST_GAP_MEDIAN_MS = 130.0
BURST_GAP_SIGMA = 2.0  # log-normal: heavy tail


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


@njit(cache=True)
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
        scale = math.sqrt(2.0 * remaining[i])
        above_low = 0.5 * math.erfc((low - driver[i]) / scale)
        above_high = 0.5 * math.erfc((high - driver[i]) / scale)
        fair[i] = round((above_low - above_high) * 1_000_000)
    return fair


@njit(cache=True)
def _best(sizes: NDArray[np.int64], start: int, step: int) -> int:
    # First price that holds size, walking from `start`; one beyond the end where none does.
    place = start
    while 0 <= place < len(sizes) and sizes[place] == 0:
        place += step
    return place


@njit(cache=True)
def _order_size_centi(mean_centi: float, place: float, rounding: float, fractional: bool) -> int:
    contracts = max(1, int(-math.log(1.0 - place) * mean_centi / 100))
    if rounding < ROUND_SIZE_SHARE:
        digit = 1
        while contracts >= 10 * digit:
            digit *= 10
        contracts = contracts // digit * digit
    hundredths = 0
    if fractional and rounding > 1.0 - FRACTIONAL_SHARE:
        hundredths = int((rounding - 1.0 + FRACTIONAL_SHARE) / FRACTIONAL_SHARE * 99)
    return 100 * contracts + hundredths


@njit(cache=True)
def _offset_micro(half_spread: float, where: float) -> float:
    # Distance of a new order from the fair value: exponential beyond the half spread at the touch,
    # beyond that with a scale of its own for the depth.
    if where < NEAR_QUOTE_SHARE:
        return half_spread * (0.7 - 0.4 * math.log(1.0 - where / NEAR_QUOTE_SHARE))
    behind = (where - NEAR_QUOTE_SHARE) / (1.0 - NEAR_QUOTE_SHARE)
    return half_spread - max(half_spread, DEPTH_MICRO) * math.log(1.0 - behind)


@njit(cache=True)
def _quote_place(
    side: int,
    fair: int,
    offset: float,
    other_best: int,
    prices_micro: NDArray[np.int64],
) -> int:
    # Where an order of this side may rest at least `offset` away from the fair value, without
    # crossing; -1 where it cannot. An order too far out rests at the last price.
    last = len(prices_micro) - 1
    if side == 0:
        if fair < prices_micro[0] or other_best == 0:
            return -1
        place = int(np.searchsorted(prices_micro, fair - offset, side="right")) - 1
        return min(max(place, 0), other_best - 1)
    if fair > prices_micro[last] or other_best == last:
        return -1
    place = int(np.searchsorted(prices_micro, fair + offset, side="left"))
    return max(min(place, last), other_best + 1)


@njit(cache=True)
def _cancel_place(
    sizes: NDArray[np.int64], best: int, step: int, count: int, near: bool, place: float
) -> int:
    # The level whose order is cancelled, counted from the touch over the levels that hold size.
    rank = int(-math.log(1.0 - place)) if near else int(place * count)
    at = best
    for _ in range(min(rank, count - 1)):
        at = _best(sizes, at + step, step)
    return at


@njit(cache=True)
def _decrease_centi(held: int, whole: bool) -> int:
    # Part of a level in whole contracts, or all of it.
    half = held // 200 * 100
    return held if whole or half == 0 else half


@njit(cache=True)
def _stale_side(best: NDArray[np.int64], fair: int, prices_micro: NDArray[np.int64]) -> int:
    # The ladder whose touch the fair value has moved through; -1 where there is none.
    if best[0] >= 0 and prices_micro[best[0]] > fair:
        return 0
    if best[1] < len(prices_micro) and prices_micro[best[1]] < fair:
        return 1
    return -1


@njit(cache=True)
def _uninformed(
    ladders: NDArray[np.int64],
    best: NDArray[np.int64],
    held: NDArray[np.int64],
    prices_micro: NDArray[np.int64],
    fair: int,
    random: NDArray[np.float64],
    style: tuple[float, int, int, float, bool],
) -> tuple[int, int, int, int]:
    # Kind, side, place and change of an event on a book that the fair value leaves in peace.
    half_spread, levels, size_centi, trade_share, fractional = style
    action, where, how_much, rounding = random[0], random[2], random[3], random[4]
    s = int(random[1] < 0.5)
    if held[s] > 0 and action > 1.0 - trade_share:
        size = _order_size_centi(size_centi * SMALL_TRADE, how_much, rounding, fractional)
        return TRADE, s, best[s], -min(size, ladders[s, best[s]])
    excess = 0.5 * (held[s] / levels + ladders[s].sum() / (levels * size_centi)) - 1.0
    if held[s] > 0 and action > (1.0 - trade_share) * (ADD_SHARE - (1.0 - ADD_SHARE) * excess):
        near = how_much < NEAR_CANCEL_SHARE
        at = _cancel_place(ladders[s], best[s], 2 * s - 1, held[s], near, where)
        return CANCEL, s, at, -_decrease_centi(ladders[s, at], rounding < WHOLE_CANCEL_SHARE)
    offset = _offset_micro(half_spread, where)
    at = _quote_place(s, fair, offset, best[1 - s], prices_micro)
    if at < 0:  # near 0 and 1 dollar one side has no price outside the fair value; the other has
        s = 1 - s
        at = _quote_place(s, fair, offset, best[1 - s], prices_micro)
    return ADD, s, at, _order_size_centi(size_centi, how_much, rounding, fractional)


@njit(cache=True)
def advance(
    ladders: NDArray[np.int64],
    prices_micro: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    fair_micro: NDArray[np.int64],
    random: NDArray[np.float64],
    style: tuple[float, int, int, float, bool],
    out: NDArray[np.int64],
) -> None:
    """Let n events happen to a book.

    Args:
        ladders: `[2, K]` sizes of bids and asks at each valid price, YES scale; changed in place.
        prices_micro: `[K]` the valid prices, ascending, 1/1,000,000 dollar.
        time_ms: `[n]` when each event is due, ascending; brought forward in place where a quote is
            still stale after the event before.
        fair_micro: `[n]` the fair value when each event is due.
        random: `[n, 5]` uniform numbers in [0, 1).
        style: half spread (1/1,000,000 dollar), levels, size_centi, trade share, fractional.
        out: `[n, 4]` FlowKind; ladder (0 bids, 1 asks); index of the price; signed change_centi.
    """
    top = len(prices_micro)
    best = np.array([_best(ladders[0], top - 1, -1), _best(ladders[1], 0, 1)])
    held = np.array([np.count_nonzero(ladders[0]), np.count_nonzero(ladders[1])])
    fair = 0
    for i in range(len(time_ms)):
        # What remains of a stale quote goes at once and by the fair value that made it stale.
        stale = _stale_side(best, fair, prices_micro) if i > 0 else -1
        if stale >= 0:
            time_ms[i] = min(time_ms[i], time_ms[i - 1] + int(3 * random[i, 2]))
        else:
            fair = fair_micro[i]
            stale = _stale_side(best, fair, prices_micro)
        if stale >= 0:
            s, at = stale, best[stale]
            kind = TRADE if random[i, 0] < FAIR_TRADE_SHARE else CANCEL
            whole = kind == CANCEL or random[i, 3] < WHOLE_LEVEL_SHARE
            change = -_decrease_centi(ladders[s, at], whole)
        else:
            kind, s, at, change = _uninformed(
                ladders, best, held, prices_micro, fair, random[i], style
            )
        held[s] -= ladders[s, at] > 0
        ladders[s, at] += change
        held[s] += ladders[s, at] > 0
        best[s] = _best(ladders[s], max(best[0], at) if s == 0 else min(best[1], at), 2 * s - 1)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = kind, s, at, change


def event_times(
    rng: np.random.Generator, count: int, span_ms: int, pattern: Pattern
) -> NDArray[np.int64]:
    """Times int64 `[count]` of book changes in bursts, ascending, in [0, span_ms).

    Args:
        rng: source of randomness.
        count: number of changes.
        span_ms: length of the market's time.
        pattern: where in that time the bursts begin.
    """
    first = rng.random(count) < 1.0 / MEAN_BURST
    first[:1] = True
    burst = np.cumsum(first) - 1
    begins = _pattern_quantile(rng.random(int(first.sum())), pattern) * span_ms
    gaps = np.exp(rng.normal(math.log(BURST_GAP_MEDIAN_MS), BURST_GAP_SIGMA, count))
    gaps[first] = 0.0
    since_first = np.cumsum(gaps)
    since_begin = since_first - since_first[first][burst]
    times = (begins[burst] + since_begin).astype(np.int64)
    last = max(span_ms - 1, 0)
    return np.sort(np.clip(np.where(times > last, 2 * last - times, times), 0, last))


def _pattern_quantile(share: NDArray[np.float64], pattern: Pattern) -> NDArray[np.float64]:
    # Inverse distribution functions of the densities 1, 2(1 - x), triangle, 2x on [0, 1].
    if pattern is Pattern.FRONT:
        return 1.0 - np.sqrt(1.0 - share)
    if pattern is Pattern.BACK:
        return np.sqrt(share)
    if pattern is Pattern.MIDDLE:
        return np.where(share < 0.5, np.sqrt(share / 2), 1.0 - np.sqrt((1.0 - share) / 2))
    return share
