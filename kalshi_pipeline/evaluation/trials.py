"""Which candidates there were, counted: those of the ledger, and the ones judged here.

A candidate is weights x how they are played x rules of the episodes: scored on two occasions it is
one. All that were scored on a session that chose, or that is judged on, count: whoever reads two
reports of one session has chosen between them, whatever plan they are of. Source:
`docs/EVALUATION.md`, "Selection".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.inference.sharpe import sharpe_per_unit

_WHO = ("weights", "policy", "config")


@dataclass(frozen=True)
class Trials:
    """Everything that was tried.

    Args:
        rows: `storage/trials.py`'s columns; a row a time that a candidate was scored.
        missing: candidates that the trainings say they scored and the ledger does not have.
    """

    rows: tuple[Mapping[str, Any], ...]
    missing: int

    @property
    def distinct(self) -> dict[tuple[str, ...], Mapping[str, Any]]:
        """Each candidate once, where it was scored first."""
        found: dict[tuple[str, ...], Mapping[str, Any]] = {}
        for row in self.rows:
            found.setdefault(tuple(str(row[name]) for name in _WHO), row)
        return found

    @property
    def count(self) -> int:
        """N: candidates, those included that the ledger has lost."""
        return len(self.distinct) + self.missing

    def matrix(self) -> NDArray[np.float64]:
        """`[events, trials]` cents, of the largest group that was scored on the same events.

        Zero columns where nothing was.
        """
        groups: dict[tuple[str, ...], dict[tuple[str, ...], Mapping[str, Any]]] = {}
        for row in self.rows:
            who = tuple(str(row[name]) for name in _WHO)
            groups.setdefault(tuple(row["events"]), {}).setdefault(who, row)
        if not groups:
            return np.zeros((0, 0))
        largest = max(groups.values(), key=len)
        columns = [np.asarray(row["pnl_micro"], np.float64) for row in largest.values()]
        return np.stack(columns, axis=1) / MICRO_PER_CENT

    def sharpes(self, least: int) -> NDArray[np.float64]:
        """`[n]` Sharpe ratio per event of candidates scored on `least` events or more.

        Each where it was scored on most. Who gains the same on every event has none: a policy that
        only holds is no draw of chance, and would make the others look more alike than they are.
        """
        widest: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for row in self.rows:
            who = tuple(str(row[name]) for name in _WHO)
            pnl = np.asarray(row["pnl_micro"], np.float64)
            if len(pnl) >= max(least, 2, len(widest.get(who, ())) + 1):
                widest[who] = pnl
        ratios = (sharpe_per_unit(pnl) for pnl in widest.values())
        return np.array([ratio for ratio in ratios if ratio is not None], np.float64)

    def spread(self, least: int, units: int) -> float | None:
        """Standard deviation of their Sharpe ratios, at least that of trials without skill.

        Args:
            least: fewest events of a trial that tells anything.
            units: events of the judged policy; on so few, chance alone spreads by 1/sqrt(n - 1).

        Returns:
            None where fewer than two trials tell.
        """
        ratios = self.sharpes(least)
        if len(ratios) < 2:
            return None
        return max(float(np.std(ratios, ddof=1)), 1.0 / math.sqrt(units - 1) if units > 1 else 0.0)

    def by_training(self) -> list[dict[str, Any]]:
        """How many candidates each phase and seed gave."""
        names = ("plan", "phase", "seed", "kind")
        counts = Counter(tuple(row[name] for name in names) for row in self.distinct.values())
        return [
            {**dict(zip(names, who, strict=True)), "trials": count}
            for who, count in sorted(counts.items())
        ]


def trials(evidence: Evidence) -> Trials:
    """The trials of a case, the judged ones included."""
    past = evidence.case.past
    before = [] if past.trials is None else past.trials.to_pylist()
    plan = evidence.case.provenance.get("plan")
    of_plan = [row for row in before if row["plan"] == plan]
    return Trials((*before, *_judged(evidence)), _missing(of_plan, past.training))


def trials_table(evidence: Evidence) -> pa.Table | None:
    """The same as a table, a row a time that a candidate was scored; None where nobody counted."""
    past = evidence.case.past
    if past.trials is None:
        return None
    rows = [dict(row) for row in evidence.once(trials).rows]
    return pa.Table.from_pylist(rows, schema=past.trials.schema)


def _judged(evidence: Evidence) -> list[dict[str, Any]]:
    # one of each judged policy and variant, on all that was evaluated
    candidates = evidence.case.past.candidates
    columns = ("policy", "session", "event", "market", "segment", "pnl_micro", "end_ms")
    segments: dict[tuple[Any, ...], list[int]] = {}
    ends: dict[tuple[int, str], int] = {}
    for *key, pnl, end_ms in zip(*(evidence.ledger[c].to_pylist() for c in columns), strict=True):
        if key[0] in candidates:
            segments.setdefault(tuple(key), []).append(pnl)
            event = (key[1], key[2])
            ends[event] = max(end_ms, ends.get(event, end_ms))
    order = sorted(ends, key=lambda event: (ends[event], event))
    totals = {name: dict.fromkeys(order, 0.0) for name in candidates}
    for (name, session, event, *_), repeats in segments.items():
        totals[name][session, event] += sum(repeats) / len(repeats)
    return [
        {
            **who,
            "sessions": sorted({session for session, _ in order}),
            "events": [f"{session}/{event}" for session, event in order],
            "pnl_micro": [round(total) for total in totals[name].values()],
        }
        for name, who in candidates.items()
    ]


def _missing(rows: Iterable[Mapping[str, Any]], training: Iterable[Mapping[str, Any]]) -> int:
    # a course of training says how often it validated: rows taken away do not lower N. A run's
    # trials are known by its digest; what was published before it was noted, by phase and seed.
    listed = list(rows)
    by_run = {(row["recipe"], row["timesteps"]) for row in listed}
    by_phase = {(row["phase"], row["seed"], row["timesteps"]) for row in listed}
    return sum(
        (course["run"], scored["timesteps_total"]) not in by_run
        if course.get("run")
        else (course["phase"], course["seed"], scored["timesteps_total"]) not in by_phase
        for course in training
        for scored in course["validations"]
    )
