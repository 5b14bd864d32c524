"""The training plan's failure modes (section 6.1): was each seen, by which figures, what helps.

"Seen" is a rule over figures, never a feeling; "not seen" says that the rule did not hold, not that
the danger is gone; without its figures a mode is "not assessable".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from kalshi_pipeline.config import MICRO_PER_CENT
from kalshi_pipeline.evaluation.decisions import fired, overfits, validations
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.grid import MARKS
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.metrics import panel
from kalshi_pipeline.evaluation.verdict import Cell

Status = Literal["seen", "not seen", "not assessable"]
MOST_HOLD = 0.90  # plan, section 6.2
MOST_FORGOTTEN = 0.30  # of the earlier score: plan, section 6.2, "validation performance drop"
FLOOR_CENTS = 10.0  # ... and of this where that is nearer to 0: `validation_floor_dollars`
MOST_INVALID = 0.10  # of decisions


@dataclass(frozen=True)
class Measured:
    """A figure behind a status."""

    name: str
    value: float | None
    unit: Literal["cents", "share", "count", "ratio"]


@dataclass(frozen=True)
class FailureMode:
    """One line of the plan's table.

    Args:
        mode: its name there.
        probability: the plan's guess.
        impact: the same.
        status: of this evaluation.
        rule: when it counts as seen.
        figures: that the rule and its reader look at.
        mitigation: what the plan names, and what here does it.
    """

    mode: str
    probability: str
    impact: str
    status: Status
    rule: str
    figures: tuple[Measured, ...]
    mitigation: str


def failure_modes(evidence: Evidence, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The section of a case.

    Args:
        evidence: its ledger, and how the policy was trained.
        report: so far: selection, sessions, and the grid where it was played.
    """
    found = (
        _overfitting(evidence, report),
        _holding(evidence),
        _forgetting(evidence),
        _reward_hacking(evidence, report),
        _regime(report),
    )
    return [asdict(mode) for mode in found]


def _overfitting(evidence: Evidence, report: Mapping[str, Any]) -> FailureMode:
    courses = evidence.case.past.training
    chosen = report.get("selection") or {}
    count = sum(overfits(course) for course in courses) if courses else None
    pbo = chosen.get("pbo")
    figures = (
        Measured("trainings that gained and fell in validation", count, "count"),
        Measured("probability of backtest overfitting", pbo, "share"),
        Measured("P&L an event, trained on", _mean(evidence, Label.IN_SAMPLE), "cents"),
        Measured("P&L an event, selected on", _mean(evidence, Label.SELECTED_ON), "cents"),
        Measured("P&L an event, clean-forward", _mean(evidence, Label.CLEAN_FORWARD), "cents"),
    )
    known = pbo is not None or any(course["validations"] for course in courses)
    return FailureMode(
        "Overfitting to the training sessions", "high", "high",
        _status(known, bool(count) or (pbo or 0.0) > 0.5),
        "a training gained and fell in validation, or PBO above 50 %",
        figures,
        "curriculum over all markets, best checkpoint by validation, early stopping, trials ledger",
    )  # fmt: skip


def _holding(evidence: Evidence) -> FailureMode:
    rows = _judged(evidence)
    held = sum(rows["action_hold"].to_pylist())
    decided = sum(sum(rows[name].to_pylist()) for name in ACTION_COLUMNS)
    share = held / decided if decided else None
    alarms = sum(
        fired(course, "hold_dominates", "action_dominates")
        for course in evidence.case.past.training
    )
    return FailureMode(
        "HOLD-dominant behaviour", "medium", "high",
        _status(share is not None, (share or 0.0) > MOST_HOLD),
        f"HOLD above {MOST_HOLD:.0%} of decisions",
        (Measured("decisions that hold", share, "share"),
         Measured("trainings in which one action took over", alarms, "count")),
        "alerts that raise the entropy coefficient; `mask_actions`; holding may be right",
    )  # fmt: skip


def _forgetting(evidence: Evidence) -> FailureMode:
    before, after, events = _scores(evidence)
    drop = None
    if before is not None and after is not None:
        drop = (before - after) / max(abs(before), FLOOR_CENTS)
    return FailureMode(
        "Catastrophic forgetting", "medium", "medium",
        _status(drop is not None, (drop or 0.0) > MOST_FORGOTTEN),
        f"the last phase ends more than {MOST_FORGOTTEN:.0%} below an earlier one's best on the "
        "same validation events",
        (Measured("best of an earlier phase, an event", before, "cents"),
         Measured("end of the last phase, the same events", after, "cents"),
         Measured("events", events, "count"),
         Measured("drop", drop, "ratio")),
        "a checkpoint every 10,000 steps, the best one kept, phases that continue from the best",
    )  # fmt: skip


