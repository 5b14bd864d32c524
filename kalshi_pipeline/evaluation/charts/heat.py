"""Amounts as shades: blue above 0, orange below, the paler the smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kalshi_pipeline.evaluation.charts.drawing import (
    COLOUR,
    WIDTH,
    Drawing,
    fitted,
    minus,
    styled,
    widest,
    width_of,
)

SHADES = 5
_CELL = 15.0
_MOST_COLUMN = 110.0
_ALPHA = (0.0, 0.11, 0.24, 0.38, 0.54, 0.74)  # of the strengths, as page.css mixes them
_SLANT = 0.71  # of a name's width is its height at 45 degrees


def shade_of(value: float | None, reach: float) -> str:
    """Class of a value between `-reach` and `reach`: heat-0, heat-p1..5, heat-n1..5."""
    if value is None:
        return ""
    strength = strength_of(value, reach)
    if not strength:
        return "heat-0"
    return f"heat-{'p' if value > 0 else 'n'}{strength}"


def strength_of(value: float, reach: float) -> int:
    """0 to 5: how dark a value between `-reach` and `reach` is."""
    return min(SHADES, round(SHADES * abs(value) / reach)) if reach > 0 else 0


def heat_chart(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Mapping[tuple[str, str], float]
) -> str:
    """A field of cells, one a row and column, each telling its value when asked."""
    with styled():
        shown = [fitted(column, _MOST_COLUMN) for column in columns]
        slanted = _SLANT * max(map(width_of, shown), default=0.0)
        names = widest(rows, 190.0)
        high = _CELL * max(len(rows), 1)
        wide = min(46.0, (WIDTH - names - slanted) / max(len(columns), 1))
        drawing = Drawing(
            title, high + slanted + 22, left=names, right=WIDTH - names - wide * len(columns),
            top=slanted + 16, bottom=6,
        )  # fmt: skip
        axes = drawing.axes
        axes.set_xlim(0, len(columns))
        drawing.rows(rows, ())
        axes.xaxis.tick_top()
        axes.set_xticks(
            [place + 0.5 for place in range(len(columns))], shown,
            rotation=45, ha="left", rotation_mode="anchor",
        )  # fmt: skip
        axes.tick_params(axis="x", top=False)
        reach = max((abs(value) for value in values.values()), default=0.0)
        for down, row in enumerate(rows):
            for place, column in enumerate(columns):
                if (value := values.get((row, column))) is not None:
                    hint = f"{column}, {row}: " + minus(f"{value:+.3g}")
                    drawing.bar(down, place, 0.97, 0.93, hint, **_look(value, reach))
        return drawing.svg()


def _look(value: float, reach: float) -> dict[str, Any]:
    strength = strength_of(value, reach)
    if not strength:
        return {"color": COLOUR["grid"]}
    return {"color": COLOUR["blue" if value > 0 else "orange"], "alpha": _ALPHA[strength]}
