"""The touch of one market around a trade: best bid and ask over time, the fills marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kalshi_pipeline.evaluation.charts.svg import Canvas, spanning

_HEIGHT = 230.0
_MARK = 5.5


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
    canvas = Canvas(title, _HEIGHT, top=24, left=40)
    xs = canvas.horizontal(*span_of(moments))
    quotes = [q for moment in moments for q in (moment.bid_cents, moment.ask_cents)]
    prices = [q for q in quotes if q is not None] + [fill.price_cents for fill in fills]
    ys = canvas.vertical(*spanning(prices, 0.12))
    canvas.x_axis(xs, "seconds from the entry")
    canvas.y_axis(ys, "price of YES, ¢")
    legend = (("best ask", "ask", 150.0), ("best bid", "bid", 232.0))
    for name, shade, x in legend:
        canvas.path([(x, 6.0), (x + 16, 6.0)], shade)
        canvas.text(x + 20, 9, name, shade="tick")
    for name, shade, x in (("buy", "buy", 314.0), ("sell", "sell", 362.0)):
        canvas.polygon(_triangle(x, 6.0, up=shade == "buy"), shade)
        canvas.text(x + 9, 9, name, shade="tick")
    for shade in ("ask", "bid"):
        run: list[tuple[float, float]] = []
        for moment in moments:
            quote = moment.ask_cents if shade == "ask" else moment.bid_cents
            if quote is None:  # the line breaks where nothing is quoted
                if run:
                    canvas.path([*run, (xs(moment.at_s), run[-1][1])], shade, step=True)
                run = []
            else:
                run.append((xs(moment.at_s), ys(quote)))
        canvas.path(run, shade, step=True)
    for fill in fills:
        canvas.polygon(
            _triangle(xs(fill.at_s), ys(fill.price_cents), up=fill.buys),
            ("buy" if fill.buys else "sell") + ("" if fill.own else " other"),
            fill.says,
        )
    canvas.line(0, canvas.top, 0, canvas.height - canvas.bottom, "cursor")
    return canvas.svg()


def span_of(moments: Sequence[Moment]) -> tuple[float, float]:
    """First and last time of the picture."""
    return moments[0].at_s, max(moments[-1].at_s, moments[0].at_s + 0.001)


def place_of(at_s: float, moments: Sequence[Moment]) -> float:
    """Where a time lies in the picture."""
    return Canvas("", _HEIGHT, left=40).horizontal(*span_of(moments))(at_s)


def _triangle(x: float, y: float, *, up: bool) -> list[tuple[float, float]]:
    tip = -_MARK if up else _MARK
    return [(x, y + tip), (x + _MARK, y - tip), (x - _MARK, y - tip)]
