"""The training plan's decision points (section 7) as rules: outcome, and the figures they used.

A rule that has no figure decides nothing, and says so. An outcome is what the plan's rule says, not
advice to trade: whether anything may be claimed is the verdict's business alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from kalshi_pipeline.config import MICRO_PER_DOLLAR
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.trials import trials

Outcome = Literal[
    "continue", "adjust", "switch", "scale", "refine", "deploy-prepare", "iterate", "not assessable"
]
CLOSE = 0.2  # of a threshold, or of the interval's reach: the plan says "close to targets"
SHARPE_TO_SCALE = 0.5
LEAST_WIN_RATE, MOST_HOLD = 0.40, 0.95


@dataclass(frozen=True)
class Figure:
    """A figure that a rule looked at.

    Args:
        name: what it is.
        value: None where it is not known.
        unit: of value and threshold.
        comparison: how the value must lie to the threshold for the rule to hold.
        threshold: the plan's.
        holds: whether the rule holds; None where it cannot be said.
    """

    name: str
    value: float | None
    unit: Literal["share", "ratio", "count", "dollars"]
    comparison: Literal["<", ">"]
    threshold: float
    holds: bool | None

    @classmethod
    def of(
        cls,
        name: str,
        value: float | None,
        unit: Literal["share", "ratio", "count", "dollars"],
        comparison: Literal["<", ">"],
        threshold: float,
    ) -> Figure:
        """A figure held against its threshold."""
        holds = None
        if value is not None:
            holds = value < threshold if comparison == "<" else value > threshold
        return cls(name, value, unit, comparison, threshold, holds)


@dataclass(frozen=True)
class Decision:
    """One decision point.

    Args:
        point: 1, 2 or 3.
        question: as the plan puts it.
        when: in the plan's calendar, and of which phase.
        outcome: which of its ways.
        action: what that means here.
        figures: what the rules looked at.
    """

    point: int
    question: str
    when: str
    outcome: Outcome
    action: str
    figures: tuple[Figure, ...]


def decisions(evidence: Evidence, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The section of a case.

    Args:
        evidence: its past tells how it was trained.
        report: so far: verdict and criteria.
    """
    courses = evidence.case.past.training
    phases = list(dict.fromkeys(course["phase"] for course in courses))
    first = [course for course in courses if phases and course["phase"] == phases[0]]
    middle = phases[min(1, len(phases) - 1)] if phases else ""
    second = [course for course in courses if course["phase"] == middle]
    found = (
        _continue_or_pivot(first),
        _scale_or_refine(second, _best_validation(evidence, middle)),
        _deploy_or_iterate(report),
    )
    return [asdict(decision) for decision in found]


def _continue_or_pivot(courses: Sequence[Mapping[str, Any]]) -> Decision:
    unstable = sum(fired(course, "unstable", "still_unstable") for course in courses)
    switch = sum(fired(course, "still_unstable") for course in courses)
    figures = (
        Figure.of("seeds whose training stayed unstable with nothing left to lower",
                  switch if courses else None, "count", ">", 0),
        Figure.of("seeds whose training was unstable at some time",
                  unstable if courses else None, "count", ">", 0),
        Figure.of("decisions that hold, last tenth of the phase", _mean(courses, "hold_share"),
                  "share", ">", MOST_HOLD),
        Figure.of("round trips won, last tenth of the phase", _mean(courses, "win_rate"),
                  "share", "<", LEAST_WIN_RATE),
    )  # fmt: skip
    stuck, _, holding, losing = figures
    outcome: Outcome = "continue"
    action = "no rule of the plan asks for a change"
    if stuck.value is None:
        outcome, action = "not assessable", "the course of this phase's training is not known"
    elif stuck.holds:
        outcome, action = "switch", 'to A2C: `algorithm = "a2c"`'
    elif holding.holds:
        outcome, action = "adjust", "increase exploration: entropy coefficient 0.15"
    elif losing.holds:
        outcome, action = "adjust", "the hyper-parameters, before more steps are spent"
    elif holding.value is None:
        outcome, action = "not assessable", "what the policy did at its end is not known"
    return Decision(1, "Continue or pivot", _when("Day 4", courses), outcome, action, figures)


def _scale_or_refine(
    courses: Sequence[Mapping[str, Any]], best: tuple[float | None, int]
) -> Decision:
    sharpe, events = best
    losing = sum(
        bool(c["validations"]) and all(v["dollars"] < 0 for v in c["validations"][-10:])
        for c in courses
    )
    validated = any(course["validations"] for course in courses)
    overfitted = sum(overfits(course) for course in courses)
    figures = (
        Figure.of("seeds that gained in training and fell in validation",
                  overfitted if courses else None, "count", ">", 0),
        Figure.of("seeds whose last validations (ten at most) all lost",
                  losing if validated else None, "count", ">", 0),
        Figure.of(f"Sharpe ratio per event of the best validation ({events} events; the best of "
                  "many, so too high)", sharpe, "ratio", ">", SHARPE_TO_SCALE),
    )  # fmt: skip
    fitted, lost, good = figures
    if fitted.value is None or (lost.value is None and good.value is None):
        outcome: Outcome = "not assessable"
        action = "nothing validated this phase, or its course is not known"
    elif fitted.holds:
        outcome, action = "refine", "increase regularisation: 5 epochs an update, more markets"
    elif lost.holds:
        outcome, action = "refine", "return to tuning the hyper-parameters"
    elif good.holds:
        outcome, action = "scale", "continue with more sessions and steps"
    else:
        outcome, action = "refine", f"the Sharpe ratio is not above {SHARPE_TO_SCALE:g}"
    return Decision(2, "Scale or refine", _when("Day 10", courses), outcome, action, figures)


