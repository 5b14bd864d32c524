"""The touch of one market around a trade: best bid and ask over time, the fills marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from kalshi_pipeline.evaluation.charts.drawing import (
    COLOUR,
    RIGHT,
    WIDTH,
    Drawing,
    spanning,
    styled,
)

_HEIGHT = 230.0
_LEFT = 40.0
_TOP = 38.0
_LOOK: Mapping[str, Mapping[str, Any]] = {
    "best ask": {"color": COLOUR["orange"], "lw": 1.6, "ls": (0, (3, 1.2))},
    "best bid": {"color": COLOUR["blue"], "lw": 1.6},
    "buy": {"marker": "^", "ls": "", "mfc": COLOUR["blue"]},
    "sell": {"marker": "v", "ls": "", "mfc": COLOUR["orange"]},
}
_MARK: Mapping[str, Any] = {"ms": 10, "mec": COLOUR["panel"]}


@dataclass(frozen=True)
class Moment:
    """The touch from a time on; None on a side without quotes."""

    at_s: float
    bid_cents: float | None
    ask_cents: float | None


@dataclass(frozen=True)
class Fill:
    """A fill.

    Args:
        at_s: when.
        price_cents: of YES.
        buys: whether it bought YES.
        says: told when the mark is asked.
        own: whether it is of the trade that is shown; others are hollow.
    """

    at_s: float
    price_cents: float
    buys: bool
    says: str
    own: bool = True


def replay_chart(title: str, moments: Sequence[Moment], fills: Sequence[Fill]) -> str:
    """Bid and ask as steps, buys as triangles that point up, sells down; a cursor at the left."""
    with styled():
        drawing = Drawing(title, _HEIGHT, top=_TOP, left=_LEFT)
        quotes = [q for moment in moments for q in (moment.bid_cents, moment.ask_cents)]
        prices = [q for q in quotes if q is not None] + [fill.price_cents for fill in fills]
        drawing.x_axis(*span_of(moments), "seconds from the entry")
        drawing.y_axis(*spanning(prices, 0.12), "price of YES, ¢")
        times = [moment.at_s for moment in moments]
        sides = {
            "best ask": [moment.ask_cents for moment in moments],
            "best bid": [moment.bid_cents for moment in moments],
        }
        for side, values in sides.items():  # the line breaks where nothing is quoted
            known = [nan if value is None else value for value in values]
            drawing.axes.step(times, known, where="post", **_LOOK[side])
        for fill in fills:
            look = {**_LOOK["buy" if fill.buys else "sell"], **_MARK}
            if not fill.own:
                look |= {"mfc": COLOUR["panel"], "mec": look["mfc"]}
            (mark,) = drawing.axes.plot(fill.at_s, fill.price_cents, clip_on=False, **look)
            drawing.note(mark, fill.says)
        _legend(drawing)
        drawing.cursor()
        return drawing.svg()


def _legend(drawing: Drawing) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], **look, **(_MARK if "marker" in look else {})) for look in _LOOK.values()
    ]
    drawing.legend(handles, list(_LOOK), handlelength=1.5)


def span_of(moments: Sequence[Moment]) -> tuple[float, float]:
    """First and last time of the picture."""
    return moments[0].at_s, max(moments[-1].at_s, moments[0].at_s + 0.001)


def place_of(at_s: float, moments: Sequence[Moment]) -> float:
    """Where a time lies in the picture."""
    first, last = span_of(moments)
    return _LEFT + (at_s - first) / (last - first) * (WIDTH - RIGHT - _LEFT)
