"""Ledger -> numbers, each defined once.

The unit is a Kalshi event within a session. An event's total is the sum, over the market segments
of the event, of the mean over a segment's repeats. "Per event" is the mean of those totals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.config import (
    CENTI_PER_CONTRACT,
    MICRO_PER_CENT,
    EvaluationConfig,
)
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS
from kalshi_pipeline.trading.actions import Action

_TOTALS = (
    "pnl_micro",
    "pnl_mid_micro",
    "fees_micro",
    "contracts_centi",
    "taker_fills",
    "maker_fills",
    "orders",
    "invalid_actions",
    "max_capital_micro",
    "round_trips",
    "winning_trips",
    *ACTION_COLUMNS,
)
# A second interval is shown where one of its ends is so much of the first one's width away.
_SHOWN_APART = 0.1


@dataclass(frozen=True)
class Panel:
    """Every market under every policy: N markets, C events, K policies.

    Args:
        policies: `[K]` names; the first is the one that is judged.
        cluster: `[N]` event of each market; events are numbered in the order in which they end.
        event_end_ms: `[C]` when the last episode of the event ends.
        totals: column of the ledger -> `[N, K]` mean over repeats, summed over segments.
        worst_drawdown_micro: `[K]` largest drawdown within one episode.
        worst_drawdown_share: `[K]` largest ratio of an episode's drawdown to the most cash tied up
            in it; NaN where none tied up any.
        episodes: market segments, repeats not counted.
    """

    policies: tuple[str, ...]
    cluster: NDArray[np.int64]
    event_end_ms: NDArray[np.int64]
    totals: dict[str, NDArray[np.float64]]
    worst_drawdown_micro: NDArray[np.int64]
    worst_drawdown_share: NDArray[np.float64]
    episodes: int

    @property
    def events(self) -> int:
        """C, the number of independent units."""
        return len(self.event_end_ms)

    def per_event(self, column: str) -> NDArray[np.float64]:
        """`[C, K]` totals of each event."""
        totals = np.zeros((self.events, len(self.policies)))
        np.add.at(totals, self.cluster, self.totals[column])
        return totals


@dataclass(frozen=True)
class PolicyMetrics:
    """One policy on one set of episodes; None where a number has no meaning or no support.

    Money is in cents with fees and the liquidation mark, totals are per event. A round trip is a
    FIFO lot (`trades.lots`), closed by opposite fills, settlement or liquidation at the end.
    """

    policy: str
    pnl_cents: float  # the primary number
    pnl_interval: Interval | None
    pnl_bca_interval: Interval | None  # only where an end is elsewhere by a tenth of the width
    difference_cents: float | None  # judged policy minus this one, paired by event
    difference_interval: Interval | None
    pnl_mid_cents: float  # end marked at mid, for comparison only
    pnl_episode_cents: float  # per market segment instead of per event
    return_on_capital: float | None  # P&L / largest cash tied up, both summed over episodes
    sharpe: float | None  # mean / standard deviation of event totals, not annualised
    sharpe_interval: Interval | None
    detectable_cents: float | None  # smallest mean found with 80 % power at this many events
    positive_events: int  # events with P&L above 0
    positive_share: float
    positive_interval: Interval | None
    round_trips: float
    win_rate: float | None  # trips with P&L above 0 / trips, forced ones included
    win_interval: Interval | None
    max_drawdown_cents: float  # worst within one episode
    max_drawdown_share: float | None  # worst within one, of the most cash tied up in it
    fees_cents: float
    contracts: float
    orders: float
    fills_per_order: float | None
    maker_share: float | None  # of fills
    hold_share: float
    invalid_share: float
    action_shares: tuple[float, ...]
    best_event_share: float | None  # best event / sum of events above 0
    pnl_without_best_cents: float | None  # per event, the best event left out


def panel(ledger: pa.Table, policies: Sequence[str]) -> Panel:
    """Sum a ledger up by market and event.

    Args:
        ledger: rows of `ledger.LEDGER_SCHEMA`, at least one; every policy on the same episodes.
        policies: order of the columns, the judged one first.
    """
    market = _codes(ledger, "session", "event", "market")
    cluster_key = _codes(ledger, "session", "event")
    segment = _codes(ledger, "session", "market", "segment")
    column = np.array([list(policies).index(name) for name in ledger["policy"].to_pylist()])
    n, k = int(market.max()) + 1, len(policies)
    repeats = np.bincount(segment * k + column)[segment * k + column]
    totals: dict[str, NDArray[np.float64]] = {}
    for name in _TOTALS:
        shares = _numbers(ledger, name) / repeats
        sums = np.bincount(market * k + column, shares, minlength=n * k).astype(np.float64)
        totals[name] = sums.reshape(n, k)
    end_ms = np.zeros(int(cluster_key.max()) + 1, dtype=np.int64)
    np.maximum.at(end_ms, cluster_key, _numbers(ledger, "end_ms"))
    order = np.argsort(end_ms, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    event_of_market = np.empty(n, dtype=np.int64)
    event_of_market[market] = rank[cluster_key]
    drawdown, share = _worst_drawdown(ledger, column, k)
    return Panel(
        policies=tuple(policies),
        cluster=event_of_market,
        event_end_ms=end_ms[order],
        totals=totals,
        worst_drawdown_micro=drawdown,
        worst_drawdown_share=share,
        episodes=int(segment.max()) + 1,
    )


def measure(data: Panel, evaluation: EvaluationConfig) -> tuple[PolicyMetrics, ...]:
    """Every number of every policy, `[K]`; intervals only from `min_units` events on."""
    enough = data.events >= evaluation.min_units
    draws = _bootstrap(data, evaluation) if enough else None
    return tuple(_measure_one(data, k, draws, evaluation) for k in range(len(data.policies)))


@dataclass(frozen=True)
class _Draws:
    """Bootstrap means per event, each `[resamples, K]`, all from the same resamples."""

    pnl_cents: NDArray[np.float64]
    trips: NDArray[np.float64]
    wins: NDArray[np.float64]


def _bootstrap(data: Panel, evaluation: EvaluationConfig) -> _Draws:
    columns = ("pnl_micro", "round_trips", "winning_trips")
    means = stats.cluster_means(
        np.hstack([data.totals[name] for name in columns]),
        data.cluster,
        evaluation.resamples,
        np.random.default_rng(evaluation.seed),
    )
    pnl, trips, wins = np.hsplit(means, len(columns))
    return _Draws(pnl / MICRO_PER_CENT, trips, wins)


def _measure_one(
    data: Panel, k: int, draws: _Draws | None, evaluation: EvaluationConfig
) -> PolicyMetrics:
    total = {name: float(values[:, k].sum()) for name, values in data.totals.items()}
    per_event = {name: value / data.events for name, value in total.items()}
    event_pnl = data.per_event("pnl_micro") / MICRO_PER_CENT
    pnl = event_pnl[:, k]
    positive = int(np.count_nonzero(pnl > 0))
    fills = total["taker_fills"] + total["maker_fills"]
    decisions = sum(total[name] for name in ACTION_COLUMNS)
    shares = tuple(_ratio(total[name], decisions) or 0.0 for name in ACTION_COLUMNS)
    drawdown = float(data.worst_drawdown_micro[k])
    return PolicyMetrics(
        policy=data.policies[k],
        pnl_cents=float(pnl.mean()),
        difference_cents=float((event_pnl[:, 0] - pnl).mean()) if k else None,
        pnl_mid_cents=per_event["pnl_mid_micro"] / MICRO_PER_CENT,
        pnl_episode_cents=total["pnl_micro"] / MICRO_PER_CENT / data.episodes,
        return_on_capital=_ratio(total["pnl_micro"], total["max_capital_micro"]),
        sharpe=stats.sharpe_per_unit(pnl),
        positive_events=positive,
        positive_share=positive / data.events,
        round_trips=per_event["round_trips"],
        win_rate=_ratio(total["winning_trips"], total["round_trips"]),
        max_drawdown_cents=drawdown / MICRO_PER_CENT,
        max_drawdown_share=_known(float(data.worst_drawdown_share[k])) if drawdown else 0.0,
        fees_cents=per_event["fees_micro"] / MICRO_PER_CENT,
        contracts=per_event["contracts_centi"] / CENTI_PER_CONTRACT,
        orders=per_event["orders"],
        fills_per_order=_ratio(fills, total["orders"]),
        maker_share=_ratio(total["maker_fills"], fills),
        hold_share=shares[Action.HOLD],
        invalid_share=_ratio(total["invalid_actions"], decisions) or 0.0,
        action_shares=shares,
        best_event_share=_ratio(float(pnl.max()), float(pnl[pnl > 0].sum())),
        pnl_without_best_cents=_without_best(pnl),
        **_intervals(pnl, positive, k, draws, evaluation),
    )


def _intervals(
    pnl: NDArray[np.float64],
    positive: int,
    k: int,
    draws: _Draws | None,
    evaluation: EvaluationConfig,
) -> dict[str, Any]:
    confidence = evaluation.confidence
    if draws is None:
        names = ("pnl", "pnl_bca", "difference", "sharpe", "positive", "win")
        return {**{f"{name}_interval": None for name in names}, "detectable_cents": None}
    units = len(pnl)
    trips = draws.trips[:, k]
    difference = draws.pnl_cents[:, 0] - draws.pnl_cents[:, k]
    pnl_interval = stats.percentile_interval(draws.pnl_cents[:, k], confidence, units)
    jackknife = stats.jackknife_means(pnl)
    bca = stats.bca_interval(draws.pnl_cents[:, k], float(pnl.mean()), jackknife, confidence, units)
    return {
        "pnl_interval": pnl_interval,
        "pnl_bca_interval": bca if _differ(pnl_interval, bca) else None,
        "difference_interval": stats.percentile_interval(difference, confidence, units)
        if k
        else None,
        "sharpe_interval": stats.sharpe_interval(pnl, confidence),
        "positive_interval": stats.wilson_interval(positive, units, confidence),
        "win_interval": stats.percentile_interval(draws.wins[:, k] / trips, confidence, units)
        if np.all(trips > 0)
        else None,
        "detectable_cents": stats.smallest_detectable_effect(
            float(np.std(pnl, ddof=1)), units, confidence
        ),
    }


def _differ(percentile: Interval, bca: Interval) -> bool:
    apart = max(abs(bca.low - percentile.low), abs(bca.high - percentile.high))
    return apart > _SHOWN_APART * (percentile.high - percentile.low)


def _worst_drawdown(
    ledger: pa.Table, column: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    drawdown = _numbers(ledger, "max_drawdown_micro")
    capital = _numbers(ledger, "max_capital_micro")
    worst = np.zeros(k, dtype=np.int64)
    np.maximum.at(worst, column, drawdown)
    # the largest ratio may be of another episode than the largest amount
    share, tied = np.full(k, np.nan), capital > 0
    np.fmax.at(share, column[tied], drawdown[tied] / capital[tied])
    return worst, share


def _codes(ledger: pa.Table, *columns: str) -> NDArray[np.int64]:
    """`[rows]` one number for each distinct combination, in the order of the sorted values."""
    codes = np.zeros(ledger.num_rows, dtype=np.int64)
    for name in columns:
        _, inverse = np.unique(np.asarray(ledger[name].to_pylist()), return_inverse=True)
        codes = codes * (int(inverse.max()) + 1) + inverse
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _numbers(ledger: pa.Table, column: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = ledger[column].to_numpy()
    return values


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _without_best(pnl: NDArray[np.float64]) -> float | None:
    return float((pnl.sum() - pnl.max()) / (len(pnl) - 1)) if len(pnl) > 1 else None
