"""The markets of generated sessions: names, closing times, and the fair value behind them.

A universe has three pools. The long-dated events are open all the time and shared by its sessions.
The short-dated ones open in batches, every second day, and settle before the next batch opens. The
intraday ones follow each other, a quarter of an hour each.

Every event has one Brownian driver W over the time from its start (u = 0) to its close (u = 1). A
market pays 1 dollar if W ends inside the market's interval [low, high), so that its fair value

    p(u) = Phi((high - W_u) / sqrt(1 - u)) - Phi((low - W_u) / sqrt(1 - u))

is a martingale that ends at exactly 0 or 1. Markets of one event share the driver: the outcomes of
an exclusive event sum to one dollar, the strikes of a ladder are nested. The driver depends on the
universe and the event alone, so all sessions see the same path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel
from kalshi_pipeline.recordings.generator.styles import INTRADAY, Intraday

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BATCH_EVERY_MS = 2 * DAY_MS
BATCH_OPENS_MS = 17 * HOUR_MS + HOUR_MS // 2  # 17:30 UTC
BATCH_FIRST_CLOSE_MS = DAY_MS  # midnight after the batch has opened ...
BATCH_HOURS = 42  # ... and every full hour until 17:00 of the day after
EVENTS_IN_BATCH = 75
INTRADAY_MS = 15 * 60_000
LONG_EVENTS = 300
DRIVER_STEPS = 1 << 16  # most points of one driver's path
STEP_MS, INTRADAY_STEP_MS = 1_000, 500  # least time between two points

# Series of the long-dated pool; the first two make the events the training plan names.
_LONG_SERIES = """
KXFEDCHAIRNOM POWER KXPRESPARTY KXPRESNOMD KXPRESNOMR KXSENATE KXHOUSE KXGOVPARTY KXSCOTUSN
KXNEXTPOPE KXNEXTUKPM KXNEXTDEPM KXRECESSION KXRATECUTCOUNT KXCPIYEAR KXGDPYEAR KXUNRATE
KXDEBTLEVEL KXBTCMAXY KXETHMAXY KXGOLDMAXY KXOILMAXY KXAIMODEL KXMARS KXMOONLAND KXNOBELPEACE
KXOSCARPIC KXGRAMAOTY KXSB KXNBA KXNHL KXMLB KXEPL KXUCL KXWORLDCUP KXF1 KXMASTERS KXTIMEPOY
KXCABOUT KXSTATE51 KXTARIFFRATE KXIPO KXACQUISITION KXFUSION KXHURRICANES KXARCTICICE KXTEMP
KXPOPULATION KXTESLADEL KXSTREAMNUM
"""
_SHORT_SERIES = """
KXBTCD KXETHD KXINXU KXNASDAQ100U KXHIGHNY KXHIGHCHI KXHIGHMIA KXHIGHAUS KXHIGHDEN KXHIGHLAX
KXHIGHPHIL KXNBAGAME KXNFLGAME KXNHLGAME KXNCAABGAME KXEPLGAME KXUCLGAME KXLALIGAGAME
KXATPMATCH KXUFCFIGHT KXGOLDD KXWTID KXEURUSDD KXUSDJPYD KXSOLD
"""
_OUTCOMES = ("KW", "KH", "CW", "RR", "SB", "JS")
_POWER_OUTCOMES = ("DH-DS-DP", "RH-RS-RP", "DH-RS-RP", "RH-DS-DP", "RH-RS-DP", "DH-RS-DP")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True)
class Universe:
    """Which calendar the events of a group of sessions live in.

    Args:
        start_ms: midnight UTC of the day on which the first batch opens; drivers start here, or at
            an event's opening where that is later.
        horizon_ms: no session lasts beyond this; drivers of long-dated events end here.
        seed: what every driver is drawn from.
    """

    start_ms: int
    horizon_ms: int
    seed: int


@dataclass(frozen=True)
class Market:
    """One binary contract: it pays 1 dollar if the driver ends in [low, high)."""

    ticker: str
    title: str
    low: float
    high: float
    popularity: float  # 0 the busiest of its pool .. 1 the quietest


@dataclass(frozen=True)
class Event:
    """Kalshi's event: markets that settle together, from one driver."""

    ticker: str
    open_ms: int
    close_ms: int
    short_dated: bool
    markets: tuple[Market, ...]
    intraday: Intraday | None = None


