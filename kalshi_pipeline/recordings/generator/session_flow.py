"""One generated session before it is put into frames: who trades when, and what the books do.

A session is made piece by piece, each piece a stretch of one connection with at most about
`PIECE_DELTAS` changes: every market carries its book and its random numbers from piece to piece, so
that memory stays at one piece however long the session is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
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
    share_before,
)
from kalshi_pipeline.recordings.generator.profiles import MINUTE_MS, SessionProfile
from kalshi_pipeline.recordings.generator.styles import BURSTS, Clock, FlowStyle, ordinary
from kalshi_pipeline.recordings.generator.universe import (
    HOUR_MS,
    INTRADAY_STEP_MS,
    STEP_MS,
    Driver,
    Event,
    Market,
    driver,
    intraday,
    long_dated,
    short_dated,
)

PIECE_DELTAS = 1_500_000
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
        subscribed_ms: when its first book is sent: with the first connection, or when it opens.
    """

    event: Event
    market: Market
    deltas: int
    structure: str
    result: bool | None
    subscribed_ms: int


@dataclass(frozen=True)
class Piece:
    """A stretch of one connection.

    Args:
        connection: index of the connection.
        opens: whether the connection begins here.
        until_ms: its end.
        books: by contract, the YES and NO levels when its book was sent in this piece.
        time_ms: int64 `[n]` exchange time of each recorded change, ascending.
        contract: int32 `[n]` index of the contract.
        change: int64 `[n, 4]` FlowKind; ladder (0 YES, 1 NO); price_bp in the ladder's own scale;
            signed change_centi.
    """

    connection: int
    opens: bool
    until_ms: int
    books: dict[int, tuple[Levels, Levels]]
    time_ms: NDArray[np.int64]
    contract: NDArray[np.int32]
    change: NDArray[np.int64]


class _Stretch(NamedTuple):
    # A piece's time on the session's own clock, which stands still between the connections.
    connection: int
    opens: bool
    from_ms: int
    to_ms: int
    offset_ms: int  # Unix time minus the session's clock


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


class Session:
    """A session about to be made.

    Args:
        profile: what it is like.

    Raises:
        ValueError: the universe has fewer open markets than the profile subscribes to.
    """

    def __init__(self, profile: SessionProfile) -> None:
        self.profile = profile
        self.connections = connections_of(profile)
        chosen = _subscribed(profile)
        counts = _activity(profile, chosen)
        self._stretches = _stretches(self.connections, profile.deltas)
        self._flows: list[_MarketFlow] = []
        contracts: list[Contract] = []
        previous: tuple[Event, Driver, Driver] | None = None
        for (event, market), deltas in zip(chosen, counts.tolist(), strict=True):
            if previous is None or previous[0] is not event:
                path = driver(profile.universe, event)
                seen = path.between(profile.started_at_ms, profile.ended_at_ms)
                previous = event, path, seen
            contract = _contract(profile, event, market, deltas, previous[1])
            contracts.append(contract)
            self._flows.append(
                _MarketFlow(profile, contract, previous[2], self.connections, self._stretches)
            )
        self.contracts = tuple(contracts)

    def pieces(self) -> Iterator[Piece]:
        """What happens, in order; may be asked for once."""
        for number, stretch in enumerate(self._stretches):
            books: dict[int, tuple[Levels, Levels]] = {}
            parts, owners = [], []
            for index, flow in enumerate(self._flows):
                part = flow.play(number, stretch)
                if flow.sent is not None:
                    books[index] = flow.sent
                if part is not None:
                    parts.append(part)
                    owners.append(index)
            yield _merged(stretch, books, parts, owners)