def _deploy_or_iterate(report: Mapping[str, Any]) -> Decision:
    answers = report["criteria"]
    failed = [answer for answer in answers if answer["status"] == "fail"]
    open_ones = sum(answer["status"] == "not assessable" for answer in answers)
    idle = sum(answer["status"] == "pass" and not answer["discriminates"] for answer in answers)
    figures = (
        Figure.of("criteria failed", len(failed), "count", ">", 0),
        Figure.of("... of them further from their threshold than a fifth of it",
                  sum(not close(answer) for answer in failed), "count", ">", 0),
        Figure.of("criteria that cannot be assessed", open_ones, "count", ">", 0),
        Figure.of("criteria passed that a policy without skill passes too", idle, "count", ">", 0),
    )  # fmt: skip
    _, far, unknown, _ = figures
    outcome: Outcome = "iterate"
    if unknown.holds:
        action = "collect later sessions: there are too few independent events to decide"
    elif far.holds:
        action = "significant gaps: plan additional training cycles"
    elif failed:
        action = "close to the targets: fine-tune on recent data"
    elif not report["verdict"]["claim"]:
        action = "every criterion is met, and the verdict still finds no evidence: nothing is ready"
    else:
        outcome, action = "deploy-prepare", "prepare, in paper trading, with every safety measure"
    return Decision(3, "Deploy or iterate", "Day 12, the whole plan", outcome, action, figures)


def close(answer: Mapping[str, Any]) -> bool:
    """Whether a criterion that failed is close to its threshold: a fifth of it, or its interval."""
    if answer["value"] is None:
        return False
    if interval := answer["interval"]:
        low, high = interval
        if low <= answer["threshold"] <= high:
            return True
    return bool(abs(answer["value"] - answer["threshold"]) <= CLOSE * abs(answer["threshold"]))


def fired(course: Mapping[str, Any], *rules: str) -> bool:
    """Whether one of these alerts went off in a training."""
    return any(alert["rule"] in rules for alert in course["alerts"])


def overfits(course: Mapping[str, Any]) -> bool:
    """Whether a training gained where it learned and lost, or fell, where it did not."""
    scores = [validation["dollars"] for validation in course["validations"]]
    gains = course["dollars"] is not None and course["dollars"] > 0
    return fired(course, "overfitting", "validation_drop") or bool(
        gains and scores and scores[-1] < 0
    )


def validations(evidence: Evidence) -> list[Mapping[str, Any]]:
    """What the trainings of the case's past scored, rows of the trials ledger.

    The ledger keeps for ever what superseded trainings of the same plan and phase scored; it is
    known by their recipe. A course that names none (published before it was kept) is held to the
    steps at which it validated.
    """
    plan = evidence.case.provenance.get("plan")
    by_recipe, by_steps = set(), set()
    for course in evidence.case.past.training:
        who = course["phase"], course["seed"]
        if course["recipe"] is not None:
            by_recipe.add((*who, course["recipe"]))
        else:
            by_steps |= {(*who, scored["timesteps_total"]) for scored in course["validations"]}
    return [
        row
        for row in evidence.once(trials).rows
        if row["kind"] == "validation" and row["plan"] == plan
        and ((row["phase"], row["seed"], row["recipe"]) in by_recipe
             or (row["phase"], row["seed"], row["timesteps"]) in by_steps)
    ]  # fmt: skip


def _best_validation(evidence: Evidence, phase: str) -> tuple[float | None, int]:
    # Sharpe ratio per event of the phase's best score, and of how many events
    scored = [
        np.asarray(row["pnl_micro"], np.float64) / MICRO_PER_DOLLAR
        for row in evidence.once(validations)
        if row["phase"] == phase
    ]
    if not scored:
        return None, 0
    best = max(scored, key=lambda pnl: float(pnl.mean()))
    deviation = float(best.std(ddof=1)) if len(best) > 1 else 0.0
    return (float(best.mean()) / deviation if deviation > 0 else None), len(best)


def _mean(courses: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = [course[name] for course in courses if course[name] is not None]
    return sum(known) / len(known) if known else None


def _when(day: str, courses: Sequence[Mapping[str, Any]]) -> str:
    return f"{day}, {courses[0]['phase']}" if courses else day
