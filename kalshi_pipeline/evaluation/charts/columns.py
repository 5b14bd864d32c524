"""Columns side by side, and marks in a plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kalshi_pipeline.evaluation.charts.drawing import COLOUR, Drawing, spanning

_HEIGHT = 220.0


def columns(
    title: str, names: Sequence[str], values: Sequence[float], x_label: str, y_label: str
) -> Drawing:
    """One column a name; to be called and finished where `styled` holds."""
    drawing = Drawing(title, _HEIGHT, top=20)
    drawing.x_axis(-0.6, len(names) - 0.4, x_label, marks=list(enumerate(names)))
    drawing.axes.grid(visible=False, axis="x")
    drawing.y_axis(0.0, 1.06 * max(values, default=0.0) or 1.0, y_label)
    drawing.axes.bar(range(len(names)), values, width=0.82, color=COLOUR["judged"], lw=0)
    return drawing


def plane(
    title: str,
    groups: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
) -> Drawing:
    """Marks by a logarithmic x, of at least 0, and a y; as `columns`.

    Args:
        title: for readers who cannot see it.
        groups: name -> its marks; the first group is in colour.
        x_label: name and unit of the x axis.
        y_label: name and unit of the y axis.
    """
    drawing = Drawing(title, _HEIGHT + 30, top=36)
    drawn = {name: [(math.log10(1 + x), y) for x, y in marks] for name, marks in groups.items()}
    everything = [mark for marks in drawn.values() for mark in marks]
    reach = max((x for x, _ in everything), default=1.0)
    decades = [(math.log10(1 + ten), f"{ten:,}") for ten in (0, *(10**n for n in range(9)))]
    shown = [mark for mark in decades if mark[0] <= reach]
    drawing.x_axis(-0.05 * (reach or 1.0), 1.05 * (reach or 1.0), x_label, marks=shown)
    drawing.y_axis(*spanning([0.0, *(y for _, y in everything)]), y_label)
    handles = []
    for place, marks in enumerate(drawn.values()):
        colour = COLOUR["judged" if place == 0 else "other"]
        look: dict[str, Any] = (
            {"color": colour} if place == 0 else {"facecolors": "none", "edgecolors": colour}
        )
        handles.append(
            drawing.axes.scatter(
                [x for x, _ in marks], [y for _, y in marks], s=16, alpha=0.75, lw=0.9, **look
            )
        )
    drawing.legend(handles, list(groups))
    return drawing
