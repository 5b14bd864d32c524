"""One row a name: a figure and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kalshi_pipeline.evaluation.charts.svg import ROW, Canvas, Scale, minus, spanning, width_of

_MOST_NAME = 190.0
_OUTLIER = 4.0  # times the reach of the row in the middle


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
    """Figures with intervals, one below the other, on one scale that shows 0.

    A row that lies far outside what the others need is written at the edge instead.
    """
    names = min(_MOST_NAME, max((width_of(row.name) for row in rows), default=0.0) + 16)
    canvas = Canvas(title, ROW * len(rows) + 50, left=names)
    scale = canvas.horizontal(*_frame(rows))
    canvas.x_axis(scale, label)
    alike = all(row.judged for row in rows)  # then no name needs to stand out
    for place, row in enumerate(rows):
        y = canvas.top + ROW * (place + 0.5)
        shade = "judged" if row.judged else "other"
        named = "name other" if alike else f"name {shade}"
        canvas.text(names - 6, y + 3.5, row.name, anchor="end", shade=named, room=names - 8)
        if row.value is None:
            continue
        hint = f"{row.value:+,.2f}"
        if row.interval:
            hint += f" [{row.interval[0]:+,.2f}, {row.interval[1]:+,.2f}]"
            canvas.line(*_ends(scale, row.interval, y), f"whisker {shade}")
        if row.core:
            canvas.line(*_ends(scale, row.core, y), f"core {shade}")
        if scale.low <= row.value <= scale.high:
            hollow = "" if row.interval else " hollow"
            canvas.dot(scale(row.value), y, shade + hollow, f"{row.name}: {minus(hint)}")
        else:
            above = row.value > scale.high
            told = f"{row.value:+,.0f} \N{RIGHTWARDS ARROW}"
            if not above:
                told = f"\N{LEFTWARDS ARROW} {row.value:+,.0f}"
            x, anchor = (scale.end, "end") if above else (scale.start + 3, "start")
            canvas.text(x, y + 3.5, minus(told), anchor=anchor, shade=f"name {shade}")
    return canvas.svg()


def _frame(rows: Sequence[Dot]) -> tuple[float, float]:
    known = [row for row in rows if row.value is not None]
    ends = [[row.value or 0.0, *(row.interval or ())] for row in known]
    reach = [max(map(abs, values)) for values in ends] or [1.0]
    judged = [far for far, row in zip(reach, known, strict=False) if row.judged]
    most = max(_OUTLIER * sorted(reach)[len(reach) // 2], 1.3 * max(judged, default=0.0))
    return spanning([0.0, *(max(-most, min(most, value)) for values in ends for value in values)])


def _ends(scale: Scale, stretch: Sequence[float], y: float) -> tuple[float, float, float, float]:
    low, high = (scale(min(max(end, scale.low), scale.high)) for end in stretch)
    return low, y, high, y
