"""Tables and small plots for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.columns import Columns
from rich.table import Table
from rich.text import Text

BARS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def table(
    *columns: str, title: str | Text | None = None, right: Sequence[str] = (), whole: int = 0
) -> Table:
    """A plain table.

    Args:
        columns: headings.
        title: above it.
        right: columns of figures.
        whole: the column that is never cut: a ticker or id that is cut cannot be copied.
    """
    made = Table(
        *columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for column, heading in zip(made.columns, columns, strict=True):
        column.justify = "right" if heading in right else "left"
        column.overflow = "fold"
    made.columns[whole].no_wrap = True
    return made


def figures(title: str, pairs: Mapping[str, str]) -> Table:
    """Names and values below each other."""
    made = _plain(title)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    for name, value in pairs.items():
        made.add_row(name, value)
    return made


def beside(*parts: Table) -> Columns:
    """Several tables beside each other, as far as the terminal is wide enough."""
    return Columns([part for part in parts if part.row_count], padding=(0, 3))


def bars(title: str, counts: Mapping[str, float], width: int = 12) -> Table:
    """A horizontal bar for each count."""
    made = _plain(title)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(style="cyan", no_wrap=True)
    most = max(counts.values(), default=0) or 1
    for name, count in counts.items():
        eighths = round(8 * width * count / most)
        made.add_row(name, f"{count:,}", "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip())
    return made


def sparkline(values: Sequence[float]) -> str:
    """The course of some values in one line."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1
    return "".join(BARS[1 + int((value - low) / span * 7)] for value in values)


def columns_plot(
    title: str, values: Sequence[float], left: str, right: str, height: int = 4, low: float = 0.0
) -> Table:
    """A column for each value, with the scale beside it and the ends of the axis below.

    Args:
        title: above it.
        values: one a column.
        left: label of the first column.
        right: label of the last.
        height: in lines.
        low: value at the foot of the plot.
    """
    made = _plain(title)
    made.add_column(justify="right", style="dim")
    made.add_column(style="cyan", no_wrap=True)
    high = max(values, default=0.0)
    span = (high - low) or 1
    filled = [round(8 * height * (value - low) / span) for value in values]
    for line in range(height - 1, -1, -1):
        scale = _scale(high) if line == height - 1 else _scale(low) if line == 0 else ""
        made.add_row(scale, "".join(BARS[min(8, max(0, eighth - 8 * line))] for eighth in filled))
    gap = max(1, len(values) - len(left) - len(right))
    made.add_row("", Text(left + " " * gap + right, style="dim"))
    return made


def _plain(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False,
        min_width=len(title), pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip


def _scale(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
