"""Lines over a common axis, the judged one in colour with its band, the others in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kalshi_pipeline.evaluation.charts.svg import Canvas, Scale, spanning, width_of

_HEIGHT = 240.0
_MOST_NAME = 124.0
_ROOM = 11.0  # between two names at the ends of their lines


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
    ordered = sorted(series, key=lambda one: one.judged)
    names = min(_MOST_NAME, max(width_of(one.name) for one in series) * 1.08 + 10)
    canvas = Canvas(title, _HEIGHT, right=names, top=20)
    xs = canvas.horizontal(*(spanning(x, 0.06) if points else (x[0], x[-1] or 1.0)))
    ys = canvas.vertical(*_frame(series, whole=whole))
    canvas.x_axis(xs, x_label, marks=marks)
    canvas.y_axis(ys, y_label)
    floor, ceiling = canvas.y_places
    for one in ordered:
        shade = "judged" if one.judged else "other"
        if one.low is not None and one.high is not None:
            if points:
                for a, low, high in zip(x, one.low, one.high, strict=True):
                    canvas.line(xs(a), ys(low), xs(a), ys(high), f"whisker {shade}")
            else:
                canvas.area(
                    [xs(a) for a in x], [ys(v) for v in one.low], [ys(v) for v in one.high], shade
                )
        drawn = [(xs(a), ys(value)) for a, value in zip(x, one.y, strict=True) if value is not None]
        for run in _within(drawn, ceiling, floor):
            canvas.path(run, shade, one.name)
        if points:
            for place in drawn:
                if ceiling <= place[1] <= floor:
                    canvas.dot(*place, shade, one.name, radius=2.6)
    _name_ends(canvas, ys, ordered[::-1], names)  # the judged one first: it is always named
    return canvas.svg()


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


def _within(
    points: Sequence[tuple[float, float]], ceiling: float, floor: float
) -> list[list[tuple[float, float]]]:
    """The stretches of a line that lie inside the frame, cut where they cross it."""
    runs: list[list[tuple[float, float]]] = (
        [list(points[:1])] if _inside(points, ceiling, floor) else [[]]
    )
    for start, end in pairwise(points):
        cut = [
            (start[0] + (wall - start[1]) / (end[1] - start[1]) * (end[0] - start[0]), wall)
            for wall in (ceiling, floor)
            if min(start[1], end[1]) < wall < max(start[1], end[1])
        ]
        cut.sort()
        runs[-1] += cut
        if ceiling <= end[1] <= floor:
            runs[-1].append(end)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _inside(points: Sequence[tuple[float, float]], ceiling: float, floor: float) -> bool:
    return bool(points) and ceiling <= points[0][1] <= floor


def _name_ends(canvas: Canvas, scale: Scale, series: Sequence[Series], room: float) -> None:
    """Write each name at the end of its line, the judged one first, where there is room."""
    taken: list[float] = []
    for one in series:
        ends = [value for value in one.y if value is not None]
        if not ends or not scale.low <= ends[-1] <= scale.high:
            continue
        y = scale(ends[-1])
        if all(abs(y - other) >= _ROOM for other in taken):
            taken.append(y)
            shade = "judged" if one.judged else "other"
            canvas.text(
                canvas.width - canvas.right + 5, y + 3.5, one.name, shade=f"name {shade}",
                room=room - 5,
            )  # fmt: skip


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
