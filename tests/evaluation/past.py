"""A past without a training: trials and courses are what a test says they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kalshi_pipeline.evaluation.evidence import Past
from kalshi_pipeline.storage.trials import TRIAL_SCHEMA

PLAN = "made_up"


def trial(number: int, pnl_cents: Sequence[float], **columns: Any) -> dict[str, Any]:
    """A candidate of its own: named columns override what is plausible and dull."""
    return {
        "kind": "validation", "plan": PLAN, "phase": "phase_1", "seed": 1, "timesteps": number,
        "algorithm": "ppo", "policy": "likeliest action", "recipe": "r" * 16, "config": "c" * 16,
        "weights": f"{number:016x}", "sessions": [2],
        "events": [f"2/E{place:03d}" for place in range(len(pnl_cents))],
        "pnl_micro": [round(cents * 10_000) for cents in pnl_cents], **columns,
    }  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TRIAL_SCHEMA)


def candidate(**columns: Any) -> dict[str, Any]:
    """Who a judged policy is."""
    who = trial(0, [], kind="evaluation", policy="sampled", recipe="own", weights="j" * 16)
    return {k: v for k, v in who.items() if k not in {"sessions", "events", "pnl_micro"}} | columns


def course(phase: str = "phase_1", **columns: Any) -> dict[str, Any]:
    """A training nothing is wrong with."""
    return {
        "phase": phase, "seed": 1, "timesteps": 100_000, "stopped": False, "validations": [],
        "alerts": [], "dollars": 0.1, "trips": 50, "win_rate": 0.5, "hold_share": 0.4,
        "recipe": "r" * 16, **columns,
    }  # fmt: skip


def alert(rule: str) -> dict[str, Any]:
    return {"rule": rule, "timesteps": 1, "times": 1, "acted": False}


def validations(*dollars: float) -> list[dict[str, Any]]:
    return [{"timesteps_total": at, "dollars": score} for at, score in enumerate(dollars, 1)]


def past(
    trials: Sequence[dict[str, Any]] = (),
    courses: Sequence[dict[str, Any]] = (),
    judged: str = "PPO",
    **columns: Any,
) -> Past:
    return Past(table(trials), {judged: candidate()}, courses, **columns)
