"""What the pictures of a page have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot


@dataclass(frozen=True)
class Figure:
    """A picture.

    Args:
        title: what it shows.
        svg: markup of our own making.
        note: what one must know to read it.
    """

    title: str
    svg: Any
    note: str = ""


def figure(title: str, svg: str, note: str = "") -> Figure:
    """A picture whose markup goes into the page as it is."""
    from markupsafe import Markup

    return Figure(title, Markup(svg), note)  # noqa: S704 our SVG: names were escaped as it was drawn


def main_table(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The headline's table; without one, the first session's."""
    table: Mapping[str, Any] = report["headline"] or report["sessions"][0]
    return table


def dots(rows: Sequence[Mapping[str, Any]], judged: str, value: str, interval: str) -> list[Dot]:
    """Rows of a table, one a policy."""
    return [Dot(row["policy"], row[value], row[interval], row["policy"] == judged) for row in rows]


def script_json(value: Any) -> Any:
    """JSON that can stand inside a script element: nothing in it ends the element."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 holds no markup any more