@allocating_kernel
def _points(
    path: NDArray[np.float64],
    first: int,
    start_ms: int,
    step_ms: float,
    close_ms: int,
    time_ms: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    driver, remaining = np.empty(len(time_ms)), np.empty(len(time_ms))
    life_ms = close_ms - start_ms
    for i in range(len(time_ms)):
        point = int(np.floor((time_ms[i] - start_ms) / step_ms))
        point = min(max(point, first), first + len(path) - 1)
        driver[i] = path[point - first]
        remaining[i] = 1.0 - point * step_ms / life_ms
    return driver, remaining


@lru_cache(maxsize=8)
def long_dated(universe: Universe) -> tuple[Event, ...]:
    """The events that are open all the time, busiest first."""
    events, names = [], _LONG_SERIES.split()
    for index in range(LONG_EVENTS):
        turn, place = divmod(index, len(names))
        series = names[place]
        # The first pass gives KXFEDCHAIRNOM-29 and POWER-28.
        year = 26 + (turn + 3 - place) % 7
        ticker = f"{series}-{year}"
        rng = _rng(universe, ticker)
        outcomes = _POWER_OUTCOMES if series == "POWER" else _OUTCOMES
        count = 5 if index < 2 else int(rng.integers(2, 7))
        year_end_ms = int(np.datetime64(f"{2001 + year}-01-01", "ms").astype(np.int64))
        close_ms = year_end_ms + DAY_MS * int(rng.integers(-40, 40))
        open_ms = universe.start_ms - DAY_MS * int(rng.integers(20, 300))
        markets = _markets(ticker, outcomes[:count], rng, index / LONG_EVENTS)
        events.append(Event(ticker, open_ms, close_ms, False, markets))
    return tuple(events)


@lru_cache(maxsize=8)
def short_dated(universe: Universe) -> tuple[Event, ...]:
    """The events of all batches, in the order of opening, within a batch busiest first."""
    events, names = [], _SHORT_SERIES.split()
    for opened_ms in range(universe.start_ms, universe.horizon_ms, BATCH_EVERY_MS):
        for index in range(EVENTS_IN_BATCH):
            series = names[index % len(names)]
            hour = index * 17 % BATCH_HOURS  # coprime: spread, and never twice for one series
            close_ms = opened_ms + BATCH_FIRST_CLOSE_MS + hour * HOUR_MS
            ticker = f"{series}-{_stamp(close_ms)}"
            rng = _rng(universe, ticker)
            strikes = [f"T{number}" for number in range(1, int(rng.integers(2, 5)) + 1)]
            markets = _markets(ticker, strikes, rng, index / EVENTS_IN_BATCH)
            events.append(Event(ticker, opened_ms + BATCH_OPENS_MS, close_ms, True, markets))
    return tuple(events)


def intraday(series: str, from_ms: int, to_ms: int) -> tuple[Event, ...]:
    """The quarter-hour events of a series that are open at some time in [from, to).

    Their one market pays if the price ends at or above where it was when the market opened.
    """
    events = []
    for open_ms in range(from_ms // INTRADAY_MS * INTRADAY_MS, to_ms, INTRADAY_MS):
        close_ms = open_ms + INTRADAY_MS
        minute = close_ms // 60_000 % 60
        ticker = f"{series}-{_stamp(close_ms)}{minute:02d}"
        name = f"{ticker}-{minute:02d}"
        market = Market(name, f"{ticker}: up", 0.0, math.inf, 0.0)
        events.append(Event(ticker, open_ms, close_ms, True, (market,), INTRADAY[series]))
    return tuple(events)


@dataclass(frozen=True)
class Driver:
    """The path of one event's Brownian motion, constant between its points.

    Args:
        start_ms: u = 0.
        step_ms: time between two points.
        close_ms: u = 1.
        path: float64 `[points]`, W at `start_ms + (first + i) * step_ms`.
        first: point that the path begins with.
    """

    start_ms: int
    step_ms: float
    close_ms: int
    path: NDArray[np.float64]
    first: int = 0

    def between(self, from_ms: int, to_ms: int) -> Driver:
        """The part of the path that `at` needs for times in [from, to)."""
        begin, end = (math.floor((at - self.start_ms) / self.step_ms) for at in (from_ms, to_ms))
        begin = min(max(begin, 0), len(self.path) - 1)
        piece = self.path[begin : max(end, begin) + 2].copy()
        return replace(self, path=piece, first=begin)

    def at(self, time_ms: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """W and 1 - u, both `[n]`, as known at the times `[n]`."""
        return _points(self.path, self.first, self.start_ms, self.step_ms, self.close_ms, time_ms)

    @property
    def settled(self) -> bool:
        """Whether the path reaches the close, so that the result is known."""
        last = self.first + len(self.path) - 1
        return self.start_ms + round(last * self.step_ms) >= self.close_ms

    def pays(self, market: Market) -> bool:
        """Whether a market of this event settles at 1 dollar.

        Raises:
            ValueError: the path ends before the close.
        """
        if not self.settled:
            raise ValueError(f"the driver of {market.ticker} ends before its close")
        return bool(market.low <= self.path[-1] < market.high)


def driver(universe: Universe, event: Event) -> Driver:
    """The event's path up to its close or the universe's horizon, whichever comes first."""
    start_ms = max(event.open_ms, universe.start_ms)
    end_ms = min(event.close_ms, universe.horizon_ms)
    least_ms = INTRADAY_STEP_MS if event.intraday else STEP_MS
    steps = min(DRIVER_STEPS, (end_ms - start_ms) // least_ms)
    step_ms = (end_ms - start_ms) / steps
    deviation = math.sqrt(step_ms / (event.close_ms - start_ms))
    path = np.zeros(steps + 1)
    np.cumsum(
        _rng(universe, f"driver of {event.ticker}").normal(0.0, deviation, steps), out=path[1:]
    )
    return Driver(start_ms, step_ms, event.close_ms, path)


def _markets(
    event: str, names: Sequence[str], rng: np.random.Generator, popularity: float
) -> tuple[Market, ...]:
    # Cut the real line at quantiles of the standard normal law: at u = 0 an interval's probability
    # is its fair value. Ladders of strikes are nested, other events exclusive.
    nested = names[0].startswith("T")
    shares = rng.dirichlet(np.full(len(names) + 1, 1.5))
    quantiles = np.clip(np.cumsum(shares)[:-1], 0.01, 0.99)
    cuts = [NormalDist().inv_cdf(float(quantile)) for quantile in quantiles]
    lows = cuts if nested else [-math.inf, *cuts[:-1]]
    highs = [math.inf] * len(cuts) if nested else cuts
    return tuple(
        Market(f"{event}-{name}", f"{event}: {name}", low, high, popularity)
        for name, low, high in zip(names, lows, highs, strict=True)
    )


def _rng(universe: Universe, name: str) -> np.random.Generator:
    return np.random.default_rng([universe.seed, crc32(name.encode())])


def _stamp(time_ms: int) -> str:
    # 26JUL0317: year, month, day, hour, as in Kalshi's tickers.
    year, month, rest = str(np.datetime64(time_ms, "ms")).split("-")
    return f"{year[2:]}{_MONTHS[int(month) - 1]}{rest[:2]}{rest[3:5]}"
