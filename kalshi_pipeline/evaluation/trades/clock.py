"""All episodes as one portfolio, on a clock that no policy and no market sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.trading.record import Played
from kalshi_pipeline.trading.tape import Tape

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
GRID_MS = 300_000
YEAR_MS = 365 * 86_400_000
MIN_SPAN_MS = 30 * 86_400_000  # an annualised figure of less is an extrapolation


@dataclass(frozen=True)
class Path:
    """Sums over episodes at clock ticks.

    Args:
        tick: `[G]` times of `GRID_MS`, ascending.
        gain_micro: `[G]` change of liquidation equity since the tick before.
        capital_micro: `[G]` cash tied up.
    """

    tick: Ints
    gain_micro: Floats
    capital_micro: Floats

    @property
    def equity_micro(self) -> Floats:
        """`[G]` profit so far."""
        return np.cumsum(self.gain_micro)


@dataclass(frozen=True)
class InTime:
    """Figures of a path; None where it has no meaning.

    Args:
        sharpe: mean / standard deviation of the gains from tick to tick.
        hac_error: its standard error, gains being correlated in time.
        annual_sharpe: the same a year, only where the ticks span 30 days.
        max_drawdown_cents: largest fall of equity from its peak, at ticks.
        max_drawdown_share: of the most capital tied up at a tick.
    """

    ticks: int
    sharpe: float | None
    hac_error: float | None
    annual_sharpe: float | None
    max_drawdown_cents: float
    max_drawdown_share: float | None
    max_capital_cents: float


def path_of(tape: Tape, played: Played, start_micro: int, weight: Floats) -> Path:
    """The path of what was played in one session.

    Before its first step an episode has gained nothing, after its last step what it gained.

    Args:
        tape: of the universe.
        played: K jobs, with a trace.
        start_micro: equity an episode starts with.
        weight: `[K]` what a job counts; 0 leaves it out.
    """
    jobs, trace = np.flatnonzero(weight > 0), played.trace
    if not len(jobs) or trace is None:
        return Path(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    time_ms = tape.time_ms[tape.step_row[trace.step + 1]]  # of what a step led to
    low = int(tape.time_ms[tape.step_row[trace.step[trace.first[jobs]]]].min()) // GRID_MS
    high = -(-int(time_ms[trace.first[jobs + 1] - 1].max()) // GRID_MS)
    tick = np.arange(low, high + 1)
    equity, capital = np.zeros(len(tick)), np.zeros(len(tick))
    _add_up(
        jobs, trace.first, time_ms, trace.equity_micro - start_micro, trace.capital_micro,
        weight, tick * GRID_MS, equity, capital,
    )  # fmt: skip
    return Path(tick, np.diff(equity, prepend=0.0), capital)


@kernel
def _add_up(
    jobs: Ints,
    first: Ints,
    time_ms: Ints,
    gained: Ints,
    tied: Ints,
    weight: Floats,
    tick_ms: Ints,
    equity: Floats,
    capital: Floats,
) -> None:
    for job in jobs:
        at, end = first[job], first[job + 1]
        for g in range(len(tick_ms)):
            while at < end and time_ms[at] <= tick_ms[g]:
                at += 1
            if at > first[job]:
                equity[g] += weight[job] * gained[at - 1]
                if at < end:  # afterwards nothing is tied up
                    capital[g] += weight[job] * tied[at - 1]


def pooled(paths: Sequence[Path]) -> Path:
    """Several sessions as one path; between them no tick is counted."""
    ticks = np.concatenate([path.tick for path in paths])
    tick, place = np.unique(ticks, return_inverse=True)
    gains = np.concatenate([path.gain_micro for path in paths])
    capital = np.concatenate([path.capital_micro for path in paths])
    return Path(
        tick,
        np.bincount(place, gains, len(tick)).astype(np.float64),
        np.bincount(place, capital, len(tick)).astype(np.float64),
    )


def in_time(path: Path) -> InTime:
    """Figures of a pooled path."""
    equity = path.equity_micro
    peak = np.maximum.accumulate(np.maximum(equity, 0.0))
    fall = float((peak - equity).max(initial=0.0))
    capital = float(path.capital_micro.max(initial=0.0))
    gains = path.gain_micro[1:]  # nothing is gained up to the first tick
    sharpe, error = sharpe_in_time(gains)
    span_ms = GRID_MS * len(gains)
    annual = None
    if sharpe is not None and span_ms >= MIN_SPAN_MS:
        annual = sharpe * math.sqrt(YEAR_MS / GRID_MS)
    return InTime(
        ticks=len(path.tick),
        sharpe=sharpe,
        hac_error=error,
        annual_sharpe=annual,
        max_drawdown_cents=fall / 10_000,
        max_drawdown_share=fall / capital if capital > 0 else None,
        max_capital_cents=capital / 10_000,
    )


def sharpe_in_time(gains: Floats) -> tuple[float | None, float | None]:
    """Mean / standard deviation of `[n]` gains and its standard error, correlation allowed for.

    The error is that of the generalised method of moments with Newey and West's weights up to
    4 (n / 100)^(2/9) lags.

    Source: Lo 2002, "The Statistics of Sharpe Ratios", equations 11 to 17; Newey and West 1994 for
    the lags. statsmodels has the weights, and would be a large dependency for ten lines.
    """
    n = len(gains)
    deviation = float(np.std(gains)) if n > 1 else 0.0
    if deviation <= 0.0:
        return None, None
    mean = float(gains.mean())
    standard = (gains - mean) / deviation
    sharpe = mean / deviation
    influence = standard - sharpe / 2.0 * (standard**2 - 1.0)
    return sharpe, math.sqrt(long_run_variance(influence) / n)


def long_run_variance(values: Floats) -> float:
    """Newey and West's long-run variance of `[n]` values."""
    n = len(values)
    centred = values - values.mean()
    lags = min(n - 1, math.floor(4.0 * (n / 100.0) ** (2.0 / 9.0)))
    total = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * float(centred[lag:] @ centred[:-lag]) / n
    return total
