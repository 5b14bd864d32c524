"""What must hold of a plan's checkpoints and evaluation before anything is built on them.

Pure functions of what was published; Dagster's asset checks carry their verdicts. What must hold
of a session's tables stands in `expectations/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from kalshi_pipeline.storage.publish import Generation
from kalshi_pipeline.storage.tables import read_table


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule.

    Args:
        holds: whether it does.
        says: one sentence with the figures.
    """

    holds: bool
    says: str


def hold_earns_nothing(evaluation: Generation) -> Finding:
    """Doing nothing changes nothing: the first check of any account."""
    from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA

    ledger = read_table(evaluation.path("ledger.parquet"), JUDGED_SCHEMA, ["policy", "pnl_micro"])
    of_hold = ledger["pnl_micro"].to_numpy()[np.array(ledger["policy"].to_pylist()) == "Hold"]
    moved = int(np.abs(of_hold).sum())
    return Finding(
        len(of_hold) > 0 and moved == 0,
        f"Hold traded {len(of_hold)} episodes and earned {moved} micro-dollars",
    )


def report_is_complete(evaluation: Generation) -> Finding:
    """The report has its verdict, its sessions and its baselines."""
    report = json.loads(evaluation.path("report.json").read_bytes())
    wanted = (
        "schema_version", "verdict", "sessions", "criteria", "provenance", "labels", "selection",
        "decisions", "failure_modes", "recommendations",
    )  # fmt: skip
    missing = [name for name in wanted if not report.get(name)]
    return Finding(not missing, f"missing parts: {', '.join(missing) or 'none'}")


def no_used_session_is_clean(evaluation: Generation) -> Finding:
    """No row is called clean-forward of a session that weights or selection have used."""
    from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA

    report = json.loads(evaluation.path("report.json").read_bytes())
    columns = read_table(evaluation.path("ledger.parquet"), JUDGED_SCHEMA, ["session", "label"])
    clean = {
        session
        for session, label in zip(
            *(columns[name].to_pylist() for name in columns.column_names), strict=True
        )
        if label == "clean_forward"
    }
    used = {
        entry["session"]
        for entry in report["walk_forward"]["sessions"]
        if entry["markets_trained_on"] or entry["markets_selected_on"]
    }
    both = ", ".join(map(str, sorted(clean & used))) or "none"
    return Finding(
        not clean & used,
        f"{len(clean)} sessions have clean-forward rows, {len(used)} were used; both: {both}",
    )


def weights_are_sound(phase: Generation) -> Finding:
    """Every tensor of every seed's checkpoint is there, of its shape, and finite."""
    from kalshi_pipeline.errors import TrainingError
    from kalshi_pipeline.storage import checkpoints

    try:
        states = [one.state for one in checkpoints.load_seeds(phase.verified()).values()]
    except TrainingError as error:
        return Finding(False, str(error))
    markets = [len({(e.session, e.market) for e in state.lineage}) for state in states]
    steps = ", ".join(f"{state.timesteps_total:,}" for state in states)
    return Finding(min(markets) > 0, f"{steps} steps in all, {min(markets)} markets in the lineage")
