"""Amounts as shades: blue above 0, orange below, the paler the smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kalshi_pipeline.evaluation.charts.svg import Canvas, minus, width_of

SHADES = 5
_CELL = 15.0


def shade_of(value: float | None, reach: float) -> str:
    """Class of a value between `-reach` and `reach`: heat-0, heat-p1..5, heat-n1..5."""
    if value is None:
        return ""
    strength = min(SHADES, round(SHADES * abs(value) / reach)) if reach > 0 else 0
    if not strength:
        return "heat-0"
    return f"heat-{'p' if value > 0 else 'n'}{strength}"


def heat_chart(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Mapping[tuple[str, str], float]
) -> str:
    """A field of cells, one a row and column, each telling its value when asked."""
    names = min(190.0, max((width_of(row) for row in rows), default=0.0) + 10)
    head = max((width_of(column) for column in columns), default=0.0) * 0.72 + 14
    canvas = Canvas(title, head + _CELL * len(rows) + 18, left=names, top=head, bottom=18)
    wide = min(46.0, (canvas.width - names - 40) / max(len(columns), 1))
    reach = max((abs(value) for value in values.values()), default=0.0)
    for place, column in enumerate(columns):
        canvas.slanted(names + wide * (place + 0.5), head - 5, column)
    for down, row in enumerate(rows):
        y = head + _CELL * down
        canvas.text(names - 6, y + 11, row, anchor="end", shade="name other", room=names - 8)
        for place, column in enumerate(columns):
            value = values.get((row, column))
            if value is not None:
                x = names + wide * place
                hint = f"{column}, {row}: " + minus(f"{value:+.3g}")
                canvas.bar(x, x + wide - 1, y, _CELL - 1, shade_of(value, reach), hint)
    return canvas.svg()
