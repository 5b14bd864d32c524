"""Report -> the pictures of its page, by section."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.charts.lines import Series, drawdowns, line_chart
from kalshi_pipeline.evaluation.charts.stacked import stacked_chart
from kalshi_pipeline.trading.actions import Action

ACTIONS = tuple((action.name.replace("_", " "), f"a{action.value}") for action in Action)


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


def figures(report: Mapping[str, Any]) -> dict[str, list[Figure]]:
    """Every picture of a report's page, by the section it belongs to."""
    return {
        "headline": _intervals(report),
        "curves": _curves(report),
        "behaviour": _actions(report),
    }


def main_table(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The headline's table; without one, the first session's."""
    table: Mapping[str, Any] = report["headline"] or report["sessions"][0]
    return table


def dots(rows: Sequence[Mapping[str, Any]], judged: str, value: str, interval: str) -> list[Dot]:
    """Rows of a table, one a policy."""
    return [Dot(row["policy"], row[value], row[interval], row["policy"] == judged) for row in rows]


def _intervals(report: Mapping[str, Any]) -> list[Figure]:
    headline = [report["headline"]] if report["headline"] else []
    return [
        figure(
            table["title"],
            dot_chart(
                f"P&L per event, {table['title']}",
                dots(table["policies"], report["policy"], "pnl_cents", "pnl_interval"),
                "P&L per event, ¢",
            ),
            f"{table['events']} event{'' if table['events'] == 1 else 's'}",
        )
        for table in (*headline, *report["sessions"])
    ]


def _curves(report: Mapping[str, Any]) -> list[Figure]:
    shape, judged = report["shape"], report["policy"]
    x, paths, band = shape["events_so_far"], shape["paths"], shape["band"] or {}
    events = "events, in the order in which they ended"
    quantiles = shape["quantiles"]
    shares = [100.0 * place / (len(quantiles[judged]) - 1) for place in range(len(quantiles[judged]))]
    return [
        figure(
            "Cumulative P&L",
            line_chart(
                "Cumulative P&L over events",
                x,
                [
                    Series(name, path, band.get("low"), band.get("high"), judged=True)
                    if name == judged
                    else Series(name, path)
                    for name, path in paths.items()
                ],
                events,
                "cumulative P&L, ¢",
            ),
            f"The band is the pointwise bootstrap interval of {judged}."
            if band
            else "Too few events for a band.",
        ),
        figure(
            "Drawdown",
            line_chart(
                "Fall of cumulative P&L below its highest point so far",
                x,
                [Series(name, path, judged=name == judged) for name, path in drawdowns(paths).items()],
                events,
                "below the highest point so far, ¢",
            ),
            "Over events, each at its end; the table has the worst within an episode.",
        ),
        figure(
            "P&L of single events, beside the baselines",
            dot_chart(
                "Median, middle half and 5 to 95 % of the P&L of events",
                [
                    Dot(name, q[50], (q[5], q[95]), name == judged, core=(q[25], q[75]))
                    for name, q in quantiles.items()
                ],
                "P&L of an event, ¢",
            ),
            "Median, middle half (thick), 5 to 95 % of events (thin).",
        ),
        figure(
            "P&L of events, from worst to best",
            line_chart(
                "P&L of an event by its rank",
                shares,
                [Series(name, values, judged=name == judged) for name, values in quantiles.items()],
                "share of events at or below, %",
                "P&L of an event, ¢",
            ),
            "A long flat stretch with one steep end is the work of few events.",
        ),
    ]


def _actions(report: Mapping[str, Any]) -> list[Figure]:
    table = main_table(report)
    return [
        figure(
            "Actions of each policy",
            stacked_chart(
                "Share of each action by policy",
                {
                    row["policy"]: [100.0 * share for share in row["action_shares"]]
                    for row in table["policies"]
                },
                ACTIONS,
                "share of decisions, %",
                judged=report["policy"],
                reach=(0.0, 100.0),
            ),
            table["title"],
        )
    ]


def script_json(value: Any) -> Any:
    """JSON that can stand inside a script element: nothing in it ends the element."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 holds no markup any more
