"""A canvas of SVG text: scales, axes and marks. Colours are classes of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH = 460.0  # of a chart in its own units: wide enough on a desk, readable on a phone
ROW = 17.0  # height of a line of names
_CHAR, _WIDE = 6.0, 7.6  # of the font, on average: small letters, and capitals
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Values `low .. high` -> places `start .. end`; values outside land outside."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Place of a value."""
        reach = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / reach * (self.end - self.start)


def spanning(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Lowest and highest with some air around them; never an empty stretch."""
    listed = list(values) or [0.0]
    low, high = min(listed), max(listed)
    air = margin * ((high - low) or abs(high) or 1.0)
    return low - air, high + air


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two values."""
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(power * factor for factor in _STEPS if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def labels_of(values: Sequence[float]) -> list[str]:
    """Numbers as an axis prints them: as many decimals as tell them apart."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    decimals = max(0, min(6, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 0
    if decimals and not math.isclose(step * 10**decimals, round(step * 10**decimals)):
        decimals += 1  # steps of 2.5
    elif not decimals and not math.isclose(step, round(step)):
        decimals = 1
    return [minus(f"{value + 0.0:,.{decimals}f}") for value in values]


def minus(text: str) -> str:
    """A number's text with a minus sign in place of the hyphen."""
    return text.replace("-", "\N{MINUS SIGN}")


def width_of(text: str) -> float:
    """Of a line of the chart's font, roughly."""
    return sum(_WIDE if char.isupper() or char in "_mw…" else _CHAR for char in text)


@dataclass
class Canvas:
    """Marks collected as text, in the order in which they are drawn.

    Args:
        title: what a reader who cannot see it is told.
        height: in chart units.
        left, right, top, bottom: margins around the plot.
    """

    title: str
    height: float
    left: float = 52.0
    right: float = 12.0
    top: float = 10.0
    bottom: float = 36.0
    width: float = WIDTH
    parts: list[str] = field(default_factory=list)

    @property
    def x_places(self) -> tuple[float, float]:
        """Left and right end of the plot."""
        return self.left, self.width - self.right

    @property
    def y_places(self) -> tuple[float, float]:
        """Bottom and top of the plot: values grow upwards."""
        return self.height - self.bottom, self.top

    def horizontal(self, low: float, high: float) -> Scale:
        """The scale of an x axis."""
        return Scale(low, high, *self.x_places)

    def vertical(self, low: float, high: float) -> Scale:
        """The scale of a y axis."""
        return Scale(low, high, *self.y_places)

    def x_axis(self, scale: Scale, label: str, *, marks: Sequence[tuple[float, str]] = ()) -> None:
        """Grid, numbers and name of an x axis; `marks` in place of round numbers."""
        shown = list(marks) or _marked(scale, 5)
        floor = self.height - self.bottom
        for value, text in shown:
            x = scale(value)
            self.line(x, self.top, x, floor, "zero" if value == 0 and not marks else "grid")
            self.text(x, floor + 13, text, anchor="middle", shade="tick")
        self.text(self.width - self.right, self.height - 5, label, anchor="end", shade="axis")

    def y_axis(self, scale: Scale, label: str) -> None:
        """Grid, numbers and name of a y axis; the name stands above the plot."""
        for value, text in _marked(scale, 4):
            y = scale(value)
            self.line(self.left, y, self.width - self.right, y, "zero" if value == 0 else "grid")
            self.text(self.left - 6, y + 3.5, text, anchor="end", shade="tick")
        self.text(0, 9, label, shade="axis")

    def line(self, x1: float, y1: float, x2: float, y2: float, shade: str) -> None:
        """A straight line."""
        self.parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{shade}"/>'
        )

    def path(
        self,
        points: Sequence[tuple[float, float]],
        shade: str,
        hint: str = "",
        *,
        step: bool = False,
    ) -> None:
        """A line through points; stepped, it keeps each value until the next."""
        if not points:
            return
        drawn = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
        for x, y in points[1:]:
            drawn.append(f"H{_n(x)}V{_n(y)}" if step else f"L{_n(x)} {_n(y)}")
        self._shape(f'path d="{"".join(drawn)}"', f"line {shade}", hint)

    def area(
        self, x: Sequence[float], low: Sequence[float], high: Sequence[float], shade: str
    ) -> None:
        """What lies between two lines."""
        there = [f"{_n(a)} {_n(b)}" for a, b in zip(x, high, strict=True)]
        back = [f"{_n(a)} {_n(b)}" for a, b in zip(reversed(x), reversed(low), strict=True)]
        self._shape(f'path d="M{"L".join([*there, *back])}Z"', f"area {shade}", "")

    def bar(
        self, x1: float, x2: float, y: float, height: float, shade: str, hint: str = ""
    ) -> None:
        """A horizontal bar between two places."""
        left, wide = min(x1, x2), abs(x2 - x1)
        self._shape(
            f'rect x="{_n(left)}" y="{_n(y)}" width="{_n(wide)}" height="{_n(height)}"',
            f"fill {shade}", hint,
        )  # fmt: skip

    def dot(self, x: float, y: float, shade: str, hint: str = "", radius: float = 3.5) -> None:
        """A round mark."""
        self._shape(f'circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"', f"dot {shade}", hint)

    def polygon(self, points: Sequence[tuple[float, float]], shade: str, hint: str = "") -> None:
        """A filled shape."""
        listed = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._shape(f'polygon points="{listed}"', f"fill {shade}", hint)

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", shade: str = "",
        room: float | None = None,
    ) -> None:  # fmt: skip
        """A line of text; one that does not fit into `room` is cut, and told whole when asked."""
        shown, hint = text, ""
        if room is not None and width_of(text) > room:
            shown = text[: max(1, int(room / _CHAR) - 1)].rstrip() + "…"
            hint = f"<title>{escape(text)}</title>"
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        named = f' class="{shade}"' if shade else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}"{place}{named}>{hint}{escape(shown)}</text>'
        )

    def slanted(self, x: float, y: float, text: str) -> None:
        """A column's name, rising to the right."""
        self.parts.append(
            f'<text transform="translate({_n(x)} {_n(y)}) rotate(-45)" class="tick">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """The whole drawing."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self.width)} '
            f'{_n(self.height)}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(self.parts)}</svg>"
        )

    def _shape(self, shape: str, shade: str, hint: str) -> None:
        told = f"><title>{escape(hint)}</title></{shape.split(' ', 1)[0]}>" if hint else "/>"
        self.parts.append(f'<{shape} class="{shade}"{told}')


def _marked(scale: Scale, wanted: int) -> list[tuple[float, str]]:
    values = ticks(scale.low, scale.high, wanted)
    return list(zip(values, labels_of(values), strict=True))


def _n(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"
