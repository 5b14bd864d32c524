"""What each policy does, and what it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalshi_pipeline.evaluation.charts.stacked import stacked_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure, main_table
from kalshi_pipeline.trading.actions import Action

ACTIONS = tuple((action.name.replace("_", " "), f"a{action.value}") for action in Action)


def actions(report: Mapping[str, Any]) -> list[Figure]:
    """Share of each action."""
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
