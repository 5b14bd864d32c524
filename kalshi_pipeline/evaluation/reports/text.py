"""Numbers, times and names as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kalshi_pipeline.evaluation.charts.heat import shade_of

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int = 1) -> str:
    """1,234.5; a dash for nothing."""
    if value is None:
        return DASH
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", MINUS)


def signed(value: float | None, decimals: int = 1) -> str:
    """+1,234.5; a dash for nothing."""
    if value is None:
        return DASH
    return f"{round(value, decimals) + 0.0:+,.{decimals}f}".replace("-", MINUS)


def percent(value: float | None, decimals: int = 0) -> str:
    """A share as 12 %."""
    return DASH if value is None else f"{number(100.0 * value, decimals)} %"


def interval(
    ends: Sequence[float] | None, decimals: int = 1, scale: float = 1.0, sign: bool = True
) -> str:
    """[low, high]; nothing for none."""
    if ends is None:
        return ""
    show = signed if sign else number
    low, high = (show(scale * end, decimals) for end in ends)
    return f"[{low}, {high}]"


def utc(time_ms: int | None) -> str:
    """2025-12-14 13:45 UTC."""
    if time_ms is None:
        return DASH
    return f"{datetime.fromtimestamp(time_ms / 1000.0, UTC):%Y-%m-%d %H:%M} UTC"


def words(key: object) -> str:
    """clean_forward -> clean forward."""
    return str(key).replace("_", " ")


def plain(value: object) -> str:
    """Anything that is not a number of a table: names, lists, truths."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value) or DASH
    return f"{value:g}".replace("-", MINUS) if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class _Kind:
    show: Callable[[Any], str]
    ends: Callable[[Any], str]
    numeric: bool = True


_KINDS = {
    "text": _Kind(plain, lambda _: "", numeric=False),
    "words": _Kind(lambda v: plain(None if v is None else words(v)), lambda _: "", numeric=False),
    "utc": _Kind(utc, lambda _: ""),
    "signed": _Kind(signed, interval),
    "signed2": _Kind(lambda v: signed(v, 2), lambda v: interval(v, 2)),
    "signed3": _Kind(lambda v: signed(v, 3), lambda v: interval(v, 3)),
    "number": _Kind(number, lambda v: interval(v, 1, sign=False)),
    "number2": _Kind(lambda v: number(v, 2), lambda v: interval(v, 2, sign=False)),
    "number3": _Kind(lambda v: number(v, 3), lambda v: interval(v, 3, sign=False)),
    "count": _Kind(lambda v: number(v, 0), lambda v: interval(v, 0, sign=False)),
    "percent": _Kind(percent, lambda v: interval(v, 0, 100.0, sign=False)),
    "percent1": _Kind(lambda v: percent(v, 1), lambda v: interval(v, 1, 100.0, sign=False)),
}


@dataclass(frozen=True)
class Column:
    """How a table shows one figure of each row.

    Args:
        key: of the figure in the row.
        title: with its unit.
        kind: how it is written; a key of `_KINDS`.
        interval: key of its interval, shown below it.
        heat: value at which its shade is the strongest; None for no shade.
        optional: whether rows may lack it.
    """

    key: str
    title: str
    kind: str = "text"
    interval: str | None = None
    heat: float | None = None
    optional: bool = False

    @property
    def numeric(self) -> bool:
        """Whether it is sorted as a number."""
        return _KINDS[self.kind].numeric

    def show(self, row: dict[str, Any]) -> str:
        """The figure."""
        return _KINDS[self.kind].show(self._value(row))

    def ends(self, row: dict[str, Any]) -> str:
        """Its interval; empty where there is none."""
        if not self.interval:
            return ""
        return _KINDS[self.kind].ends(
            row.get(self.interval) if self.optional else row[self.interval]
        )

    def shade(self, row: dict[str, Any]) -> str:
        """Class of its cell; none where the column has no shades."""
        return shade_of(row[self.key], self.heat) if self.heat else ""

    def sort_value(self, row: dict[str, Any]) -> str:
        """What the page sorts by; empty sorts last."""
        value = self._value(row)
        return "" if value is None else repr(value) if isinstance(value, float) else str(value)

    def _value(self, row: dict[str, Any]) -> Any:
        return row.get(self.key) if self.optional else row[self.key]
