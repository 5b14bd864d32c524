"""Evidence -> report: which section is made by whom, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.evaluation.behaviour.section import behaviour
from kalshi_pipeline.evaluation.criteria import Criterion, criteria
from kalshi_pipeline.evaluation.decisions import decisions
from kalshi_pipeline.evaluation.evidence import Case, Evidence, gather
from kalshi_pipeline.evaluation.failure_modes import failure_modes
from kalshi_pipeline.evaluation.features import features
from kalshi_pipeline.evaluation.generalisation import generalisation
from kalshi_pipeline.evaluation.grid import grid, grid_table
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.paired import Paired, paired
from kalshi_pipeline.evaluation.recommendations import recommendations
from kalshi_pipeline.evaluation.reports.schema import SCHEMA_VERSION
from kalshi_pipeline.evaluation.robustness import robustness
from kalshi_pipeline.evaluation.samples import Sample, shape, take
from kalshi_pipeline.evaluation.seeds import OverSeeds, over_seeds
from kalshi_pipeline.evaluation.selection import selection
from kalshi_pipeline.evaluation.trades.section import section as trades_section
from kalshi_pipeline.evaluation.trades.tables import trades_table, trips_table
from kalshi_pipeline.evaluation.trials import trials_table
from kalshi_pipeline.evaluation.verdict import CLAIM_SEEDS, Cell, verdict
from kalshi_pipeline.evaluation.walk_forward import forward_tests, walk_forward

VALIDATION = "validation"
_TIERS = ("high", "medium", "low")
_CLEAN = "Clean-forward events, all sessions pooled"
_NONE_CLEAN = "All sessions pooled, none clean-forward"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation leaves behind.

    Args:
        report: JSON-serialisable; `reports` writes it as `report.json` and `report.html`.
        tables: name -> rows behind the report, each published as `<name>.parquet`; `ledger` is of
            `JUDGED_SCHEMA`, one row an episode and policy.
    """

    report: dict[str, Any]
    tables: dict[str, pa.Table]


def evaluate(case: Case, progress: Callable[[str], None]) -> Evaluation:
    """Judge a policy beside its baselines on every session of a case.

    Args:
        case: what is judged, and on what.
        progress: told one line before anything that takes long.
    """
    evidence = gather(case, progress)
    report = {key: section(evidence) for key, section in _SECTIONS}
    for key, judgement in _JUDGEMENTS:
        report[key] = judgement(evidence, report)
    made = {name: table(evidence) for name, table in _TABLES}
    return Evaluation(report, {name: rows for name, rows in made.items() if rows is not None})


def _judged_sample(evidence: Evidence) -> Sample:
    # the headline's policies, or all rows where none is clean-forward
    case = evidence.case
    title = _CLEAN if evidence.is_clean else _NONE_CLEAN
    return take(title, evidence.scope, case.shown, case.evaluation)


def _compared(evidence: Evidence) -> Sample:
    # without the variants, and without what cheats
    sample = evidence.once(_judged_sample)
    names = evidence.case.honest
    return replace(sample, metrics=tuple(m for m in sample.metrics if m.policy in names))


def _trainings(evidence: Evidence) -> OverSeeds | None:
    case = evidence.case
    if len(case.seeds) < 2:
        return None
    return over_seeds(evidence.once(_judged_sample), case.seeds, case.evaluation)


def _paired(evidence: Evidence) -> tuple[Paired, ...]:
    case = evidence.case
    sample = evidence.once(_judged_sample)
    return paired(sample.panel, case.names[1:], case.evaluation, case.cheating)


def _cell(evidence: Evidence) -> dict[str, Any]:
    cell = Cell.of(evidence.case.trading)
    return {**asdict(cell), "headline": cell.headline}


def _headline(evidence: Evidence) -> dict[str, Any] | None:
    return evidence.once(_judged_sample).table() if evidence.is_clean else None


def _seeds(evidence: Evidence) -> dict[str, Any] | None:
    trainings = evidence.once(_trainings)
    return None if trainings is None else asdict(trainings)


def _shape(evidence: Evidence) -> dict[str, Any]:
    return shape(evidence.once(_judged_sample), evidence.case.evaluation)


def _selection(evidence: Evidence) -> dict[str, Any] | None:
    found = selection(evidence)
    return None if found is None else asdict(found)


def _provenance(evidence: Evidence) -> dict[str, Any]:
    absent = list(evidence.case.past.absent)
    return dict(evidence.case.provenance) | ({"absent_baselines": absent} if absent else {})


def _settings(evidence: Evidence) -> dict[str, Any]:
    case = evidence.case
    return {"trading": asdict(case.trading), "evaluation": asdict(case.evaluation)}


def _labels(ledger: pa.Table) -> dict[str, dict[str, int]]:
    """Label -> distinct episodes, markets and events."""
    counts = {}
    for label in Label:
        rows = ledger.filter(pc.equal(ledger["label"], label.value))
        names = (rows[key].to_pylist() for key in ("session", "event", "market", "segment"))
        keys = set(zip(*names, strict=True))
        if keys:
            counts[label.value] = {
                "episodes": len(keys),
                "markets": len({key[:3] for key in keys}),
                "events": len({key[:2] for key in keys}),
            }
    return counts


