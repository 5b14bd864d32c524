"""The report's `behaviour`: what a policy does where, and what came of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import (
    ACTION_DOMINATES_SHARE,
    CENTI_PER_CONTRACT,
    HOLD_DOMINATES_SHARE,
    MICRO_PER_CENT,
    EvaluationConfig,
)
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.behaviour.characteristics import market_characteristics
from kalshi_pipeline.evaluation.behaviour.states import (
    DIMENSIONS,
    SPREAD,
    Dimension,
    codes_of,
    volatility_of,
    with_market_edges,
)
from kalshi_pipeline.evaluation.behaviour.steps import (
    Tally,
    event_pnl_micro,
    held_before,
    lasted_ms,
    tally,
)
from kalshi_pipeline.evaluation.behaviour.walks import Detail, Markets, walks
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.trading.actions import ACTIONS, Action

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def behaviour(evidence: Evidence) -> dict[str, Any]:
    """The section; see `docs/EVALUATION.md`, "Behaviour"."""
    case = evidence.case
    walked = evidence.once(walks)
    markets, start_micro = walked.markets, case.trading.cash_start_micro
    looked_at = _steps_in_scope(evidence, markets)
    volatility = [volatility_of(case.universes[s])[steps] for s, steps in looked_at.items()]
    dimensions = with_market_edges(DIMENSIONS, volatility)
    codes = {session: codes_of(case.universes[session], dimensions) for session in looked_at}
    rows: list[dict[str, Any]] = []
    for name, detail in walked.details.items():
        sums = tally(detail, case.universes, codes, markets, dimensions, start_micro)
        for dimension in dimensions:
            summed = sums[dimension.name]
            rows += _buckets(name, dimension, summed, detail.repeats, markets, case.evaluation)
    judged = walked.details[case.judged.name]
    shares = _action_shares(rows, case.judged.name)
    return {
        "policies": list(walked.details),
        "actions_by_spread": [
            {key: row[key] for key in ("bucket", "low", "high", "events", "steps_share", "actions")}
            for row in rows
            if row["dimension"] == SPREAD.name and row["policy"] == case.judged.name
        ],
        "actions": dict(zip(_names(), shares.tolist(), strict=True)),
        "entropy": _entropy(shares, judged, markets),
        "hold_share": float(shares[Action.HOLD]),
        "inventory": _inventory(evidence, judged, markets),
        "collapse": _collapse(shares),
        "action_hash": action_hash(judged),
        "buckets": rows,
        "market_characteristics": market_characteristics(
            case.universes, markets, event_pnl_micro(judged, markets, start_micro), case.evaluation
        ),
    }


def action_hash(detail: Detail) -> str:
    """SHA-256 of every action, sessions ascending, jobs and steps in order: one byte a step."""
    digest = hashlib.sha256()
    for session in sorted(detail.sessions):
        digest.update(detail.sessions[session].trace.action.tobytes())
    return digest.hexdigest()


def _steps_in_scope(evidence: Evidence, markets: Markets) -> dict[int, NDArray[np.bool_]]:
    # session -> [T] whether a step of the tape is one of the report's; sessions with none left out
    found = {}
    for session in markets.sessions:
        tape = evidence.case.universes[session].tape
        in_scope = markets.of_episode[session] >= 0
        found[session] = np.repeat(in_scope, tape.end_step - tape.first_step)
    return found


def _names() -> list[str]:
    return [action.name for action in Action]


def _buckets(
    policy: str,
    dimension: Dimension,
    sums: Tally,
    repeats: int,
    markets: Markets,
    evaluation: EvaluationConfig,
) -> list[dict[str, Any]]:
    """A row a bucket: P&L per event of all events, so that a dimension's sum to the P&L."""
    steps = sums.actions.sum(axis=2)  # [N, B]
    present = np.zeros((markets.events, steps.shape[1]), np.bool_)
    np.logical_or.at(present, markets.event, steps > 0)
    events = present.sum(axis=0)
    intervals = _intervals(sums, repeats, markets, events, evaluation)
    of_event = 1.0 / (repeats * markets.events)
    rows = []
    for bucket, label in enumerate(dimension.buckets):
        if not events[bucket]:
            continue
        actions = sums.actions[:, bucket].sum(axis=0)
        count = float(actions.sum())
        low, high = dimension.bounds(bucket)
        rows.append(
            {
                "dimension": dimension.name,
                "unit": dimension.unit,
                "bucket": label,
                "low": low,
                "high": high,
                "policy": policy,
                "events": int(events[bucket]),
                "steps": count / repeats,
                "steps_share": count / float(steps.sum()),
                "pnl_cents": float(sums.pnl_micro[:, bucket].sum()) * of_event / MICRO_PER_CENT,
                "pnl_interval": intervals[bucket][0],
                "contracts": float(sums.contracts_centi[:, bucket].sum())
                * of_event
                / CENTI_PER_CONTRACT,
                "actions": dict(zip(_names(), (actions / count).tolist(), strict=True)),
                "action_intervals": intervals[bucket][1],
            }
        )
    return rows


