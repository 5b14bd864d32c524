"""Lines over a common axis, the judged one in colour with its band, the others in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.evaluation.charts.drawing import (
    COLOUR,
    WIDTH,
    Drawing,
    spanning,
    styled,
    widest,
)

_HEIGHT = 230.0
_MOST_NAME = 116.0
_ROOM = 12.0  # between two names at the ends of their lines


@dataclass(frozen=True)
class Series:
    """A line.

    Args:
        name: written at its end.
        y: one value for each x; None where there is none.
        low, high: of its band, or none.
        judged: whether it is what the page is about.
    """

    name: str
    y: Sequence[float | None]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    judged: bool = False


def line_chart(
    title: str,
    x: Sequence[float],
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    marks: Sequence[tuple[float, str]] = (),
    points: bool = False,
    whole: bool = False,
) -> str:
    """Lines, scaled to the judged one: another that leaves far more runs out of the frame.

    Args:
        title: for readers who cannot see it.
        x: places of the values.
        series: the judged one anywhere among them.
        x_label: name and unit of the x axis.
        y_label: name and unit of the y axis.
        marks: values and names of the x axis, in place of round numbers.
        points: whether each value gets a mark, and the band becomes whiskers.
        whole: whether every line is shown whole.
    """
    with styled():
        return lines(
            title, x, series, x_label, y_label, marks=marks, points=points, whole=whole
        ).svg()


def lines(
    title: str,
    x: Sequence[float],
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    marks: Sequence[tuple[float, str]] = (),
    points: bool = False,
    whole: bool = False,
) -> Drawing:
    """As `line_chart`, to be called and finished where `styled` holds."""
    names = widest(
        (one.name for one in series), _MOST_NAME, {one.name for one in series if one.judged}
    )
    drawing = Drawing(title, _HEIGHT, right=names, top=20)
    ends = spanning(x, 0.06) if points else (x[0], x[-1] or 1.0)
    drawing.x_axis(*ends, x_label, marks=marks)
    drawing.y_axis(*_frame(series, whole=whole), y_label)
    for one in sorted(series, key=lambda one: one.judged):
        _line(drawing, x, one, points=points)
    _name_ends(drawing, series)
    return drawing


def _line(drawing: Drawing, x: Sequence[float], one: Series, *, points: bool) -> None:
    axes, colour = drawing.axes, COLOUR["judged" if one.judged else "other"]
    if one.low is not None and one.high is not None:
        if points:
            for at, low, high in zip(x, one.low, one.high, strict=True):
                axes.plot([at, at], [low, high], color=colour, lw=2.4, alpha=0.5)
        else:
            there_and_back = [*x, *reversed(x)], [*one.high, *reversed(one.low)]
            axes.fill(*there_and_back, color=colour, alpha=0.16, lw=0)
    known = [(at, value) for at, value in zip(x, one.y, strict=True) if value is not None]
    look: dict[str, Any] = {"lw": 2.1} if one.judged else {"lw": 1.0, "alpha": 0.75}
    (line,) = axes.plot(*zip(*known, strict=True), color=colour, **look) if known else (None,)
    if line is None:
        return
    drawing.note(line, one.name, "line judged" if one.judged else "line")
    if points:
        line.set(marker="o", markersize=5.2)


def _frame(series: Sequence[Series], *, whole: bool) -> tuple[float, float]:
    def known(one: Series) -> list[float]:
        return [
            value for value in (*one.y, *(one.low or ()), *(one.high or ())) if value is not None
        ]

    everything = [value for one in series for value in known(one)] + [0.0]
    judged = [value for one in series if one.judged for value in known(one)] + [0.0]
    if whole or len(judged) == 1:
        return spanning(everything)
    reach = max(max(judged) - min(judged), 1.0)
    low = max(min(everything), min(judged) - reach)
    high = min(max(everything), max(judged) + reach)
    return spanning([low, high])


def _name_ends(drawing: Drawing, series: Sequence[Series]) -> None:
    """Write each name at the end of its line, the judged one first, where there is room."""
    taken: list[float] = []
    low, high = drawing.axes.get_ylim()
    for one in sorted(series, key=lambda one: not one.judged):
        ends = [value for value in one.y if value is not None]
        if not ends or not low <= ends[-1] <= high:
            continue
        y = float(drawing.axes.transData.transform((0.0, ends[-1]))[1])
        if all(abs(y - other) >= _ROOM for other in taken):
            taken.append(y)
            drawing.name(WIDTH - drawing.right + 5, y, one.name, drawing.right - 5, one.judged)


def drawdowns(paths: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """How far each path lies below its highest point so far, 0 included; never above 0."""
    fallen: dict[str, list[float]] = {}
    for name, path in paths.items():
        highest, below = 0.0, []
        for value in path:
            highest = max(highest, value)
            below.append(value - highest)
        fallen[name] = below
    return fallen
