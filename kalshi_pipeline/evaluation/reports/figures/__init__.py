"""Report -> the pictures of its page, by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalshi_pipeline.evaluation.reports.figures import behaviour, money, performance, sensitivity
from kalshi_pipeline.evaluation.reports.figures.shared import Figure


def figures(report: Mapping[str, Any]) -> dict[str, list[Figure] | list[money.Replay]]:
    """Every picture of a report's page, by section."""
    return {
        "headline": performance.intervals(report),
        "curves": performance.curves(report),
        "behaviour": behaviour.actions(report),
        "buckets": behaviour.buckets(report),
        "features": behaviour.features(report),
        "robustness": sensitivity.robustness(report),
        "money": money.money(report),
        "replay": money.replays(report),
        "generalisation": sensitivity.generalisation(report),
    }
