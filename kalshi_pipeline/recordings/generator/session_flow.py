"""One generated session before it is put into frames: who trades when, and what the books do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.market.prices import STRUCTURES, grid_of_ranges
from kalshi_pipeline.recordings.generator.order_flow import (
    UNIFORMS,
    Pattern,
    advance,
    event_times,
    fair_value_micro,
)
from kalshi_pipeline.recordings.generator.profiles import MINUTE_MS, SessionProfile
from kalshi_pipeline.recordings.generator.universe import (
    HOUR_MS,
    Driver,
    Event,
    Market,
    driver,
    long_dated,
    short_dated,
)

SUBSCRIBING_MS = 2_000  # from the connection to the last of its snapshots
DISCONNECT_MINUTE = 20  # connections break between the full hours at which markets close
WARM_UP_PER_LEVEL = 12  # unrecorded events that build the first book
# A market settles inside a session only where the session goes on until its result is out.
RESULT_WITHIN_MS = 2 * MINUTE_MS
SHORT_DATED_APPEAL = 0.35  # an expiring market is as busy as a long-dated one of this popularity

Levels = list[tuple[int, int]]  # (price_bp in the ladder's own scale, size_centi), ascending


@dataclass(frozen=True)
class Connection:
    """One connection of the collector: books are sent when it opens, changes until it ends."""

    opened_ms: int
    ended_ms: int


@dataclass(frozen=True)
class Contract:
    """A market in a session.

    Args:
        deltas: recorded book changes.
        structure: Kalshi's name of its tick structure.
        result: whether it pays 1 dollar; None where it does not settle inside the session.
    """

    event: Event
    market: Market
    deltas: int
    structure: str
    result: bool | None


@dataclass(frozen=True)
class MarketFlow:
    """What one market does in a session.

    Args:
        time_ms: int64 `[n]` exchange time of each recorded change, ascending.
        change: int64 `[n, 4]` FlowKind; ladder (0 YES, 1 NO); price_bp in the ladder's own scale;
            signed change_centi.
        books: for each connection the YES and NO levels when it opened.
    """

    time_ms: NDArray[np.int64]
    change: NDArray[np.int64]
    books: list[tuple[Levels, Levels]]


def connections_of(profile: SessionProfile) -> list[Connection]:
    """The collector's connections, in order."""
    rng = np.random.default_rng([profile.seed, profile.session_id])
    opened_ms, found = profile.started_at_ms, []
    for number in range(1, profile.connections):
        cut_ms = profile.started_at_ms + profile.duration_ms * number // profile.connections
        cut_ms += DISCONNECT_MINUTE * MINUTE_MS - cut_ms % HOUR_MS
        found.append(Connection(opened_ms, cut_ms))
        opened_ms = cut_ms + int(rng.integers(30_000, 120_000))
    return [*found, Connection(opened_ms, profile.ended_at_ms)]


def simulate(
    profile: SessionProfile, progress: Callable[[str], None] | None = None
) -> Iterator[tuple[Contract, MarketFlow]]:
    """Every subscribed market and its flow, in the order of subscription.

    Raises:
        ValueError: the universe has fewer open markets than the profile subscribes to.
    """
    chosen = _subscribed(profile)
    counts = _activity(profile, chosen)
    connections = connections_of(profile)
    previous: tuple[Event, Driver] | None = None
    for index, ((event, market), deltas) in enumerate(zip(chosen, counts, strict=True)):
        if previous is None or previous[0] is not event:
            previous = event, driver(profile.universe, event)
        path = previous[1]
        settles = event.close_ms + RESULT_WITHIN_MS <= profile.ended_at_ms
        fine = profile.fine_ticks and crc32(market.ticker.encode()) % 3 == 0
        contract = Contract(
            event,
            market,
            int(deltas),
            "tapered_deci_cent" if fine else "linear_cent",
            path.pays(market) if settles else None,
        )
        yield contract, _flow_of(profile, connections, contract, path)
        if progress and (index + 1) % 200 == 0:
            progress(f"session {profile.session_id}: {index + 1} of {len(chosen)} markets")


def _subscribed(profile: SessionProfile) -> list[tuple[Event, Market]]:
    soon_ms = profile.started_at_ms + 10 * MINUTE_MS
    cap = profile.markets_per_event
    short = [
        (event, market)
        for event in short_dated(profile.universe)
        if event.open_ms <= profile.started_at_ms and event.close_ms >= soon_ms
        for market in event.markets[:cap]
    ][: round(profile.settling * profile.markets)]
    long = [(e, market) for e in long_dated(profile.universe) for market in e.markets[:cap]]
    chosen = (short + long)[: profile.markets]
    if len(chosen) < profile.markets:
        raise ValueError(f"{profile.markets} markets wanted, {len(chosen)} are open")
    return chosen


def _activity(profile: SessionProfile, chosen: list[tuple[Event, Market]]) -> NDArray[np.int64]:
    # Zipf's law over ranks: one delta for every active market, the others in proportion, with the
    # largest remainders rounded up. Ranks follow popularity, shaken a little in each session.
    rng = np.random.default_rng([profile.seed, profile.session_id, len(chosen)])
    appeal = np.array(
        [m.popularity * (SHORT_DATED_APPEAL if e.short_dated else 1.0) for e, m in chosen]
    )
    order = np.argsort(appeal * np.exp(rng.normal(0.0, 0.5, len(chosen))), kind="stable")
    weight = np.arange(1, profile.active_markets + 1, dtype=np.float64) ** -profile.zipf
    exact = weight / weight.sum() * (profile.deltas - profile.active_markets)
    share = np.floor(exact).astype(np.int64)
    missing = profile.deltas - profile.active_markets - int(share.sum())
    share[np.argsort(share - exact, kind="stable")[:missing]] += 1
    counts = np.zeros(len(chosen), dtype=np.int64)
    counts[order[: profile.active_markets]] = 1 + share
    return counts