def _intervals(
    sums: Tally, repeats: int, markets: Markets, events: Ints, evaluation: EvaluationConfig
) -> list[tuple[Any, Any]]:
    """P&L and action shares of each bucket; None where too few events ever were in it."""
    n, width = sums.pnl_micro.shape
    none: list[tuple[Any, Any]] = [(None, None)] * width
    if events.max(initial=0) < evaluation.min_units:
        return none
    columns = np.hstack([sums.pnl_micro, sums.actions.reshape(n, -1)]) / repeats
    rng = np.random.default_rng(evaluation.seed)
    draws = stats.cluster_means(columns, markets.event, evaluation.resamples, rng)
    return [
        _bucket_intervals(draws, width, bucket, int(events[bucket]), evaluation)
        if events[bucket] >= evaluation.min_units
        else (None, None)
        for bucket in range(width)
    ]


def _bucket_intervals(
    draws: Floats, width: int, bucket: int, events: int, evaluation: EvaluationConfig
) -> tuple[Sequence[float], dict[str, Sequence[float]] | None]:
    pnl = draws[:, bucket] / MICRO_PER_CENT
    first = width + bucket * ACTIONS
    actions = draws[:, first : first + ACTIONS]
    count = actions.sum(axis=1, keepdims=True)
    interval = stats.percentile_interval(pnl, evaluation.confidence, events)
    if not np.all(count > 0):
        return interval, None
    shares = actions / count
    return interval, {
        name: stats.percentile_interval(shares[:, place], evaluation.confidence, events)
        for place, name in enumerate(_names())
    }


def _action_shares(rows: Sequence[Mapping[str, Any]], policy: str) -> Floats:
    # of all steps: the buckets of any one dimension together are all of them
    counts = np.zeros(ACTIONS)
    for row in rows:
        if row["policy"] == policy and row["dimension"] == SPREAD.name:
            counts += row["steps"] * np.array(list(row["actions"].values()))
    return np.asarray(counts / max(counts.sum(), 1.0))


def _entropy(shares: Floats, detail: Detail, markets: Markets) -> dict[str, float | None]:
    """Of all actions together, and of each episode's on average; nats, and share of ln 7."""
    episodes = []
    for session, (trace, _, jobs) in detail.sessions.items():
        of_step = np.repeat(np.arange(len(jobs)), np.diff(trace.first))
        counts = np.bincount(of_step * ACTIONS + trace.action, minlength=len(jobs) * ACTIONS)
        table = counts.reshape(len(jobs), ACTIONS)
        inside = (markets.of_episode[session][jobs] >= 0) & (table.sum(axis=1) > 0)
        episodes += [nats(row / row.sum()) for row in table[inside]]
    pooled = nats(shares)
    return {
        "nats": pooled,
        "share_of_most": pooled / math.log(ACTIONS),
        "episode_nats": float(np.mean(episodes)) if episodes else None,
    }


def nats(shares: Floats) -> float:
    """Entropy of `[7]` shares."""
    taken = shares[shares > 0]
    return float(-(taken * np.log(taken)).sum()) + 0.0


def _inventory(evidence: Evidence, detail: Detail, markets: Markets) -> dict[str, Any]:
    """What was held, by market time."""
    held, weight, final = [], [], []
    for session, (trace, _, jobs) in detail.sessions.items():
        inside = markets.of_episode[session][jobs] >= 0
        steps = np.repeat(inside, np.diff(trace.first))
        held.append(held_before(trace)[steps])
        weight.append(lasted_ms(evidence.case.universes[session].tape, trace)[steps])
        final.append(trace.position_centi[trace.first[1:] - 1][inside])
    centi, lasted, last = (np.concatenate(part) for part in (held, weight, final))
    total = max(float(lasted.sum()), 1.0)
    return {
        "time_in_position_share": float(lasted[centi != 0].sum()) / total,
        "long_share": float(lasted[centi > 0].sum()) / total,
        "short_share": float(lasted[centi < 0].sum()) / total,
        "at_limit_share": float(
            lasted[np.abs(centi) >= evidence.case.trading.position_limit_centi].sum()
        )
        / total,
        "held_at_end_share": float(np.mean(last != 0)) if len(last) else 0.0,
        "quantiles": [
            {"quantile": share, "contracts": value / CENTI_PER_CONTRACT}
            for share, value in zip(_QUANTILES, weighted_quantiles(centi, lasted), strict=True)
        ],
    }


def weighted_quantiles(values: Ints, weights: Ints) -> list[float]:
    """`_QUANTILES` of values that last for different times; the smallest that reach the share."""
    distinct, place = np.unique(values, return_inverse=True)
    lasted = np.bincount(place, weights, minlength=len(distinct))
    there = lasted > 0
    distinct, reached = distinct[there], np.cumsum(lasted[there])
    if not len(distinct):
        return [0.0] * len(_QUANTILES)
    wanted = np.searchsorted(reached, np.array(_QUANTILES) * reached[-1], side="left")
    return [float(distinct[min(index, len(distinct) - 1)]) for index in wanted]


def _collapse(shares: Floats) -> list[dict[str, Any]]:
    """The alarms of training (`docs/TRAINING.md`) over all steps that were judged."""
    most = int(shares.argmax())
    seen = (
        ("action_dominates", Action(most), float(shares[most]), ACTION_DOMINATES_SHARE),
        ("hold_dominates", Action.HOLD, float(shares[Action.HOLD]), HOLD_DOMINATES_SHARE),
    )
    return [
        {"alarm": rule, "action": action.name, "share": share, "threshold": threshold,
         "fires": share > threshold}
        for rule, action, share, threshold in seen
    ]  # fmt: skip
