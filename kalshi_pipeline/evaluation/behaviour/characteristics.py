"""Which markets a policy earned in: what could be seen of an event, against its P&L.

Exploratory: a dozen characteristics are looked at after the fact, and averages over an event's life
are known to nobody who still could choose it. What shows here is a question for other sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.behaviour.states import (
    TIERS,
    seconds_to_close_of,
    spread_of,
    volatility_of,
)
from kalshi_pipeline.evaluation.behaviour.walks import Markets
from kalshi_pipeline.feature_table import COLUMN, MAX_CONTRACTS, MAX_RATE_HZ
from kalshi_pipeline.trading.tape import Universe

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

START, AVERAGE = "at its first step", "average over its steps"
TERCILES = ("lowest third", "middle third", "highest third")
_RESAMPLES = 2_000  # every one is ranked anew
_BLOCK = 1 << 21  # ranks at a time
_UNITS = {
    "spread": "cents",
    "volatility": "cents in 60 s",
    "update_rate": "updates a second",
    "near_size": "contracts within 5 cents of the touch",
    "touch_size": "contracts at the touch",
    "distance_from_50": "cents",
    "time_to_close": "s",
}
_AT_START = ("spread", "near_size", "distance_from_50", "time_to_close")
_SIDES = ("bid", "ask")
_LOG_CONTRACTS = np.log1p(MAX_CONTRACTS)


class Characteristic(NamedTuple):
    """Something that can be seen of an event.

    Args:
        name: how the report calls it.
        unit: of its values.
        known: when it can be seen.
        values: `[C]` of each event, NaN where it has none.
    """

    name: str
    unit: str
    known: str
    values: Floats


def market_characteristics(
    universes: Mapping[int, Universe],
    markets: Markets,
    pnl_micro: Floats,
    evaluation: EvaluationConfig,
) -> dict[str, Any]:
    """Rank correlations with P&L, thirds, and kinds of events.

    Args:
        universes: session -> its episodes.
        markets: those the report is about.
        pnl_micro: `[C]` of each event.
        evaluation: seed, confidence, and the fewest events an interval is claimed from.
    """
    pnl = pnl_micro / MICRO_PER_CENT
    seen = characteristics(universes, markets)
    found = [_correlation(one, pnl, evaluation) for one in seen]
    p_values = [row["p_value"] for row in found]
    tested = [place for place, p in enumerate(p_values) if p is not None]
    adjusted = stats.holm(np.array([p_values[place] for place in tested])) if tested else ()
    for place, p in zip(tested, adjusted, strict=True):
        found[place]["p_holm"] = float(p)
    return {
        "note": "Exploratory and with hindsight: many characteristics, one sample, looked at after "
        "the fact. Not a rule to choose markets by until other sessions show it.",
        "correlations": found,
        "thirds": [row for one in seen for row in _thirds(one, pnl, evaluation)],
        "kinds": _kinds(universes, markets, pnl, evaluation),
    }


def characteristics(
    universes: Mapping[int, Universe], markets: Markets
) -> tuple[Characteristic, ...]:
    """What can be seen of each event in scope."""
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    first: dict[str, Floats] = {}
    began = np.full(markets.events, np.iinfo(np.int64).max)
    for session in markets.sessions:
        universe = universes[session]
        per_step = _per_step(universe)
        for index, event, steps in _segments(universe, markets, session):
            early = universe.episodes[index].start_ms < began[event]
            began[event] = min(began[event], universe.episodes[index].start_ms)
            for name, values in per_step.items():
                own = values[steps]
                real = ~np.isnan(own)
                for table, value in ((sums, own[real].sum()), (counts, np.count_nonzero(real))):
                    table.setdefault(name, np.zeros(markets.events))[event] += value
                if early:
                    first.setdefault(name, np.full(markets.events, np.nan))[event] = own[0]
    averages = [
        Characteristic(
            name, _UNITS[name], AVERAGE,
            np.where(counts[name] > 0, sums[name] / np.maximum(counts[name], 1), np.nan),
        )
        for name in sums if name != "time_to_close"
    ]  # fmt: skip
    starts = [
        Characteristic(name, _UNITS[name], START, first[name])
        for name in _AT_START
        if name in first
    ]
    return (*starts, *averages)


def _per_step(universe: Universe) -> dict[str, Floats]:
    """Name -> `[T]` value at each step of a session."""
    features = universe.tape.features

    def column(name: str) -> Floats:
        return features[:, COLUMN[name]].astype(np.float64)

    def contracts(name: str) -> Floats:
        bids, asks = (np.expm1(column(f"{name}_{side}") * _LOG_CONTRACTS) for side in _SIDES)
        return np.asarray(bids + asks)

    return {
        "spread": spread_of(universe),
        "volatility": volatility_of(universe),
        "update_rate": np.expm1(column("update_rate_60s") * np.log1p(MAX_RATE_HZ)),
        "near_size": contracts("near_size"),
        "touch_size": contracts("touch_size"),
        "distance_from_50": 100.0 * np.abs(column("mid") - 0.5),
        "time_to_close": seconds_to_close_of(universe),
    }


def _segments(
    universe: Universe, markets: Markets, session: int
) -> Iterator[tuple[int, int, slice]]:
    # episode, its event, its steps
    tape = universe.tape
    for index, market in enumerate(markets.of_episode[session].tolist()):
        if market >= 0:
            steps = slice(int(tape.first_step[index]), int(tape.end_step[index]))
            yield index, int(markets.event[market]), steps


def _correlation(one: Characteristic, pnl: Floats, evaluation: EvaluationConfig) -> dict[str, Any]:
    """Spearman's, with a bootstrap interval over events and a permutation test."""
    there = ~np.isnan(one.values)
    pairs = np.stack([one.values[there], pnl[there]])
    n = pairs.shape[1]
    row: dict[str, Any] = {
        "characteristic": one.name, "unit": one.unit, "known": one.known, "events": n,
        "rank_correlation": None, "interval": None, "p_value": None, "p_holm": None,
    }  # fmt: skip
    if n < 2 or np.any(np.ptp(pairs, axis=1) == 0):
        return row
    estimate = float(rank_correlations(pairs[:, None, :])[0])
    row["rank_correlation"] = estimate
    if n < evaluation.min_units:
        return row
    rng = np.random.default_rng(evaluation.seed)
    blocks = np.array_split(np.arange(_RESAMPLES), max(1, _RESAMPLES * n // _BLOCK))
    drawn, dealt = [], []
    for block in blocks:
        drawn.append(rank_correlations(pairs[:, rng.integers(n, size=(len(block), n))]))
        deal = np.argsort(rng.random((len(block), n)), axis=1)
        left = np.broadcast_to(pairs[0], deal.shape)
        dealt.append(rank_correlations(np.stack([left, pairs[1][deal]])))
    row["interval"] = stats.percentile_interval(
        np.nan_to_num(np.concatenate(drawn)), evaluation.confidence, n
    )
    as_far = np.abs(np.concatenate(dealt)) >= abs(estimate) - 1e-12
    row["p_value"] = float((1 + np.count_nonzero(as_far)) / (1 + _RESAMPLES))
    return row


def rank_correlations(pairs: Floats) -> Floats:
    """`[r]` Spearman's rank correlation of r samples `[2, r, n]`; NaN where all ranks are tied."""
    from scipy.stats import rankdata

    ranks = rankdata(pairs, axis=2)
    ranks -= ranks.mean(axis=2, keepdims=True)
    scale = np.sqrt((ranks**2).sum(axis=2).prod(axis=0))
    with np.errstate(invalid="ignore"):
        correlations: Floats = (ranks[0] * ranks[1]).sum(axis=1) / scale
    return correlations


def _thirds(
    one: Characteristic, pnl: Floats, evaluation: EvaluationConfig
) -> Iterator[dict[str, Any]]:
    there = np.flatnonzero(~np.isnan(one.values))
    order = there[np.argsort(one.values[there], kind="stable")]
    for label, events in zip(TERCILES, np.array_split(order, len(TERCILES)), strict=True):
        if len(events):
            yield {
                "characteristic": one.name,
                "known": one.known,
                "third": label,
                "low": float(one.values[events[0]]),
                "high": float(one.values[events[-1]]),
                **_mean(pnl[events], evaluation),
            }


def _kinds(
    universes: Mapping[int, Universe],
    markets: Markets,
    pnl: Floats,
    evaluation: EvaluationConfig,
) -> list[dict[str, Any]]:
    """Events by series, by how active the most active market is, by whether they settled."""
    series, tier, settled = (np.full(markets.events, "", object) for _ in range(3))
    places = {name: place for place, name in enumerate(TIERS)}
    for session in markets.sessions:
        universe = universes[session]
        for index, event, _ in _segments(universe, markets, session):
            episode = universe.episodes[index]
            series[event] = episode.market.split("-")[0]
            if places.get(episode.tier, 9) <= places.get(str(tier[event]), 9):
                tier[event] = episode.tier
            settled[event] = "yes" if episode.settles or settled[event] == "yes" else "no"
    rows = []
    for name, kinds in (("series", series), ("tier", tier), ("settles", settled)):
        for kind in sorted(set(kinds.tolist())):
            chosen: Sequence[float] = pnl[kinds == kind]
            rows.append({"characteristic": name, "kind": kind, **_mean(chosen, evaluation)})
    return rows


def _mean(pnl: Any, evaluation: EvaluationConfig) -> dict[str, Any]:
    n = len(pnl)
    interval = None
    if n >= evaluation.min_units:
        rng = np.random.default_rng(evaluation.seed)
        means = stats.cluster_means(pnl[:, None], np.arange(n), evaluation.resamples, rng)
        interval = stats.percentile_interval(means[:, 0], evaluation.confidence, n)
    return {"events": n, "pnl_cents": float(np.mean(pnl)), "pnl_interval": interval}
