"""The 35 features and the step clock, written from `feature_table.py`, slowly.

Nothing is carried from message to message: every number is computed from the whole history of the
segment, a decayed sum as the sum it stands for. Prices in dollars, sizes in contracts, times in
seconds unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from tests.oracle.book import NO, YES, DictBook

NEAR_BP = 500
COST_SIZE_CENTI = 1_000
FORGOTTEN = 1e-200

PriceRanges = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Moment:
    """The book after one message of a segment."""

    time_ms: int
    is_update: bool  # a message that changes the book; a trade does not
    bid_bp: int
    ask_bp: int
    sizes: tuple[float, float]  # at the touch
    near: tuple[float, float]
    total: tuple[float, float]
    levels: tuple[int, int]
    second_bp: tuple[int | None, int | None]
    buy_bp: float  # average price of k contracts
    sell_bp: float

    @property
    def bid(self) -> float:
        return self.bid_bp / 10_000

    @property
    def ask(self) -> float:
        return self.ask_bp / 10_000

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2

    @property
    def is_two_sided(self) -> bool:
        return self.bid_bp > 0 and self.ask_bp < 10_000

    @property
    def is_crossed(self) -> bool:
        return self.bid_bp > self.ask_bp


def moment_of(time_ms: int, is_update: bool, book: DictBook) -> Moment:
    """What the features need of a book."""
    sides = (YES, NO)
    return Moment(
        time_ms,
        is_update,
        book.best_bid_bp,
        book.best_ask_bp,
        (book.bid_size_centi / 100, book.ask_size_centi / 100),
        tuple(book.depth_within_centi(side, NEAR_BP) / 100 for side in sides),
        tuple(book.total_centi(side) / 100 for side in sides),
        tuple(book.level_count(side) for side in sides),
        tuple(book.second_level_bp(side) for side in sides),
        float(book.average_buy_bp(COST_SIZE_CENTI)),
        float(book.average_sell_bp(COST_SIZE_CENTI)),
    )


def steps(segment: Sequence[Moment], min_step_ms: int) -> list[int]:
    """Indices of the moments at which the agent may act."""
    found: list[int] = []
    last_of = {moment.time_ms: index for index, moment in enumerate(segment)}
    changed = {moment.time_ms for moment in segment if moment.is_update}
    for time_ms, index in last_of.items():
        early = bool(found) and time_ms - segment[found[-1]].time_ms < min_step_ms
        if time_ms in changed and not segment[index].is_crossed and not early:
            found.append(index)
    if len(segment) - 1 not in found:
        found.append(len(segment) - 1)
    return found


def features(history: Sequence[Moment], grid: PriceRanges, close_ms: int | None) -> list[float]:
    """The 35 features as of the last of these moments."""
    return [*_market(history[-1], grid), *_temporal(history, close_ms)]


def _log(value: float, most: float) -> float:
    return min(1.0, math.log(1 + value) / math.log(1 + most))


def _clipped(value: float) -> float:
    return max(-1.0, min(1.0, value))


def _share(bids: float, asks: float) -> float:
    return (bids - asks) / (bids + asks) if bids + asks else 0.0


def _is_price(price_bp: int, grid: PriceRanges) -> bool:
    on_range = any(
        start <= price_bp <= end and (price_bp - start) % step == 0 for start, end, step in grid
    )
    return 0 < price_bp < 10_000 and (on_range or price_bp % 100 == 0)


def _tick_bp(price_bp: int, grid: PriceRanges) -> int:
    above = price_bp + 1
    while above < 10_000 and not _is_price(above, grid):
        above += 1
    return above - price_bp


def _market(now: Moment, grid: PriceRanges) -> list[float]:
    (bid_size, ask_size), contracts = now.sizes, 10**6
    offset = 0.0
    if now.is_two_sided:
        microprice = (now.bid * ask_size + now.ask * bid_size) / (bid_size + ask_size)
        offset = _clipped(20 * (microprice - now.mid))
    ticks = max(0, now.ask_bp - now.bid_bp) / _tick_bp(now.bid_bp, grid)
    second_bid, second_ask = now.second_bp
    state = {(True, True): 1.0, (True, False): 0.5, (False, True): -0.5, (False, False): 0.0}
    return [
        now.bid,
        now.ask,
        now.mid,
        offset,
        _log(ticks, 1_000),
        *(_log(size, contracts) for pair in (now.sizes, now.near, now.total) for size in pair),
        *(_share(*pair) for pair in (now.sizes, now.near, now.total)),
        1.0 if second_bid is None else _log((now.bid_bp - second_bid) / 100, 100),
        1.0 if second_ask is None else _log((second_ask - now.ask_bp) / 100, 100),
        *(_log(count, 1_000) for count in now.levels),
        _log((now.buy_bp - now.ask_bp) / 100, 100),
        _log((now.bid_bp - now.sell_bp) / 100, 100),
        state[now.bid_bp > 0, now.ask_bp < 10_000],
    ]


def _temporal(history: Sequence[Moment], close_ms: int | None) -> list[float]:
    now_ms = history[-1].time_ms
    updates = [moment for moment in history if moment.is_update]

    def weight(time_ms: int, tau: float) -> float:
        return math.exp(-(now_ms - time_ms) / 1000 / tau)

    earlier = [moment.time_ms for moment in updates if moment.time_ms < now_ms]
    since = (now_ms - max(earlier)) / 1000 if earlier else 0.0
    rates = [sum(weight(moment.time_ms, tau) for moment in updates) / tau for tau in (10, 60, 600)]
    flows = list(zip(updates[1:], map(_flow, updates, updates[1:]), strict=True))
    clock = datetime.fromtimestamp(now_ms / 1000, UTC)
    midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0)
    angle = 2 * math.pi * (clock - midnight).total_seconds() / 86_400
    to_close = -1.0
    if close_ms is not None:
        to_close = _log(max(0.0, (close_ms - now_ms) / 1000), 31_536_000)
    mids = [(moment.time_ms, moment.mid) for moment in updates if moment.is_two_sided]
    return [
        _log(since, 86_400),
        *(_log(rate, 1_000) for rate in rates),
        *(
            _clipped(gain * (mids[-1][1] - _average(mids, weight, tau))) if mids else 0.0
            for gain, tau in ((10, 10), (4, 60), (2, 600))
        ),
        *(
            _clipped(gain * math.sqrt(_squares(mids, weight, tau)))
            for gain, tau in ((5, 60), (2, 600))
        ),
        *(_imbalance(flows, weight, tau) for tau in (10, 60)),
        math.sin(angle),
        math.cos(angle),
        to_close,
    ]


def _average(mids, weight, tau) -> float:
    # the first value, and every later one for as long as it held, each weighed by its age
    first_ms, first = mids[0]
    total = first * weight(first_ms, tau)
    ends = [time_ms for time_ms, _ in mids[1:]]
    for (start_ms, mid), end_ms in zip(mids, ends, strict=False):
        total += mid * (weight(end_ms, tau) - weight(start_ms, tau))
    last_ms, last = mids[-1]
    return total + last * (1 - weight(last_ms, tau))


def _squares(mids, weight, tau) -> float:
    return sum(
        weight(time_ms, tau) * (mid - before) ** 2 for (_, before), (time_ms, mid) in pairwise(mids)
    )


def _flow(before: Moment, after: Moment) -> float:
    # Cont, Kukanov, Stoikov 2014, section 2.1: demand that came or went at the bid, less the same
    # of supply at the ask
    (bid_before, ask_before), (bid_after, ask_after) = before.sizes, after.sizes
    bid = bid_after * (after.bid_bp >= before.bid_bp) - bid_before * (after.bid_bp <= before.bid_bp)
    ask = ask_after * (after.ask_bp <= before.ask_bp) - ask_before * (after.ask_bp >= before.ask_bp)
    return bid - ask


def _imbalance(flows, weight, tau) -> float:
    strength = sum(abs(flow) * weight(moment.time_ms, tau) for moment, flow in flows)
    net = sum(flow * weight(moment.time_ms, tau) for moment, flow in flows)
    return net / strength if strength > FORGOTTEN else 0.0
