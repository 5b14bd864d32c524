"""What each policy does where, and what it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.charts.heat import heat_chart
from kalshi_pipeline.evaluation.charts.stacked import stacked_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure, main_table
from kalshi_pipeline.evaluation.reports.text import words
from kalshi_pipeline.trading.actions import Action

ACTIONS = tuple((action.name.replace("_", " "), f"a{action.value}") for action in Action)
_SHARE = "share of decisions, %"
_MOST_IMPORTANT = 18
_MOST_SALIENT = 24


def actions(report: Mapping[str, Any]) -> list[Figure]:
    """Share of each action: of every policy, and of the judged one by spread."""
    table, behaviour = main_table(report), report["behaviour"]
    by_policy = {
        row["policy"]: [100.0 * s for s in row["action_shares"]] for row in table["policies"]
    }
    shown = [
        figure(
            "Actions of each policy",
            stacked_chart(
                "Share of each action by policy", by_policy, ACTIONS, _SHARE,
                judged=report["policy"], reach=(0.0, 100.0),
            ),
            table["title"],
        )
    ]  # fmt: skip
    if behaviour and behaviour["actions_by_spread"]:
        by_spread = {
            f"{row['bucket']} ({row['steps_share']:.0%} of steps)": [
                100.0 * row["actions"][action.name] for action in Action
            ]
            for row in behaviour["actions_by_spread"]
        }
        shown.append(
            figure(
                f"Actions of {report['policy']}, by spread",
                stacked_chart(
                    "Share of each action by spread", by_spread, ACTIONS, _SHARE, reach=(0.0, 100.0)
                ),
            )
        )
    return shown


def buckets(report: Mapping[str, Any]) -> list[Figure]:
    """P&L of the judged policy by what the market was like, one picture a dimension."""
    rows = [
        row for row in (report["behaviour"] or {}).get("buckets", ()) if _is_judged(row, report)
    ]
    return [
        figure(
            words(dimension).capitalize(),
            dot_chart(
                f"P&L per event by {words(dimension)}",
                [
                    Dot(
                        f"{row['bucket']} ({row['steps_share']:.0%})",
                        row["pnl_cents"], row["pnl_interval"], judged=True,
                    )
                    for row in rows
                    if row["dimension"] == dimension
                ],
                "P&L per event, ¢",
            ),
            "In brackets the share of steps.",
        )
        for dimension in dict.fromkeys(row["dimension"] for row in rows)
    ]  # fmt: skip


def _is_judged(row: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    return bool(row["policy"] == report["policy"])


def features(report: Mapping[str, Any]) -> list[Figure]:
    """What changes the judged policy's mind, and which way each feature pulls."""
    section = report["features"] or {}
    shown = []
    if importance := section.get("importance"):
        shown.append(
            figure(
                "What it looks at",
                dot_chart(
                    "Change of action probabilities where features are scrambled",
                    [_importance(row) for row in importance[:_MOST_IMPORTANT]],
                    "action probability that moves, %",
                ),
                "How much of its action probabilities moves when a feature, or a group of features "
                f"that stand in for one another, is scrambled; the first {_MOST_IMPORTANT}.",
            )
        )
    if saliency := section.get("saliency"):
        shown.append(_saliency(saliency))
    return shown


def _importance(row: Mapping[str, Any]) -> Dot:
    ends, (first, *others) = row["agreement_drop_interval"], row["features"]
    return Dot(
        f"{first} and {len(others)} more" if others else first,
        100.0 * row["agreement_drop_share"],
        [100.0 * end for end in ends] if ends else None,
        judged=True,
    )


def _saliency(rows: list[Mapping[str, Any]]) -> Figure:
    values = {(row["feature"], row["action"]): float(row["weight_per_deviation"]) for row in rows}
    reach: dict[str, float] = {}
    for (feature, _), value in values.items():
        reach[feature] = max(reach.get(feature, 0.0), abs(value))
    first = sorted(reach, key=lambda feature: -reach[feature])[:_MOST_SALIENT]
    return figure(
        "Which feature moves which action",
        heat_chart(
            "Saliency of features for actions",
            first,
            list(dict.fromkeys(row["action"] for row in rows)),
            {key: value for key, value in values.items() if key[0] in first},
        ),
        "Change of an action's log-probability for a standard deviation of the feature, on average "
        f"over steps; the darker the more; the first {len(first)}.",
    )