def _reward_hacking(evidence: Evidence, report: Mapping[str, Any]) -> FailureMode:
    rows = _judged(evidence)
    decided = sum(sum(rows[name].to_pylist()) for name in ACTION_COLUMNS)
    invalid = sum(rows["invalid_actions"].to_pylist()) / decided if decided else None
    own = Cell.of(evidence.case.trading)
    strict = _cell(evidence, report, "cross", "liquidation")
    mid = _cell(evidence, report, "cross", "mid")
    touch = _cell(evidence, report, "touch", "liquidation")
    lenient = [value for value in (mid, touch) if value is not None]
    judged_in = () if own.headline else (
        Measured(f"the same, in the cell that was judged: {own}", _per_event(rows, "pnl_micro"),
                 "cents"),
    )  # fmt: skip
    flattered = strict is not None and strict <= 0 and any(value > 0 for value in lenient)
    return FailureMode(
        "Reward hacking", "low", "high",
        _status(strict is not None and bool(lenient),
                flattered or (invalid or 0.0) > MOST_INVALID),
        "gains at the mid or by touch fills and not in the headline's cell, or invalid actions "
        f"above {MOST_INVALID:.0%}",
        (Measured("P&L an event, headline's cell", strict, "cents"),
         Measured("the same, end marked at mid", mid, "cents"),
         Measured("the same, filled by touch", touch, "cents"),
         *judged_in,
         Measured("invalid actions, of decisions", invalid, "share")),
        "reward is the change of what liquidation brings, fees on, cross fills, position limit",
    )  # fmt: skip


def _regime(report: Mapping[str, Any]) -> FailureMode:
    # what was trained on against what was not tells of overfitting, so label by label
    judged = {
        table["session"]: (table["policies"][0], " and ".join(table["labels"]))
        for table in report["sessions"]
    }
    intervals = [
        (each["pnl_interval"], label)
        for each, label in judged.values()
        if each["pnl_interval"] and label in set(Label)
    ]
    pairs = [(a, b) for (a, one), (b, other) in combinations(intervals, 2) if one == other]
    apart = any(a[1] < b[0] or b[1] < a[0] for a, b in pairs)
    return FailureMode(
        "Market regime change", "medium", "medium",
        _status(bool(pairs), apart),
        "the intervals of two sessions of one label do not meet",
        tuple(Measured(f"P&L an event, session {session} ({label})", each["pnl_cents"], "cents")
              for session, (each, label) in judged.items()),
        "sessions of other days and underlyings in training, retraining, ensembles of seeds",
    )  # fmt: skip


def _status(known: bool, holds: bool) -> Status:
    if not known:
        return "not assessable"
    return "seen" if holds else "not seen"


def _judged(evidence: Evidence) -> Any:
    scope = evidence.scope
    return scope.filter(pc.equal(scope["policy"], evidence.case.judged.name))


def _mean(evidence: Evidence, label: Label) -> float | None:
    rows = evidence.ledger.filter(pc.equal(evidence.ledger["label"], label.value))
    return _per_event(rows.filter(pc.equal(rows["policy"], evidence.case.judged.name)), "pnl_micro")


def _per_event(rows: Any, column: str) -> float | None:
    # cents; rows of one policy
    if not rows.num_rows:
        return None
    totals = panel(rows, [rows["policy"][0].as_py()]).per_event(column)
    return float(totals.mean()) / MICRO_PER_CENT


def _cell(
    evidence: Evidence, report: Mapping[str, Any], fill_model: str, mark: str
) -> float | None:
    # the judged policy's P&L with fees: of the grid, or of what was played where that is the cell
    for row in report.get("grid") or ():
        asked = (row["policy"], row["fill_model"], row["mark"], row["fees"])
        if asked == (evidence.case.judged.name, fill_model, mark, True):
            return float(row["pnl_cents"])
    if Cell.of(evidence.case.trading) == Cell(fill_model, "liquidation", fees=True):
        return _per_event(_judged(evidence), MARKS[mark])
    return None


def _scores(evidence: Evidence) -> tuple[float | None, float | None, int]:
    # of validations: the best of an earlier phase, the last of the last one, on common events
    rows = evidence.once(validations)
    phases = sorted({row["phase"] for row in rows})
    if len(phases) < 2:
        return None, None, 0
    last = _newest([row for row in rows if row["phase"] == phases[-1]])
    common = set(last["events"])
    earlier = [row for row in rows if row["phase"] != phases[-1]]
    for row in earlier:
        common &= set(row["events"])
    if not common:
        return None, None, 0
    best = max(_on(row, common) for row in earlier)
    return best, _on(last, common), len(common)


def _newest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(rows, key=lambda row: (row["timesteps"], -row["seed"]))


def _on(row: Mapping[str, Any], events: Iterable[str]) -> float:
    pnl = dict(zip(row["events"], row["pnl_micro"], strict=True))
    return float(np.mean([pnl[event] for event in events])) / MICRO_PER_CENT
