"""The report's `features`: what the judged policy looks at, and what that is worth to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.behaviour.section import nats
from kalshi_pipeline.evaluation.behaviour.walks import Markets, walks
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.importance import (
    GROUP_CORRELATION,
    Columns,
    Differentiable,
    Visits,
    chances,
    disagreement,
    feature_groups,
    saliency,
)
from kalshi_pipeline.evaluation.policies import Player
from kalshi_pipeline.feature_table import FEATURES, TENSOR_WIDTH
from kalshi_pipeline.trading.tape import Universe, excerpt
from kalshi_pipeline.trading.visits import observations_at

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_VISITS = 1_024  # steps that are looked at
_REPLAYED = 5  # features or groups whose worth in cents is played out,
_REPLAY_STEPS = 100_000  # ... each on episodes of at most so many steps together
_NOT_REPLAYED = {"pnl_drop_cents": None, "pnl_drop_interval": None, "pnl_events": None}


def features(evidence: Evidence) -> dict[str, Any]:
    """The report's `features`; see `docs/EVALUATION.md`, "Features"."""
    judged, evaluation = evidence.case.judged, evidence.case.evaluation
    visits = _visited(evidence)
    base = chances(judged, visits.observation, visits.mask, evaluation.seed)
    together = [group for group in feature_groups(visits.observation) if len(group) > 1]
    scrambled = [*((column,) for column in range(len(FEATURES))), *together]
    evidence.progress(f"{judged.name}: {len(scrambled)} ways to scramble what it sees")
    strayed = [disagreement(judged, visits, each, base, evaluation.seed) for each in scrambled]
    drops = np.array([each.distance.mean() for each in strayed])
    intervals = _intervals(np.stack([each.distance for each in strayed]), visits, evaluation)
    drop_of = dict(zip(scrambled, drops.tolist(), strict=True))
    worth = _worth(evidence, drop_of)
    rows = [
        {
            "group": ", ".join(FEATURES[column].name for column in columns),
            "features": [FEATURES[column].name for column in columns],
            "agreement_drop_share": float(drop),
            "agreement_drop_interval": interval,
            "changed_share": float(each.changed.mean()),
            **worth.get(columns, _NOT_REPLAYED),
        }
        for columns, drop, interval, each in zip(scrambled, drops, intervals, strayed, strict=True)
    ]
    return {
        "steps": len(visits.session),
        "events": len(np.unique(visits.event)),
        "decision_nats": float(np.mean([nats(row) for row in base])),
        "group_correlation": GROUP_CORRELATION,
        "importance": sorted(rows, key=lambda row: -row["agreement_drop_share"]),
        "saliency": saliency(judged, visits) if isinstance(judged, Differentiable) else None,
    }


