"""Policies x sessions -> ledger and report: the order in which an evaluation happens."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.evaluation.criteria import Criterion, criteria
from kalshi_pipeline.evaluation.ledger import LEDGER_SCHEMA
from kalshi_pipeline.evaluation.lineage import Label, Lineage
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.evaluation.samples import Sample, shape, take
from kalshi_pipeline.evaluation.seeds import over_seeds
from kalshi_pipeline.evaluation.verdict import Cell, verdict
from kalshi_pipeline.trading.tape import Universe

SCHEMA_VERSION = 2
VALIDATION = "validation"
_TIERS = ("high", "medium", "low")
_CLEAN = "Clean-forward events, all sessions pooled"
_NONE_CLEAN = "All sessions pooled, none clean-forward"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation leaves behind.

    Args:
        report: JSON-serialisable; `reports` writes it as `report.json` and `report.html`.
        ledger: `LEDGER_SCHEMA` with `role` and `label`, one row an episode and policy.
    """

    report: dict[str, Any]
    ledger: pa.Table


def evaluate(
    universes: Mapping[int, Universe],
    roles: Mapping[int, str],
    policies: Sequence[Policy],
    lineage: Sequence[Mapping[str, Any]],
    selected_on: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    config: TradingConfig,
    evaluation: EvaluationConfig,
    progress: Callable[[str], None],
    *,
    variants: Sequence[Policy] = (),
    seeds: Mapping[int, str] | None = None,
    exclusions: Sequence[Mapping[str, Any]] = (),
    foreign: bool = False,
) -> Evaluation:
    """Judge the first policy beside the others on every session.

    Args:
        universes: session id -> its episodes.
        roles: session id -> what the plan uses it for; "validation" in it feeds that criterion.
        policies: the judged one first, then the baselines; names unique.
        lineage: ranges `{session, event, market, start_ms, end_ms}` behind the judged weights.
        selected_on: the same, used to choose checkpoint or settings.
        provenance: what was evaluated, for the report: checkpoint hash, plan, data generations,
            code version, seeds, budgets. Read here: `generated` (bool), and `sessions` (id as text
            -> description).
        config: rules of an episode; fill model and fees name the cell.
        evaluation: lanes, repeats, bootstrap, seed.
        progress: told one line before each backtest.
        variants: other forms of the judged policy: shown beside it, never a baseline of it.
        seeds: seed -> name of the policy it trained, among the judged one and the variants; None
            or one where there is nothing to compare.
        exclusions: `{session, reason}` and optionally `count`, one for each thing left out.
        foreign: others made the judged weights, from data that are not known: nothing is clean.

    Raises:
        EvaluationError: no policy, names not unique, a session without a role, no episode at all,
            or a lineage that cannot be read.
    """
    shown = (*policies[:1], *variants, *policies[1:])
    _check(universes, roles, shown)
    names = [policy.name for policy in policies]
    extra = [policy.name for policy in variants]
    used = Lineage.of(lineage, selected_on, foreign=foreign)
    ledger = _labelled(_run(universes, shown, config, evaluation, progress), roles, used)
    report = _report(
        ledger, names, extra, seeds or {}, used, provenance, Cell.of(config), evaluation
    )
    report["settings"] = {"trading": asdict(config), "evaluation": asdict(evaluation)}
    report["exclusions"] = _exclusions(exclusions)
    return Evaluation(report=report, ledger=ledger)


def _check(
    universes: Mapping[int, Universe], roles: Mapping[int, str], policies: Sequence[Policy]
) -> None:
    names = [policy.name for policy in policies]
    if not names or len(set(names)) < len(names):
        raise EvaluationError("policies need unique names", rule="policies", value=names)
    for session in universes:
        if session not in roles:
            raise EvaluationError("a session has no role", session=session, rule="roles")
    if not any(len(universe) for universe in universes.values()):
        raise EvaluationError(
            "there is no episode to evaluate on", rule="universes", value=list(universes)
        )