def _sessions(evidence: Evidence) -> list[dict[str, Any]]:
    case, ledger = evidence.case, evidence.ledger
    described = case.provenance.get("sessions", {})
    sections = []
    for session in sorted(set(ledger["session"].to_pylist())):
        rows = ledger.filter(pc.equal(ledger["session"], session))
        sample = take(f"Session {session}", rows, case.shown, case.evaluation)
        sections.append(
            {
                "session": session,
                "role": rows["role"][0].as_py(),
                "description": described.get(str(session)),
                "labels": _labels(rows),
                "start_ms": pc.min(rows["start_ms"]).as_py(),
                "end_ms": pc.max(rows["end_ms"]).as_py(),
                **sample.table(),
            }
        )
    return sections


def _exclusions(evidence: Evidence) -> list[dict[str, Any]]:
    counts: Counter[tuple[int, str]] = Counter()
    for entry in evidence.case.exclusions:
        counts[(int(entry["session"]), str(entry["reason"]))] += entry.get("count", 1)
    for session, universe in evidence.case.universes.items():
        if not len(universe):
            counts[(session, "the whole session: no episode in it")] += 1
    return [
        {"session": session, "reason": reason, "count": count}
        for (session, reason), count in sorted(counts.items())
    ]


def _verdict(evidence: Evidence, report: Mapping[str, Any]) -> dict[str, Any]:
    case = evidence.case
    judgement = verdict(
        evidence.once(_compared).metrics if evidence.is_clean else (),
        evidence.once(_paired),
        Counter({Label(name): counts["events"] for name, counts in report["labels"].items()}),
        Cell.of(case.trading),
        case.evaluation,
        generated=case.generated,
        trainings=evidence.once(_trainings),
        deflated_sharpe=(report.get("selection") or {}).get("deflated_sharpe"),
        sealed=[seal["session"] for seal in report["sealed"] if seal["first_look"] is None],
        against=_against(case),
    )
    return asdict(judgement)


def _against(case: Case) -> list[str]:
    # weights that were trained are one draw of chance; a script has no seed
    found = [f"the baseline {name} is missing" for name in case.past.absent]
    if case.provenance.get("checkpoint") and len(case.seeds) < 2:
        by = "" if case.provenance.get("plan") else ", judged by hand"
        found.append(
            f"weights of one training seed{by}; a claim takes the mean over {CLAIM_SEEDS} of a plan"
        )
    return found


def _criteria(evidence: Evidence, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    case = evidence.case
    names, evaluation = case.honest, case.evaluation
    ledger, judged = (
        rows.filter(pc.is_in(rows["policy"], pa.array(names)))
        for rows in (evidence.ledger, evidence.scope)
    )
    validation = ledger.filter(pc.match_substring(ledger["role"], VALIDATION))
    tiers = {tier: judged.filter(pc.equal(judged["tier"], tier)) for tier in _TIERS}
    answers: tuple[Criterion, ...] = criteria(
        take("Validation", validation, names, evaluation) if validation.num_rows else None,
        evidence.once(_compared),
        {
            tier: take(tier, rows, names, evaluation)
            for tier, rows in tiers.items()
            if rows.num_rows
        },
        evaluation.min_units,
        case.cheating,
    )
    return [asdict(answer) for answer in answers]


# What is measured, in the order it is made.
_SECTIONS: tuple[tuple[str, Callable[[Evidence], Any]], ...] = (
    ("schema_version", lambda _: SCHEMA_VERSION),
    ("generated", lambda evidence: evidence.case.generated),
    ("policy", lambda evidence: evidence.case.judged.name),
    ("baselines", lambda evidence: list(evidence.case.names[1:])),
    ("cheating", lambda evidence: list(evidence.case.cheating)),
    ("cell", _cell),
    ("provenance", _provenance),
    ("settings", _settings),
    ("labels", lambda evidence: _labels(evidence.ledger)),
    ("lineage_end_ms", lambda evidence: evidence.case.used.end_ms),
    ("exclusions", _exclusions),
    ("sealed", lambda evidence: [dict(seal) for seal in evidence.case.past.sealed]),
    ("walk_forward", walk_forward),
    ("headline", _headline),
    ("forward_tests", forward_tests),
    ("paired", lambda evidence: [asdict(each) for each in evidence.once(_paired)]),
    ("seeds", _seeds),
    ("shape", _shape),
    ("trades", trades_section),
    ("sessions", _sessions),
    ("selection", _selection),
    ("robustness", robustness),
    ("grid", grid),
    ("behaviour", behaviour),
    ("features", features),
    ("generalisation", generalisation),
)
# What is made of it: each reads the report so far.
_JUDGEMENTS: tuple[tuple[str, Callable[[Evidence, Mapping[str, Any]], Any]], ...] = (
    ("verdict", _verdict),
    ("criteria", _criteria),
    ("decisions", decisions),
    ("failure_modes", failure_modes),
    ("recommendations", recommendations),
)
_TABLES: tuple[tuple[str, Callable[[Evidence], pa.Table | None]], ...] = (
    ("ledger", lambda evidence: evidence.ledger),
    ("trades", trades_table),
    ("trips", trips_table),
    ("trials", trials_table),
    ("grid", grid_table),
)