def _visited(evidence: Evidence) -> Visits:
    # a random sample of the judged policy's steps in scope
    case, walked = evidence.case, evidence.once(walks)
    detail, markets = walked.details[case.judged.name], walked.markets
    inside = {}
    for session, (trace, _, jobs) in detail.sessions.items():
        in_scope = markets.of_episode[session][jobs] >= 0
        inside[session] = np.flatnonzero(np.repeat(in_scope, np.diff(trace.first)))
    total = sum(map(len, inside.values()))
    rng = np.random.default_rng(case.evaluation.seed)
    drawn = np.sort(rng.choice(total, min(total, _VISITS), replace=False))
    parts = []
    for session, steps in inside.items():
        chosen, drawn = steps[drawn[drawn < len(steps)]], drawn[drawn >= len(steps)] - len(steps)
        trace, _, jobs = detail.sessions[session]
        seen = observations_at(
            case.universes[session], case.trading, jobs, trace.first, trace.action, chosen
        )
        job = np.searchsorted(trace.first, chosen, side="right") - 1
        event = markets.event[markets.of_episode[session][jobs[job]]]
        parts.append((*seen, np.full(len(chosen), session), event))
    return Visits(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _intervals(
    distance: Floats, visits: Visits, evaluation: EvaluationConfig
) -> list[Sequence[float] | None]:
    # of each row's mean over steps; events are drawn, with however many steps they have
    event = np.unique(visits.event, return_inverse=True)[1]
    units = int(event.max()) + 1
    if units < evaluation.min_units:
        return [None] * len(distance)
    sums = stats.cluster_totals(np.vstack([distance, np.ones(len(event))]).T, event)
    rng = np.random.default_rng(evaluation.seed)
    draws = stats.cluster_means(sums, np.arange(units), evaluation.resamples, rng)
    means = draws[:, :-1] / draws[:, -1:]
    return [stats.percentile_interval(row, evaluation.confidence, units) for row in means.T]


def _worth(evidence: Evidence, drop_of: Mapping[Columns, float]) -> dict[Columns, dict[str, Any]]:
    """What is looked at most is worth: the same episodes, played with its columns scrambled.

    Only what the tape shows can be scrambled over a whole episode: what an agent sees of itself
    follows from what it does. What changes no action is not played.
    """
    case, markets = evidence.case, evidence.once(walks).markets
    if not isinstance(case.judged, Player):
        return {}
    ranked = sorted(drop_of, key=lambda columns: -drop_of[columns])
    wanted = [c for c in ranked if max(c) < TENSOR_WIDTH and drop_of[c] > 0][:_REPLAYED]
    chosen = _few_episodes(evidence, markets)
    pnl = np.zeros((len(wanted) + 1, markets.events))
    for session, episodes in chosen.items():
        universe = excerpt(case.universes[session], episodes)
        event = markets.event[markets.of_episode[session][episodes]]
        for row, columns in enumerate([(), *wanted]):
            evidence.progress(f"session {session}: {case.judged.name}, scrambling {row}")
            shown = scrambled_universe(universe, columns, case.evaluation.seed)
            rng = case.rng(session, case.judged.name)
            played = case.judged.play(shown, case.trading, np.arange(len(episodes)), rng)
            np.add.at(pnl[row], event, [summary.pnl_micro for summary in played.summaries])
    there = np.unique(
        np.concatenate([markets.event[markets.of_episode[s][e]] for s, e in chosen.items()])
    )
    loss = (pnl[0] - pnl[1:])[:, there].T / MICRO_PER_CENT
    intervals = _paired(loss, case.evaluation)
    return {
        columns: {
            "pnl_drop_cents": float(loss[:, row].mean()),
            "pnl_drop_interval": intervals[row],
            "pnl_events": len(there),
        }
        for row, columns in enumerate(wanted)
    }


def _few_episodes(evidence: Evidence, markets: Markets) -> dict[int, Ints]:
    # in a fixed random order, as many as fit, and always one
    universes = evidence.case.universes
    order = [
        (session, int(episode), universe.episodes[episode].steps)
        for session, universe in sorted(universes.items())
        for episode in np.flatnonzero(markets.of_episode[session] >= 0)
    ]
    rng = np.random.default_rng(evidence.case.evaluation.seed)
    chosen: dict[int, list[int]] = {}
    room = _REPLAY_STEPS
    for place in rng.permutation(len(order)).tolist():
        session, episode, steps = order[place]
        if steps <= room or not chosen:
            chosen.setdefault(session, []).append(episode)
            room -= steps
    return {session: np.array(sorted(found), np.int64) for session, found in chosen.items()}


def scrambled_universe(universe: Universe, columns: Sequence[int], seed: int) -> Universe:
    """The episodes with some columns of their features dealt out anew among all steps."""
    features = universe.tape.features.copy()
    chosen = list(columns)
    source = np.random.default_rng((seed, *columns)).permutation(len(features))
    features[:, chosen] = universe.tape.features[source][:, chosen]
    return Universe(universe.tape._replace(features=features), universe.episodes)


def _paired(loss: Floats, evaluation: EvaluationConfig) -> list[Sequence[float] | None]:
    units, groups = loss.shape
    if units < evaluation.min_units:
        return [None] * groups
    rng = np.random.default_rng(evaluation.seed)
    draws = stats.cluster_means(loss, np.arange(units), evaluation.resamples, rng)
    return [stats.percentile_interval(row, evaluation.confidence, units) for row in draws.T]