def _run(
    universes: Mapping[int, Universe],
    policies: Sequence[Policy],
    config: TradingConfig,
    evaluation: EvaluationConfig,
    progress: Callable[[str], None],
) -> pa.Table:
    tables = [LEDGER_SCHEMA.empty_table()]
    for session, universe in sorted(universes.items()):
        for policy in policies:
            progress(f"session {session}: {policy.name} on {len(universe)} episodes")
            # By name, so that adding a policy changes no other's draws.
            seed = (evaluation.seed, session, zlib.crc32(policy.name.encode()))
            rng = np.random.default_rng(seed)
            tables.append(backtest(universe, policy, config, evaluation, rng))
    return pa.concat_tables(tables)


def _labelled(ledger: pa.Table, roles: Mapping[int, str], used: Lineage) -> pa.Table:
    keys = ("session", "event", "market", "start_ms")
    columns = [ledger[key].to_pylist() for key in keys]
    labels = [used.label(*key).value for key in zip(*columns, strict=True)]
    ledger = ledger.append_column("role", pa.array([roles[s] for s in columns[0]], pa.string()))
    return ledger.append_column("label", pa.array(labels, pa.string()))


def _report(
    ledger: pa.Table,
    names: Sequence[str],
    variants: Sequence[str],
    seeds: Mapping[int, str],
    used: Lineage,
    provenance: Mapping[str, Any],
    cell: Cell,
    evaluation: EvaluationConfig,
) -> dict[str, Any]:
    generated = bool(provenance.get("generated", False))
    clean = ledger.filter(pc.equal(ledger["label"], Label.CLEAN_FORWARD.value))
    shown = (*names[:1], *variants, *names[1:])
    headline = take(_CLEAN, clean, shown, evaluation) if clean.num_rows else None
    judged = headline or take(_NONE_CLEAN, ledger, shown, evaluation)
    compared = replace(judged, metrics=tuple(m for m in judged.metrics if m.policy in names))
    labels = _labels(ledger)
    trainings = over_seeds(judged, seeds, evaluation) if len(seeds) > 1 else None
    judgement = verdict(
        compared.metrics if headline else (),
        Counter({Label(name): counts["events"] for name, counts in labels.items()}),
        cell,
        evaluation,
        generated=generated,
        trainings=trainings,
    )
    answers = _criteria(ledger, compared, clean if headline else ledger, names, evaluation)
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": asdict(judgement),
        "generated": generated,
        "policy": names[0],
        "baselines": list(names[1:]),
        "cell": {**asdict(cell), "headline": cell.headline},
        "provenance": dict(provenance),
        "labels": labels,
        "lineage_end_ms": used.end_ms,
        "headline": headline.table() if headline else None,
        "seeds": None if trainings is None else asdict(trainings),
        "criteria": [asdict(answer) for answer in answers],
        "shape": shape(judged, evaluation),
        "sessions": _sessions(ledger, shown, provenance, evaluation),
    }


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


def _sessions(
    ledger: pa.Table,
    names: Sequence[str],
    provenance: Mapping[str, Any],
    evaluation: EvaluationConfig,
) -> list[dict[str, Any]]:
    described = provenance.get("sessions", {})
    sections = []
    for session in sorted(set(ledger["session"].to_pylist())):
        rows = ledger.filter(pc.equal(ledger["session"], session))
        sample = take(f"Session {session}", rows, names, evaluation)
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


def _criteria(
    ledger: pa.Table,
    judged: Sample,
    judged_rows: pa.Table,
    names: Sequence[str],
    evaluation: EvaluationConfig,
) -> tuple[Criterion, ...]:
    ledger, judged_rows = (
        rows.filter(pc.is_in(rows["policy"], pa.array(names))) for rows in (ledger, judged_rows)
    )
    validation = ledger.filter(pc.match_substring(ledger["role"], VALIDATION))
    tiers = {tier: judged_rows.filter(pc.equal(judged_rows["tier"], tier)) for tier in _TIERS}
    return criteria(
        take("Validation", validation, names, evaluation) if validation.num_rows else None,
        judged,
        {
            tier: take(tier, rows, names, evaluation)
            for tier, rows in tiers.items()
            if rows.num_rows
        },
        evaluation.min_units,
    )


def _exclusions(exclusions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    counts: Counter[tuple[int, str]] = Counter()
    for excluded in exclusions:
        counts[(int(excluded["session"]), str(excluded["reason"]))] += excluded.get("count", 1)
    return [
        {"session": session, "reason": reason, "count": count}
        for (session, reason), count in sorted(counts.items())
    ]
