"""One row a name: a figure and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kalshi_pipeline.evaluation.charts.svg import ROW, Canvas, spanning, width_of

_MOST_NAME = 170.0


@dataclass(frozen=True)
class Dot:
    """A named figure.

    Args:
        name: of the row.
        value: None where there is none; the row then stays empty.
        interval: low and high, or None: the mark is hollow.
        judged: whether it is what the page is about.
        core: a narrower stretch inside the interval, drawn thicker, or None.
    """

    name: str
    value: float | None
    interval: Sequence[float] | None
    judged: bool = False
    core: Sequence[float] | None = None


def dot_chart(title: str, rows: Sequence[Dot], label: str) -> str:
    """Figures with intervals, one below the other, on one scale that shows 0."""
    names = min(_MOST_NAME, max((width_of(row.name) for row in rows), default=0.0) + 10)
    canvas = Canvas(title, ROW * len(rows) + 50, left=names)
    shown = [v for row in rows for v in (row.value, *(row.interval or ())) if v is not None]
    scale = canvas.horizontal(*spanning([0.0, *shown]))
    canvas.x_axis(scale, label)
    for place, row in enumerate(rows):
        y = canvas.top + ROW * (place + 0.5)
        shade = "judged" if row.judged else "other"
        canvas.text(
            names - 6, y + 3.5, row.name, anchor="end", shade=f"name {shade}", room=names - 8
        )
        if row.value is None:
            continue
        hint = f"{row.name}: {row.value:+,.2f}"
        if row.interval:
            low, high = row.interval
            canvas.line(scale(low), y, scale(high), y, f"whisker {shade}")
            hint += f" [{low:+,.2f}, {high:+,.2f}]"
        if row.core:
            canvas.line(scale(row.core[0]), y, scale(row.core[1]), y, f"core {shade}")
        hollow = "" if row.interval else " hollow"
        canvas.dot(scale(row.value), y, shade + hollow, hint.replace("-", "\N{MINUS SIGN}"))
    return canvas.svg()
