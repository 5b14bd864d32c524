"""Report sections -> inline SVG, themed by the page's style sheet, equal bytes for equal input."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.trading.actions import Action

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Placeholder colours that are replaced by variables of the style sheet: one plot, two themes.
_INK, _MUTED, _GRID, _JUDGED, _OTHER = "#010101", "#010102", "#010103", "#010104", "#010105"
_ACTIONS = tuple(f"#01020{index}" for index in range(len(Action)))
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _JUDGED: "var(--judged)",
    _OTHER: "var(--other)",
    **{colour: f"var(--action-{index})" for index, colour in enumerate(_ACTIONS)},
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it follows the page's font and can be searched
    "text.parse_math": False,  # names are foreign text, never markup
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def interval_plot(tables: Sequence[Mapping[str, Any]]) -> str:
    """P&L per event of every policy with its interval, one panel a table of the report."""
    with _style("intervals"):
        columns = min(2, len(tables))
        rows = -(-len(tables) // columns)
        height = 0.21 * max(len(table["policies"]) for table in tables) + 0.75
        figure = _figure(10.4, rows * height)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, table in zip(panels, tables, strict=False):
            _interval_panel(axes, table)
        for axes in panels[len(tables) :]:
            axes.set_axis_off()
        return _svg(figure, "P&L per event with intervals, by session")


def path_plot(shape: Mapping[str, Any], judged: str) -> str:
    """Cumulative P&L over events in the order in which they ended."""
    with _style("paths"):
        figure = _figure(10.4, 3.4)
        axes = figure.subplots()
        x, paths, band = shape["events_so_far"], shape["paths"], shape["band"]
        if band:
            axes.fill_between(x, band["low"], band["high"], color=_JUDGED, alpha=0.16, lw=0)
        for name, path in paths.items():
            _line(axes, x, path, name, judged)
        axes.axhline(0, color=_MUTED, lw=0.8)
        _frame(axes, [*paths[judged], *(band["low"] + band["high"] if band else ())], paths)
        _name_ends(axes, x[-1], paths, judged)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("events, in the order in which they ended")
        axes.set_ylabel("cumulative P&L, ¢")
        axes.margins(x=0.01)
        return _svg(figure, "Cumulative P&L over events")


def distribution_plot(shape: Mapping[str, Any], judged: str) -> str:
    """Share of events with a P&L at or below x."""
    with _style("distribution"):
        figure = _figure(5.1, 3.1)
        axes = figure.subplots()
        quantiles = shape["quantiles"]
        for name, values in quantiles.items():
            share = [100.0 * index / (len(values) - 1) for index in range(len(values))]
            _line(axes, values, share, name, judged)
        axes.axvline(0, color=_MUTED, lw=0.8)
        low, high = quantiles[judged][2], quantiles[judged][-3]
        reach = max(high - low, 1.0)
        axes.set_xlim(min(low, 0.0) - 0.35 * reach, max(high, 0.0) + 0.35 * reach)
        axes.set_xlabel("P&L of an event, ¢")
        axes.set_ylabel("share of events at or below, %")
        return _svg(figure, "Distribution of P&L over events")


def action_plot(policies: Sequence[Mapping[str, Any]]) -> str:
    """Share of each action, one bar a policy."""
    with _style("actions"):
        figure = _figure(5.1, 3.1)
        axes = figure.subplots()
        names = [policy["policy"] for policy in policies]
        left = [0.0] * len(names)
        for action, colour in zip(Action, _ACTIONS, strict=True):
            widths = [100.0 * policy["action_shares"][action] for policy in policies]
            axes.barh(names, widths, left=left, height=0.68, color=colour, label=action.name)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(visible=False)
        axes.set_xlabel("share of decisions, %")
        axes.get_yticklabels()[0].set_color(_JUDGED)
        figure.legend(
            loc="outside upper center", ncols=4, frameon=False, fontsize=7, handlelength=0.9
        )
        return _svg(figure, "Actions of each policy")


def _interval_panel(axes: Axes, table: Mapping[str, Any]) -> None:
    policies = table["policies"]
    for row, policy in enumerate(policies):
        colour = _OTHER if row else _JUDGED
        if policy["pnl_interval"]:
            axes.plot(policy["pnl_interval"], [row, row], color=colour, lw=2.2, alpha=0.55)
        axes.plot(
            policy["pnl_cents"],
            row,
            "o",
            ms=5,
            mfc=colour if policy["pnl_interval"] else "none",
            mec=colour,
        )
    axes.axvline(0, color=_MUTED, lw=0.8)
    axes.set_yticks(range(len(policies)), [policy["policy"] for policy in policies])
    axes.set_ylim(len(policies) - 0.4, -0.6)
    for label in axes.get_yticklabels()[:1]:  # none where a panel shares its neighbour's names
        label.set_color(_JUDGED)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"{table['title']} · {table['events']} events", color=_INK)
    axes.set_xlabel("P&L per event, ¢")


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], name: str, judged: str) -> None:
    if name == judged:
        axes.plot(x, y, color=_JUDGED, lw=2.0, zorder=3)
    else:
        axes.plot(x, y, color=_OTHER, lw=0.9, alpha=0.7)


def _frame(axes: Axes, judged: Sequence[float], paths: Mapping[str, Sequence[float]]) -> None:
    """Scale to the judged policy: a baseline that loses far more runs out of the frame."""
    low, high = min(0.0, *judged), max(0.0, *judged)
    reach = max(high - low, 1.0)
    others = [value for path in paths.values() for value in (min(path), max(path))]
    low = max(min(others), low - reach)
    high = min(max(others), high + reach)
    margin = 0.06 * max(high - low, 1.0)
    axes.set_ylim(min(low, *judged, 0.0) - margin, max(high, *judged, 0.0) + margin)


def _name_ends(axes: Axes, x: float, paths: Mapping[str, Sequence[float]], judged: str) -> None:
    """Write each name at the end of its line, the judged one first, where there is room."""
    low, high = axes.get_ylim()
    room = 0.055 * (high - low)
    taken: list[float] = []
    for name in sorted(paths, key=lambda name: name != judged):
        end = paths[name][-1]
        if low <= end <= high and all(abs(end - other) >= room for other in taken):
            taken.append(end)
            axes.annotate(
                name,
                (x, end),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=_JUDGED if name == judged else _MUTED,
                annotation_clip=False,
            )


def _style(salt: str) -> Any:
    import matplotlib as mpl

    # The salt makes identifiers the same in every run and different in every plot of a page.
    settings: Any = {**_STYLE, "svg.hashsalt": salt}
    return mpl.rc_context(settings)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # no prolog: the document type names a foreign address
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)  # figure_1 in each plot of a page
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1).strip()
