"""Several evaluations side by side: what they say, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.reports import text
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure, main_table


@dataclass(frozen=True)
class Evaluated:
    """An evaluation to be compared.

    Args:
        name: how the page calls it; unique.
        report: of `report.json`.
        events: (session, event) of every event the judged policy's figures are made of; None
            where its ledger is not there.
    """

    name: str
    report: Mapping[str, Any]
    events: frozenset[tuple[int, str]] | None = None


def compared(evaluations: Sequence[Evaluated]) -> dict[str, Any]:
    """What the page of a comparison is made from, in the order of the evaluations."""
    return {
        "evaluations": evaluations,
        "common_ground": _common_ground(evaluations),
        "figures": _figures(evaluations),
        "headline": _headline(evaluations),
        "criteria": _criteria(evaluations),
        "grid": _grid(evaluations),
        "differences": _differences(evaluations),
    }


def _common_ground(evaluations: Sequence[Evaluated]) -> list[str]:
    """Every reason why figures of different columns may not be compared; none where they may."""
    doubts = []
    known = [one.events for one in evaluations if one.events is not None]
    if len(known) < len(evaluations):
        doubts.append(
            "Of "
            + ", ".join(one.name for one in evaluations if one.events is None)
            + " there is no ledger: whether the same events were judged is not known."
        )
    if len(set(known)) > 1:
        common = frozenset.intersection(*known)
        sizes = ", ".join(
            f"{one.name} {len(one.events)}" for one in evaluations if one.events is not None
        )
        doubts.append(
            f"They were not judged on the same events: {len(common)} in common, of {sizes}."
        )
    cells = {_cell(one.report) for one in evaluations}
    if len(cells) > 1:
        doubts.append(f"They were not judged in the same cell: {'; '.join(sorted(cells))}.")
    if len({one.report["generated"] for one in evaluations}) > 1:
        doubts.append("Some were judged on generated sessions, others on recorded ones.")
    if len({one.report["headline"] is None for one in evaluations}) > 1:
        doubts.append("Some have clean-forward events, others have none and show all sessions.")
    return doubts


def _cell(report: Mapping[str, Any]) -> str:
    cell = report["cell"]
    fees = "fees on" if cell["fees"] else "fees off"
    return f"fill model {cell['fill_model']}, {cell['mark']} mark, {fees}"


def _figures(evaluations: Sequence[Evaluated]) -> list[Figure]:
    rows = []
    for one in evaluations:
        judged, *others = main_table(one.report)["policies"]
        honest = set(one.report["baselines"]) - set(one.report.get("cheating") or ())
        best = max(
            (row for row in others if row["policy"] in honest),
            key=lambda row: float(row["pnl_cents"]),
            default=None,
        )
        name = f"{one.name}: {judged['policy']}"
        rows.append(Dot(name, judged["pnl_cents"], judged["pnl_interval"], judged=True))
        if best:
            name = f"{one.name}: {best['policy']}"
            rows.append(Dot(name, best["pnl_cents"], best["pnl_interval"]))
    chart = dot_chart("P&L per event of each evaluation", rows, "P&L per event, ¢")
    return [
        figure("P&L per event", chart, "Judged policies in colour, below each its best baseline.")
    ]


@dataclass(frozen=True)
class Entry:
    """A figure of one evaluation: its text, its interval's, and what it is sorted by."""

    text: str = text.DASH
    ends: str = ""
    value: float | str = ""
    status: str = ""


_Rows = Mapping[str, Mapping[str, Any]]


def _headline(evaluations: Sequence[Evaluated]) -> list[tuple[str, list[Entry]]]:
    """P&L per event of every policy: name -> an entry an evaluation."""
    return _side_by_side(
        [{row["policy"]: row for row in main_table(one.report)["policies"]} for one in evaluations],
        _pnl,
    )


def _criteria(evaluations: Sequence[Evaluated]) -> list[tuple[str, list[Entry]]]:
    show = {"share": text.percent, "cents": lambda v: f"{text.signed(v)} ¢"}

    def entry(row: Mapping[str, Any]) -> Entry:
        shown = show.get(row["unit"], lambda v: text.signed(v, 2))(row["value"])
        return Entry(
            shown, value="" if row["value"] is None else row["value"], status=row["status"]
        )

    tables = [
        {f"{row['group']}: {row['text']}": row for row in one.report["criteria"]}
        for one in evaluations
    ]
    return _side_by_side(tables, entry)


def _grid(evaluations: Sequence[Evaluated]) -> list[tuple[str, list[Entry]]]:
    """P&L per event of the judged policy in every cell of the grid."""
    tables = [
        {
            f"{row['fill_model']}, {row['mark']} mark, fees {'on' if row['fees'] else 'off'}": row
            for row in one.report.get("grid") or ()
            if row["policy"] == one.report["policy"]
        }
        for one in evaluations
    ]
    return _side_by_side(tables, _pnl)


def _pnl(row: Mapping[str, Any]) -> Entry:
    return Entry(
        text.signed(row["pnl_cents"]), text.interval(row["pnl_interval"]), row["pnl_cents"]
    )


def _side_by_side(
    tables: Sequence[_Rows], entry: Callable[[Mapping[str, Any]], Entry]
) -> list[tuple[str, list[Entry]]]:
    """Name of a row -> its entry in each table, an empty one where it is not there."""
    return [
        (name, [entry(table[name]) if name in table else Entry() for table in tables])
        for name in _union(tables)
    ]


def _differences(evaluations: Sequence[Evaluated]) -> list[tuple[str, list[str]]]:
    """Every fact of provenance and settings in which they differ: its path -> a text each."""
    tables = [
        dict(_flat({"provenance": one.report["provenance"], "settings": one.report["settings"]}))
        for one in evaluations
    ]
    rows = [(path, [table.get(path, text.DASH) for table in tables]) for path in _union(tables)]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, f"{path} · {text.words(key)}" if path else text.words(key))
    elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        for place, entry in enumerate(value, start=1):
            yield from _flat(entry, f"{path} {place}")
    else:
        yield path, text.plain(value)


def _union(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of all of them, each once, in the order in which they first stand."""
    return list(dict.fromkeys(key for table in tables for key in table))
