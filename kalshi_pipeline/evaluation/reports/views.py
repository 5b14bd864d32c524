"""Rows of a report, turned the way its page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kalshi_pipeline.evaluation.reports import text
from kalshi_pipeline.evaluation.reports.figures.sensitivity import title_of
from kalshi_pipeline.evaluation.reports.text import Column, words

__all__ = ["columns_of", "grid", "markouts", "measured", "title_of"]

_SHADED = 0.9  # quantile of the amounts at which a shade is the strongest


def grid(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Column]]:
    """The grid with a row a policy and a column a cell, shaded by amount."""
    cells = list(dict.fromkeys((row["fill_model"], row["mark"], row["fees"]) for row in rows))
    amounts = sorted(abs(row["pnl_cents"]) for row in rows)
    reach = amounts[int(_SHADED * (len(amounts) - 1))] or 1.0
    headline = {(r["fill_model"], r["mark"], r["fees"]) for r in rows if r["headline"]}
    columns = [Column("policy", "Policy")]
    for place, (fill_model, mark, fees) in enumerate(cells):
        star = " (headline)" if (fill_model, mark, fees) in headline else ""
        title = f"{fill_model}, {mark}, {'fees' if fees else 'no fees'}{star}"
        columns.append(Column(f"{place}", title, "signed", f"{place} ends", heat=reach))
    pivot: dict[str, dict[str, Any]] = {}
    for row in rows:
        place = cells.index((row["fill_model"], row["mark"], row["fees"]))
        shown = pivot.setdefault(row["policy"], {"policy": row["policy"]})
        shown |= {f"{place}": row["pnl_cents"], f"{place} ends": row["pnl_interval"]}
    return list(pivot.values()), columns


def markouts(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Column]]:
    """Mark-outs with a row a policy and kind of fill, and a column a time after the fill."""
    columns = [
        Column("policy", "Policy"),
        Column("side", "Fills"),
        Column("fills", "Count", "count"),
    ]
    columns += [
        Column(f"{s}", f"After {s:g} s, ¢ a contract", "signed2", f"{s} ends", optional=True)
        for s in sorted({row["horizon_s"] for row in rows})
    ]
    pivot: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        horizon, who = row["horizon_s"], {key: row[key] for key in ("policy", "side")}
        shown = pivot.setdefault((row["policy"], row["side"]), {**who, "fills": row["fills"]})
        shown |= {f"{horizon}": row["cents"], f"{horizon} ends": row["interval"]}
    return list(pivot.values()), columns


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """A column a key, for rows whose keys the page does not know; rows may lack some.

    What is itself a table has no column.
    """
    columns = []
    for key in dict.fromkeys(key for row in rows for key in row):
        if any(isinstance(row.get(key), Mapping) for row in rows):
            continue
        kind = _kind(key, [row[key] for row in rows if row.get(key) is not None])
        columns.append(Column(key, words(key).capitalize(), kind, optional=True))
    return columns


def measured(value: float | None, unit: str) -> str:
    """A figure behind a rule, with its unit."""
    if value is None:
        return text.DASH
    return {
        "share": lambda: text.percent(value),
        "cents": lambda: f"{text.signed(value)} ¢",
        "dollars": lambda: f"${text.number(value, 2)}",
        "count": lambda: text.number(value, 0),
    }.get(unit, lambda: text.signed(value, 2))()


def _kind(key: str, values: Sequence[Any]) -> str:
    if key.endswith("_ms"):
        return "utc"
    if not values or any(
        isinstance(one, bool) or not isinstance(one, int | float) for one in values
    ):
        return "text"
    if key.endswith("_share"):
        return "percent"
    return "count" if all(isinstance(one, int) for one in values) else "number2"
