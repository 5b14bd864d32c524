"""What each policy earned: figures with intervals, curves over events, their spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.charts.lines import Series, drawdowns, line_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, dots, figure

_OVER_EVENTS = "events, in the order in which they ended"


def intervals(report: Mapping[str, Any]) -> list[Figure]:
    """P&L per event of every policy, one picture a table."""
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


def curves(report: Mapping[str, Any]) -> list[Figure]:
    """Cumulative P&L, its drawdown, and how the P&L of events is spread."""
    shape, judged = report["shape"], report["policy"]
    return [
        _equity(shape, judged),
        _drawdown(shape, judged),
        _spread(shape["quantiles"], judged),
        _ranked(shape["quantiles"], judged),
    ]


def equity_lines(shape: Mapping[str, Any], judged: str) -> tuple[Any, ...]:
    """Title, places, lines and axes of cumulative P&L over events, the judged one with its band."""
    band = shape["band"] or {}
    paths = [
        Series(name, path, band.get("low"), band.get("high"), judged=True)
        if name == judged
        else Series(name, path)
        for name, path in shape["paths"].items()
    ]
    return (
        "Cumulative P&L over events",
        shape["events_so_far"],
        paths,
        _OVER_EVENTS,
        "cumulative P&L, ¢",
    )


def _equity(shape: Mapping[str, Any], judged: str) -> Figure:
    return figure(
        "Cumulative P&L",
        line_chart(*equity_lines(shape, judged)),
        f"The band is the pointwise bootstrap interval of {judged}."
        if shape["band"]
        else "Too few events for a band.",
    )


def _drawdown(shape: Mapping[str, Any], judged: str) -> Figure:
    return figure(
        "Drawdown",
        line_chart(
            "Fall of cumulative P&L below its highest point so far",
            shape["events_so_far"],
            [
                Series(name, path, judged=name == judged)
                for name, path in drawdowns(shape["paths"]).items()
            ],
            _OVER_EVENTS,
            "below the highest point so far, ¢",
        ),
        "Over events, each at its end; the table has the worst within an episode.",
    )


def _spread(quantiles: Mapping[str, Any], judged: str) -> Figure:
    return figure(
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
    )


def _ranked(quantiles: Mapping[str, Any], judged: str) -> Figure:
    places = len(quantiles[judged]) - 1
    return figure(
        "P&L of events, from worst to best",
        line_chart(
            "P&L of an event by its rank",
            [100.0 * place / places for place in range(places + 1)],
            [Series(name, values, judged=name == judged) for name, values in quantiles.items()],
            "share of events at or below, %",
            "P&L of an event, ¢",
        ),
        "A long flat stretch with one steep end is the work of few events.",
    )
