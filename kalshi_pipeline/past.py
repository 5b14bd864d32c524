"""What there was before a judgement: trials, courses of training, sealed sessions.

Read for an evaluation, of a plan or by hand; and the one thing that an evaluation adds to it: the
trials that it is itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.storage.checkpoints import seed_folder
from kalshi_pipeline.storage.publish import EXPORTS, Generation, Warehouse
from kalshi_pipeline.storage.trials import (
    EVALUATION,
    FORWARD,
    LIKELIEST,
    SAMPLED,
    Kind,
    digest_of,
    read_trials,
    record_rows,
    weights_of,
)

if TYPE_CHECKING:
    from kalshi_pipeline.learning.policy import NetworkPolicy
    from kalshi_pipeline.storage.checkpoints import Checkpoint

_LAST = 0.1  # of a phase's records: what its end looked like


def trials_on(warehouse: Warehouse, sessions: Iterable[int], without: str | None) -> pa.Table:
    """Every trial that was scored on any of these sessions, whatever its plan.

    Args:
        warehouse: whose ledger.
        sessions: that chose, or are judged on.
        without: digest of a recipe whose own trials do not count: a judgement repeated is none
            more. None: all count.

    Raises:
        CorruptFile: the ledger is damaged: it cannot be counted.
    """
    wanted = set(sessions)
    trials = read_trials(warehouse, without=without)
    scored = [bool(wanted & set(on)) for on in trials["sessions"].to_pylist()]
    return trials.filter(pa.array(scored, pa.bool_()))


def rules_of(trading: TradingConfig, evaluation: EvaluationConfig, min_episode_steps: int) -> str:
    """Digest of all that a judged figure may be drawn anew by: another chance is another trial.

    Args:
        trading: rules of the episodes.
        evaluation: seed, repeats and lanes decide what chance a policy has.
        min_episode_steps: shortest segment that becomes an episode.
    """
    return digest_of(
        [
            asdict(trading),
            evaluation.seed,
            evaluation.stochastic_repeats,
            evaluation.n_envs,
            min_episode_steps,
        ]
    )


def looked_forward(warehouse: Warehouse, sessions: Iterable[int]) -> set[int]:
    """Which of these sessions a forward validation has looked at, of whatever plan.

    Raises:
        CorruptFile: the ledger is damaged.
    """
    rows = trials_on(warehouse, sessions, without=None)
    looks = rows.filter(pc.equal(rows["kind"], FORWARD))
    return set(sessions) & {session for on in looks["sessions"].to_pylist() for session in on}


def candidates_of(
    policies: Iterable[NetworkPolicy],
    plan: str,
    recipe: str,
    rules: str,
    kind: Kind = EVALUATION,
) -> dict[str, dict[str, Any]]:
    """Name of each policy -> the columns of the ledger that say who it is.

    Args:
        policies: judged one and variants.
        plan: whose, or `by_hand`.
        recipe: digest of the evaluation.
        rules: see `rules_of`.
        kind: occasion on which they are scored.
    """
    return {
        policy.name: {
            "kind": kind,
            "plan": plan,
            "phase": state.phase,
            "seed": state.seed,
            "timesteps": state.timesteps_total,
            "algorithm": state.algorithm,
            "policy": SAMPLED if policy.stochastic else LIKELIEST,
            "recipe": recipe,
            "config": rules,
            "weights": weights_of(*policy.checkpoints),
        }
        for policy in policies
        for state in [policy.checkpoints[0].state]
    }


def record_judged(warehouse: Warehouse, trials: pa.Table, recipe: str) -> None:
    """Add what an evaluation judged to the ledger.

    Args:
        warehouse: whose ledger.
        trials: of the evaluation, those before it included.
        recipe: its digest.
    """
    record_rows(warehouse, trials.filter(pc.equal(trials["recipe"], recipe)))


def courses_of(phase: str, trained: Generation) -> list[dict[str, Any]]:
    """How each seed of a published phase was trained: validations, alerts, what its end was like.

    Args:
        phase: its name.
        trained: what it published.

    Raises:
        CorruptFile: published bytes have changed.
    """
    courses = []
    for entry in trained.summary["trained"]:
        folder = f"{EXPORTS}/{seed_folder(entry['seed'])}"
        course = json.loads(trained.path(f"{folder}/course.json").read_bytes())
        records = json.loads(trained.path(f"{folder}/training.json").read_bytes())
        before = entry["timesteps_total"] - entry["timesteps"]  # the parents' steps
        courses.append(
            {
                "phase": phase,
                "seed": entry["seed"],
                "run": entry.get("run"),
                "timesteps": records[-1]["timesteps"] if records else entry["timesteps"],
                "stopped": course["stopped"],
                "recipe": course.get("recipe"),
                "validations": [
                    {"timesteps_total": before + scored["timesteps"], "dollars": scored["score"]}
                    for scored in course["validations"]
                ],
                "alerts": _fired(course["alerts"]),
                **_end_of(records),
            }
        )
    return courses


def course_by_hand(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint alone tells of its training: which alerts fired, not how often."""
    state = checkpoint.state
    return {
        "phase": state.phase,
        "seed": state.seed,
        "run": None,
        "timesteps": state.timesteps,
        "stopped": bool(state.alerts.get("stop", False)),
        "recipe": None,
        "validations": [],
        "alerts": [
            {"rule": rule, "timesteps": at, "times": None, "acted": None}
            for rule, at in sorted(state.alerts.get("fired", {}).items())
        ],
        **_end_of([]),
    }


def _fired(alerts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # one line a rule: when last, how often, whether anything was done
    rules: dict[str, list[Mapping[str, Any]]] = {}
    for alert in alerts:
        rules.setdefault(alert["rule"], []).append(alert)
    return [
        {
            "rule": rule,
            "timesteps": fired[-1]["timesteps"],
            "times": len(fired),
            "acted": any(alert["acted"] for alert in fired),
        }
        for rule, fired in sorted(rules.items())
    ]


def _end_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # of the last tenth of the phase: dollars an episode, round trips won, decisions held
    shown = [entry["diagnostics"] for entry in records[-max(1, round(_LAST * len(records))) :]]
    ended = [one["ended"] for one in shown if one["ended"]]
    episodes = sum(one["episodes"] for one in ended)
    trips = sum(one["trips"] for one in ended)
    won = sum(one["trips"] * (one["trip_win_share"] or 0.0) for one in ended)
    earned = sum(one["episodes"] * one["pnl_mean"] for one in ended)
    return {
        "dollars": earned / episodes if episodes else None,
        "trips": trips,
        "win_rate": won / trips if trips else None,
        "hold_share": sum(one["action_shares"][0] for one in shown) / len(shown) if shown else None,
    }
