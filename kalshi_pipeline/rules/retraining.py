"""What must hold of a forward validation; what must hold of a retraining is what does of a phase.

Functions of what was published; Dagster's asset checks carry their findings.
"""

from __future__ import annotations

from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.rules.finding import Finding
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.storage.trials import FORWARD, read_trials


def look_is_counted(warehouse: Warehouse, forward: Generation) -> Finding:
    """The look stands in the trials ledger: nothing calls its session clean forward after it."""
    columns = read_trials(warehouse).select(["kind", "recipe", "sessions"]).to_pylist()
    told = forward.summary["trial"]
    looks = [row for row in columns if row["kind"] == FORWARD and row["recipe"] == told]
    return Finding(bool(looks), f"the trials ledger has {len(looks)} rows of this look")


def session_was_not_seen(_: Warehouse, forward: Generation) -> Finding:
    """No market of the session has reached the weights or chosen among them."""
    labels = forward.summary["labels"]
    seen = {label: labels.get(label, 0) for label in (Label.IN_SAMPLE, Label.SELECTED_ON)}
    told = ", ".join(f"{count} {label}" for label, count in labels.items())
    return Finding(not any(seen.values()), f"events by what was known of them: {told}")


def has_not_decayed(_: Warehouse, forward: Generation) -> Finding:
    """The policy does on a new session what it did in validation (docs/EVALUATION.md, "Decay")."""
    summary = forward.summary
    return Finding(not summary["decayed"], f"{summary['status']}: {summary['says']}")