def _style(profile: SessionProfile, contract: Contract) -> tuple[float, int, int, float, bool]:
    # Belongs to the market, not to the session. Spreads: 1 to 2 cents where it is busy, tens of
    # cents where it is not; sizes: thousands where a market maker quotes a distant event.
    market = contract.market
    rng = np.random.default_rng([profile.universe.seed, crc32(market.ticker.encode()), 1])
    quiet = market.popularity
    spread_cents = 0.6 * math.exp(6.0 * quiet + rng.normal(0.0, 0.6))
    contracts = 60.0 if contract.event.short_dated else 1_500.0
    size_centi = int(100 * contracts * math.exp(rng.normal(0.0, 0.9)))
    levels = int(rng.integers(4, 8) + 8 * (1.0 - quiet))
    trade_share = (0.03 if contract.event.short_dated else 0.005) + 0.015 * (1.0 - quiet)
    fractional = contract.structure == "tapered_deci_cent"
    return spread_cents / 2 * 10_000, levels, size_centi, trade_share, fractional


def _flow_of(
    profile: SessionProfile, connections: list[Connection], contract: Contract, path: Driver
) -> MarketFlow:
    if contract.deltas == 0:
        nothing = np.empty(0, dtype=np.int64)
        empty: tuple[Levels, Levels] = ([], [])
        return MarketFlow(nothing, np.empty((0, 4), np.int64), [empty] * len(connections))
    name = crc32(contract.market.ticker.encode())
    rng = np.random.default_rng([profile.seed, profile.session_id, name])
    style = _style(profile, contract)
    parts = _schedule(rng, connections, contract, WARM_UP_PER_LEVEL * style[1])
    time_ms = np.concatenate(parts)
    market = contract.market
    fair_micro = fair_value_micro(*path.at(time_ms), market.low, market.high)
    random = rng.random((len(time_ms), UNIFORMS))
    prices_bp = np.flatnonzero(grid_of_ranges(STRUCTURES[contract.structure]).valid)
    ladders = np.zeros((2, len(prices_bp)), dtype=np.int64)
    out = np.empty((len(time_ms), 4), dtype=np.int64)
    ends = np.cumsum([len(part) for part in parts])
    books, seen = [], []
    for number, end in enumerate(ends):
        piece = slice(end - len(parts[number]), end)
        advance(
            ladders,
            prices_bp * 100,
            time_ms[piece],
            fair_micro[piece],
            random[piece],
            style,
            out[piece],
        )
        if number % 2 == 0:  # what nobody saw; now the connection opens
            if contract.event.close_ms <= connections[number // 2].opened_ms:
                ladders[:] = 0
            books.append(_levels(ladders, prices_bp))
        else:
            seen.append(np.arange(piece.start, piece.stop))
    recorded = np.concatenate(seen)
    change = out[recorded]
    price_bp = prices_bp[change[:, 2]]
    change[:, 2] = np.where(change[:, 1] == 0, price_bp, BP_PER_DOLLAR - price_bp)
    return MarketFlow(time_ms[recorded], change, books)


def _schedule(
    rng: np.random.Generator, connections: list[Connection], contract: Contract, warm_up: int
) -> list[NDArray[np.int64]]:
    # For each connection when the book changes unseen before it opens, and when while it lasts.
    # Recorded changes are drawn on a clock that stands still between the connections, so that their
    # number is exact; the rate of the unseen ones is the same.
    last_ms = min(contract.event.close_ms, connections[-1].ended_ms) - 1_000
    begins = np.array([min(c.opened_ms + SUBSCRIBING_MS, last_ms) for c in connections])
    spans = np.array([min(c.ended_ms, last_ms) for c in connections]) - begins
    clock_ends = np.cumsum(spans)
    pattern = Pattern(int(rng.integers(len(Pattern))))
    clock_ms = event_times(rng, contract.deltas, int(clock_ends[-1]), pattern)
    owner = np.searchsorted(clock_ends, clock_ms, side="right")
    time_ms = clock_ms + (begins - (clock_ends - spans))[owner]
    rate = contract.deltas / clock_ends[-1]
    parts = []
    for number, connection in enumerate(connections):
        if number == 0:
            parts.append(np.full(warm_up, connection.opened_ms, dtype=np.int64))
        else:
            lost_ms = begins[number] - SUBSCRIBING_MS - connections[number - 1].ended_ms
            lost = rng.poisson(max(lost_ms, 0) * rate)
            before_ms = connections[number - 1].ended_ms
            parts.append(before_ms + np.sort(rng.integers(0, max(lost_ms, 1), lost)))
        parts.append(time_ms[owner == number])
    return parts


def _levels(ladders: NDArray[np.int64], prices_bp: NDArray[np.int64]) -> tuple[Levels, Levels]:
    yes = np.flatnonzero(ladders[0])
    no = np.flatnonzero(ladders[1])[::-1]  # ascending in the NO scale
    return (
        list(zip(prices_bp[yes].tolist(), ladders[0, yes].tolist(), strict=True)),
        list(zip((BP_PER_DOLLAR - prices_bp[no]).tolist(), ladders[1, no].tolist(), strict=True)),
    )
