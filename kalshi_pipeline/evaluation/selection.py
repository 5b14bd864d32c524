"""How much of a result is that it was chosen: N, PSR, deflated Sharpe ratio, overfitting.

The judged policy is the best of everything that was tried. Its Sharpe ratio is held against what
the best of so many would show without skill. Source: `docs/EVALUATION.md`, "Selection".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.inference.overfitting import pbo
from kalshi_pipeline.evaluation.inference.shares import smallest_detectable_effect
from kalshi_pipeline.evaluation.inference.sharpe import (
    deflated_sharpe,
    effective_trials,
    psr,
    sharpe_per_unit,
)
from kalshi_pipeline.evaluation.metrics import panel
from kalshi_pipeline.evaluation.trials import Trials, trials

BLOCKS = 16  # of the units, for PBO: 12,870 splits


@dataclass(frozen=True)
class Selection:
    """What was tried, and what is left of the judged policy's result after that.

    Args:
        trials: N, distinct candidates.
        trials_scored: times that one was scored.
        trials_missing: of N, those the trainings declare and the ledger does not have.
        effective_trials: how many independent ones they are worth.
        trial_sharpe_sd: standard deviation of their Sharpe ratios per event; see `Trials.spread`.
        events: units of the judged policy's figures.
        sharpe: of the judged policy, per event.
        psr: probability that its true Sharpe ratio is above 0, had nothing been chosen.
        deflated_sharpe: the same, N choices allowed for.
        deflated_sharpe_effective: the same, with the effective number.
        pbo: probability of backtest overfitting.
        pbo_splits: splits behind it.
        pbo_trials: trials that were scored on the same events.
        pbo_events: those events.
        detectable_cents: smallest mean found with 80 % power.
        by: how many trials each plan, phase and seed gave.
        note: what is missing above and why; what cannot be counted.
    """

    trials: int
    trials_scored: int
    trials_missing: int
    effective_trials: float
    trial_sharpe_sd: float | None
    events: int
    sharpe: float | None
    psr: float | None
    deflated_sharpe: float | None
    deflated_sharpe_effective: float | None
    pbo: float | None
    pbo_splits: int | None
    pbo_trials: int
    pbo_events: int
    detectable_cents: float | None
    by: list[dict[str, Any]]
    note: list[str]


def selection(evidence: Evidence) -> Selection | None:
    """The section of a case; None where nobody counted."""
    past = evidence.case.past
    if past.trials is None:
        return None
    tried = evidence.once(trials)
    values, notes = _judged(evidence)
    matrix = tried.matrix()
    deviation = tried.spread(evidence.case.evaluation.min_units, len(values))
    effective = _effective(matrix, tried.count)
    split = pbo(matrix, BLOCKS) if matrix.size else None
    if split is None:
        notes.append(
            f"no PBO: {matrix.shape[1]} trials were scored on the same {matrix.shape[0]} events; "
            f"it takes two trials and {BLOCKS} events"
        )
    if deviation is None:
        notes.append("the spread of the trials' Sharpe ratios is not known: 1/sqrt(n - 1) is taken")
    return Selection(
        trials=tried.count,
        trials_scored=len(tried.rows),
        trials_missing=tried.missing,
        effective_trials=effective,
        trial_sharpe_sd=deviation,
        events=len(values),
        sharpe=sharpe_per_unit(values),
        psr=psr(values),
        deflated_sharpe=deflated_sharpe(values, tried.count, deviation),
        deflated_sharpe_effective=deflated_sharpe(values, effective, deviation),
        pbo=None if split is None else split.probability,
        pbo_splits=None if split is None else split.splits,
        pbo_trials=matrix.shape[1],
        pbo_events=matrix.shape[0],
        detectable_cents=_detectable(evidence, values),
        by=tried.by_training(),
        note=[*notes, *_uncounted(evidence, tried)],
    )


def _judged(evidence: Evidence) -> tuple[NDArray[np.float64], list[str]]:
    # cents of each clean-forward event; none where they are too few to say anything
    name, least = evidence.case.judged.name, evidence.case.evaluation.min_units
    if not evidence.is_clean:
        return np.zeros(0), ["no clean-forward events: no Sharpe ratio, PSR or deflated Sharpe"]
    rows = evidence.clean.filter(pc.equal(evidence.clean["policy"], name))
    values = panel(rows, [name]).per_event("pnl_micro")[:, 0] / MICRO_PER_CENT
    if len(values) < least:
        return np.zeros(0), [
            f"{len(values)} clean-forward events are under {least}: no Sharpe ratio, PSR or "
            "deflated Sharpe"
        ]
    return values, []


def _effective(matrix: NDArray[np.float64], count: int) -> float:
    # the mean correlation of those scored on the same events, taken for that of all
    compared: int = matrix.shape[1]
    if compared < 2:
        return float(count)
    correlation = (compared - effective_trials(matrix)) / (compared - 1)
    return correlation + (1.0 - correlation) * count


def _detectable(evidence: Evidence, values: NDArray[np.float64]) -> float | None:
    if len(values) < evidence.case.evaluation.min_units:
        return None
    deviation = float(np.std(values, ddof=1))
    return smallest_detectable_effect(deviation, len(values), evidence.case.evaluation.confidence)


def _uncounted(evidence: Evidence, tried: Trials) -> list[str]:
    notes = []
    if tried.missing:
        notes.append(
            f"{tried.missing} candidates that the trainings declare are not in the ledger: they "
            "count in N, and their scores in nothing"
        )
    if evidence.case.used.foreign:
        notes.append("others made the weights: what they tried is not known and not in N")
    notes.append("not in N: what was tried outside this warehouse")
    return notes
