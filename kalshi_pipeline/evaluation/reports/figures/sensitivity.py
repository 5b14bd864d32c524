"""What becomes of the result elsewhere: under other rules, on other sessions and markets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.charts.lines import Series, line_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure
from kalshi_pipeline.evaluation.reports.text import words

AXES = {
    "starting_capital": "Starting capital",
    "position_limit": "Position limit",
    "order_size": "Order size",
    "fee_multiple": "Fees, as a multiple of Kalshi's",
    "latency": "Latency",
    "fill_model": "Fill model, from worst to best",
    "sessions": "Other sessions",
    "market_count": "Fewer markets",
    "underlying": "Other underlyings",
    "unseen_events": "Unseen events",
    "label": "By lineage",
    "convention": "By recording convention",
    "universe": "Markets chosen with hindsight, and without",
}


def title_of(axis: str) -> str:
    """An axis as the page calls it."""
    return AXES.get(axis, words(axis).capitalize())


def robustness(report: Mapping[str, Any]) -> list[Figure]:
    """P&L under other rules, one picture a rule."""
    curves = (report["robustness"] or {}).get("curves", ())
    return [_curve(curve, report["policy"]) for curve in curves if curve["points"]]


def _curve(curve: Mapping[str, Any], judged: str) -> Figure:
    points = curve["points"]
    settings = list(dict.fromkeys(point["setting"] for point in points))
    title = title_of(curve["axis"])
    chart = line_chart(
        f"P&L per event: {title}",
        list(range(len(settings))),
        [
            _series(name, settings, points, name == judged)
            for name in dict.fromkeys(point["policy"] for point in points)
        ],
        _axis_of(curve, title),
        "P&L per event, ¢",
        marks=[(at, setting.replace("queue(", "q(")) for at, setting in enumerate(settings)],
        points=True,
    )
    return figure(title, chart)


def _axis_of(curve: Mapping[str, Any], title: str) -> str:
    if curve["axis"] == "fill_model":
        return "fill model; q(share): queue"
    return f"{title.split(',')[0].lower()}{', ' + curve['unit'] if curve['unit'] else ''}"


def _series(
    name: str, settings: Sequence[str], points: Sequence[Mapping[str, Any]], judged: bool
) -> Series:
    found = {point["setting"]: point for point in points if point["policy"] == name}
    y = [found[setting]["pnl_cents"] if setting in found else None for setting in settings]
    ends = [found[setting]["pnl_interval"] if setting in found else None for setting in settings]
    if not judged or any(one is None for one in ends):
        return Series(name, y, judged=judged)
    return Series(
        name, y, [one[0] for one in ends if one], [one[1] for one in ends if one], judged=judged
    )


def generalisation(report: Mapping[str, Any]) -> list[Figure]:
    """P&L on other episodes, one picture an axis that compares anything."""
    return [
        figure(
            title_of(axis["axis"]),
            dot_chart(
                f"P&L per event: {title_of(axis['axis'])}",
                [_group(row) for row in axis["rows"]],
                "P&L per event, ¢",
            ),
            "Median, middle half, 5 to 95 % of random choices of markets; no confidence interval."
            if axis["axis"] == "market_count"
            else "",
        )
        for axis in (report["generalisation"] or {}).get("axes", ())
        if len(axis["rows"]) > 1
    ]


def _group(row: Mapping[str, Any]) -> Dot:
    if quantiles := row.get("pnl_quantiles"):
        q = [entry["cents"] for entry in quantiles]
        return Dot(row["name"], q[2], (q[0], q[4]), core=(q[1], q[3]), judged=True)
    return Dot(row["name"], row["pnl_cents"], row["pnl_interval"], judged=True)
