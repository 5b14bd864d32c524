"""One row a name: a figure and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kalshi_pipeline.evaluation.charts.drawing import (
    COLOUR,
    ROW,
    Drawing,
    minus,
    spanning,
    styled,
    widest,
)

_MOST_NAME = 172.0
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
    with styled():
        return dots(title, rows, label).svg()


def dots(title: str, rows: Sequence[Dot], label: str) -> Drawing:
    """As `dot_chart`, to be called and finished where `styled` holds."""
    names, judged = [row.name for row in rows], {row.name for row in rows if row.judged}
    if all(row.judged for row in rows):
        judged = set()  # then no name needs to stand out
    left = widest(names, _MOST_NAME, judged)
    drawing = Drawing(title, ROW * max(len(rows), 1) + 44, left=left)
    drawing.x_axis(*_frame(rows), label)
    drawing.rows(names, judged)
    for place, row in enumerate(rows):
        _row(drawing, place, row)
    return drawing


def _row(drawing: Drawing, place: int, row: Dot) -> None:
    if row.value is None:
        return
    axes, colour = drawing.axes, COLOUR["judged" if row.judged else "other"]
    hint = f"{row.value:+,.2f}"
    if row.interval:
        hint += f" [{row.interval[0]:+,.2f}, {row.interval[1]:+,.2f}]"
        axes.plot(row.interval, [place, place], color=colour, lw=2.4, alpha=0.5)
    if row.core:
        axes.plot(row.core, [place, place], color=colour, lw=6, alpha=0.55)
    low, high = axes.get_xlim()
    if low <= row.value <= high:
        inside = colour if row.interval else COLOUR["panel"]
        (dot,) = axes.plot(row.value, place, "o", ms=7, mec=colour, mfc=inside, clip_on=False)
        drawing.note(dot, f"{row.name}: {minus(hint)}")
    elif row.value > high:
        told = minus(f"{row.value:+,.0f} \N{RIGHTWARDS ARROW}")
        axes.text(high, place, told, color=colour, ha="right", va="center")
    else:
        told = minus(f"\N{LEFTWARDS ARROW} {row.value:+,.0f}")
        axes.text(low, place, told, color=colour, va="center")


def _frame(rows: Sequence[Dot]) -> tuple[float, float]:
    known = [row for row in rows if row.value is not None]
    ends = [[row.value or 0.0, *(row.interval or ())] for row in known]
    reach = [max(map(abs, values)) for values in ends] or [1.0]
    judged = [far for far, row in zip(reach, known, strict=False) if row.judged]
    most = max(_OUTLIER * sorted(reach)[len(reach) // 2], 1.3 * max(judged, default=0.0))
    return spanning([0.0, *(max(-most, min(most, value)) for values in ends for value in values)])