class _MarketFlow:
    # One market's book, carried from piece to piece.

    def __init__(
        self,
        profile: SessionProfile,
        contract: Contract,
        path: Driver,
        connections: Sequence[Connection],
        stretches: Sequence[_Stretch],
    ) -> None:
        name = crc32(contract.market.ticker.encode())
        self._rng = np.random.default_rng([profile.seed, profile.session_id, name])
        self._contract, self._path, self._connections = contract, path, connections
        self._style, self._clock = _style(profile, contract)
        self._pattern = Pattern(int(self._rng.integers(len(Pattern))))
        self._prices_bp = np.flatnonzero(grid_of_ranges(STRUCTURES[contract.structure]).valid)
        self._ladders = np.zeros((2, len(self._prices_bp)), dtype=np.int64)
        self._state = np.zeros((4, 2), dtype=np.int64)
        margin_ms = INTRADAY_STEP_MS if contract.event.intraday else STEP_MS
        self._last_ms = min(contract.event.close_ms, connections[-1].ended_ms) - margin_ms
        self._begin_ms = _session_clock(stretches, contract.subscribed_ms)
        self._end_ms = _session_clock(stretches, self._last_ms)
        life_ms = self._end_ms - self._begin_ms
        cuts = [stretches[0].from_ms, *(stretch.to_ms for stretch in stretches)]
        shares = [share_before(self._pattern, (at - self._begin_ms) / life_ms) for at in cuts]
        self._counts = self._rng.multinomial(contract.deltas, np.diff(shares))
        self._rate = contract.deltas / life_ms
        self._begun = False
        self.sent: tuple[Levels, Levels] | None = None  # the book as sent in the last piece

    def play(
        self, number: int, stretch: _Stretch
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Times `[n]` and changes `[n, 4]` of a piece; None where nothing changes."""
        self.sent = None
        if self._begin_ms >= stretch.to_ms:
            return None
        if not self._begun or stretch.opens:
            self._send_book(stretch)
        count = int(self._counts[number])
        if count == 0:
            return None
        low, high = max(stretch.from_ms, self._begin_ms), min(stretch.to_ms, self._end_ms)
        window = (low, high, self._begin_ms, self._end_ms)
        time_ms = event_times(self._rng, count, self._clock, self._pattern, window)
        time_ms += stretch.offset_ms
        change = self._advance(time_ms)
        price_bp = self._prices_bp[change[:, 2]]
        change[:, 2] = np.where(change[:, 1] == 0, price_bp, BP_PER_DOLLAR - price_bp)
        return time_ms, change

    def _send_book(self, stretch: _Stretch) -> None:
        # First what nobody saw: the history of the book, or what happened between connections.
        opened_ms = self._connections[stretch.connection].opened_ms
        if not self._begun:
            warm_up = WARM_UP_PER_LEVEL * self._style.levels if self._contract.deltas else 0
            self._advance(np.full(warm_up, self._contract.subscribed_ms, dtype=np.int64))
        else:
            before_ms = self._connections[stretch.connection - 1].ended_ms
            lost_ms = max(min(opened_ms, self._last_ms) - before_ms, 0)
            lost = self._rng.poisson(lost_ms * self._rate)
            self._advance(before_ms + np.sort(self._rng.integers(0, max(lost_ms, 1), lost)))
        if self._contract.event.close_ms <= opened_ms:
            self._ladders[:] = self._state[:] = 0
        self._begun = True
        yes = np.flatnonzero(self._ladders[0])
        no = np.flatnonzero(self._ladders[1])[::-1]  # ascending in the NO scale
        self.sent = (
            _levels(self._prices_bp[yes], self._ladders[0, yes]),
            _levels(BP_PER_DOLLAR - self._prices_bp[no], self._ladders[1, no]),
        )

    def _advance(self, time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        market = self._contract.market
        fair_micro = fair_value_micro(*self._path.at(time_ms), market.low, market.high)
        change = np.empty((len(time_ms), 4), dtype=np.int64)
        advance(
            self._ladders,
            self._state,
            self._prices_bp * 100,
            time_ms,
            fair_micro,
            self._rng.random((len(time_ms), UNIFORMS)),
            self._style,
            change,
        )
        return change


def _levels(prices_bp: NDArray[np.int64], sizes_centi: NDArray[np.int64]) -> Levels:
    return list(zip(prices_bp.tolist(), sizes_centi.tolist(), strict=True))


def _merged(
    stretch: _Stretch,
    books: dict[int, tuple[Levels, Levels]],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    owners: Sequence[int],
) -> Piece:
    nothing = np.zeros(0, np.int64)
    time_ms = np.concatenate([nothing, *(times for times, _ in parts)])
    order = np.argsort(time_ms, kind="stable")
    lengths = [len(times) for times, _ in parts]
    contract = np.repeat(np.array(owners, dtype=np.int32), lengths)
    change = np.concatenate([nothing.reshape(0, 4), *(change for _, change in parts)])
    until_ms = stretch.to_ms + stretch.offset_ms
    return Piece(
        stretch.connection,
        stretch.opens,
        until_ms,
        books,
        time_ms[order],
        contract[order],
        change[order],
    )


def _stretches(connections: Sequence[Connection], deltas: int) -> list[_Stretch]:
    spans = [c.ended_ms - c.opened_ms - SUBSCRIBING_MS for c in connections]
    piece_ms = math.ceil(sum(spans) / max(1, round(deltas / PIECE_DELTAS)))
    found, clock_ms = [], 0
    for index, (connection, span_ms) in enumerate(zip(connections, spans, strict=True)):
        offset_ms = connection.opened_ms + SUBSCRIBING_MS - clock_ms
        pieces = math.ceil(span_ms / piece_ms)
        for number in range(pieces):
            from_ms = clock_ms + span_ms * number // pieces
            to_ms = clock_ms + span_ms * (number + 1) // pieces
            found.append(_Stretch(index, number == 0, from_ms, to_ms, offset_ms))
        clock_ms += span_ms
    return found


def _session_clock(stretches: Sequence[_Stretch], time_ms: int) -> int:
    # The session's clock at a Unix time.
    for stretch in stretches:
        at_ms = time_ms - stretch.offset_ms
        if at_ms < stretch.to_ms:
            return max(at_ms, stretch.from_ms)
    return stretches[-1].to_ms


def _subscribed(profile: SessionProfile) -> list[tuple[Event, Market]]:
    if profile.intraday:
        begin_ms, end_ms = profile.started_at_ms, profile.ended_at_ms
        events = [e for series in profile.intraday for e in intraday(series, begin_ms, end_ms)]
        events.sort(key=lambda event: event.open_ms)
        chosen = [(event, market) for event in events for market in event.markets]
    else:
        soon_ms = profile.started_at_ms + 10 * MINUTE_MS
        cap = profile.markets_per_event
        short = [
            (event, market)
            for event in short_dated(profile.universe)
            if event.open_ms <= profile.started_at_ms and event.close_ms >= soon_ms
            for market in event.markets[:cap]
        ][: round(profile.settling * profile.markets)]
        long = [(e, market) for e in long_dated(profile.universe) for market in e.markets[:cap]]
        chosen = short + long
    if len(chosen) < profile.markets:
        raise ValueError(f"{profile.markets} markets wanted, {len(chosen)} are open")
    return chosen[: profile.markets]


def _activity(profile: SessionProfile, chosen: list[tuple[Event, Market]]) -> NDArray[np.int64]:
    # One delta for every active market, the others by weight: Zipf's law over ranks, which follow
    # popularity, shaken a little in each session; intraday markets by rate and time. The largest
    # remainders are rounded up.
    rng = np.random.default_rng([profile.seed, profile.session_id, len(chosen)])
    shake = rng.normal(0.0, 1.0, len(chosen))
    if profile.intraday:
        weight = np.array(
            [
                style.rate
                * math.exp(style.rate_sigma * shaken)
                * (min(e.close_ms, profile.ended_at_ms) - max(e.open_ms, profile.started_at_ms))
                for (e, _), shaken in zip(chosen, shake, strict=True)
                if (style := e.intraday) is not None
            ]
        )
        order = np.arange(len(chosen))
    else:
        appeal = np.array(
            [m.popularity * (SHORT_DATED_APPEAL if e.short_dated else 1.0) for e, m in chosen]
        )
        order = np.argsort(appeal * np.exp(0.5 * shake), kind="stable")
        weight = np.arange(1, profile.active_markets + 1, dtype=np.float64) ** -profile.zipf
    active = profile.active_markets
    exact = weight[:active] / weight[:active].sum() * (profile.deltas - active)
    share = np.floor(exact).astype(np.int64)
    missing = profile.deltas - active - int(share.sum())
    share[np.argsort(share - exact, kind="stable")[:missing]] += 1
    counts = np.zeros(len(chosen), dtype=np.int64)
    counts[order[:active]] = 1 + share
    return counts


def _contract(
    profile: SessionProfile, event: Event, market: Market, deltas: int, path: Driver
) -> Contract:
    settles = event.close_ms + RESULT_WITHIN_MS <= profile.ended_at_ms
    fine = profile.fine_ticks and crc32(market.ticker.encode()) % 3 == 0
    structure = "tapered_deci_cent" if fine else "linear_cent"
    if event.intraday:
        structure = event.intraday.structure
    return Contract(
        event,
        market,
        deltas,
        structure,
        path.pays(market) if settles else None,
        max(event.open_ms, profile.started_at_ms),
    )


def _style(profile: SessionProfile, contract: Contract) -> tuple[FlowStyle, Clock]:
    # Belongs to the market, not to the session.
    event, market = contract.event, contract.market
    if event.intraday:
        return event.intraday.flow, event.intraday.clock
    rng = np.random.default_rng([profile.universe.seed, crc32(market.ticker.encode()), 1])
    fractional = contract.structure == "tapered_deci_cent"
    style = ordinary(rng, market.popularity, short_dated=event.short_dated, fractional=fractional)
    return style, BURSTS
