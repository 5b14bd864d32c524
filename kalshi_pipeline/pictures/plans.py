"""Pictures of what a plan made: the course of a training, the equity of what was judged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kalshi_pipeline.evaluation.charts.dots import dots
from kalshi_pipeline.evaluation.charts.drawing import PICTURE, styled
from kalshi_pipeline.evaluation.charts.lines import Series, lines
from kalshi_pipeline.evaluation.reports.figures.performance import equity_lines
from kalshi_pipeline.evaluation.reports.figures.shared import dots as policy_dots
from kalshi_pipeline.evaluation.reports.figures.shared import main_table
from kalshi_pipeline.storage.publish import EXPORTS, Generation
from kalshi_pipeline.trading.actions import ACTIONS

_FEW = 12  # records, each of which gets a mark
_STEPS = "environment steps of the phase"

Records = Mapping[int, Sequence[Mapping[str, Any]]]


def training_pnl(trained: Generation) -> bytes:
    """Dollars an episode while training, of every seed, and what validation scored; PNG."""
    return _course(_reward, trained, "P&L while training", "P&L an episode, $")


def training_behaviour(trained: Generation) -> bytes:
    """Entropy, holding and explained variance while training, of the first seed; PNG."""
    return _course(
        _behaviour, trained, "Behaviour while training", "share of the most there can be"
    )


def _course(curves_of: Any, trained: Generation, title: str, y_label: str) -> bytes:
    curves: Mapping[str, Mapping[int, float | None]] = curves_of(trained)
    steps = sorted({at for curve in curves.values() for at in curve})
    shown = [
        Series(name, [curve.get(at) for at in steps], judged=place == 0)
        for place, (name, curve) in enumerate(curves.items())
    ]
    with styled(PICTURE):
        return lines(
            title, steps, shown, _STEPS, y_label, points=len(steps) <= _FEW, whole=True
        ).png()


def _reward(trained: Generation) -> dict[str, dict[int, float | None]]:
    curves: dict[str, dict[int, float | None]] = {}
    for entry in trained.summary["trained"]:
        seed = f"seed {entry['seed']}"
        curves[seed] = {
            record["timesteps"]: (record["diagnostics"]["ended"] or {}).get("pnl_mean")
            for record in _read(trained, entry["seed"], "training")
        }
        scores = _read(trained, entry["seed"], "course")["validations"]
        if scores:
            curves[f"validation, {seed}"] = {one["timesteps"]: one["score"] for one in scores}
    return curves


def _behaviour(trained: Generation) -> dict[str, dict[int, float | None]]:
    records = _read(trained, trained.summary["trained"][0]["seed"], "training")
    shares = {
        "entropy": lambda record: _over(record["entropy"], math.log(ACTIONS)),
        "hold share": lambda record: record["diagnostics"]["action_shares"][0],
        "explained variance": lambda record: record["explained_variance"],
    }
    return {
        name: {record["timesteps"]: share(record) for record in records}
        for name, share in shares.items()
    }


def _over(value: float | None, most: float) -> float | None:
    return None if value is None else value / most


def _read(trained: Generation, seed: int, name: str) -> Any:
    return json.loads(trained.path(f"{EXPORTS}/seed_{seed}/{name}.json").read_bytes())


def equity(report: Mapping[str, Any]) -> bytes:
    """Cumulative P&L over events, the judged policy with its band; PNG."""
    with styled(PICTURE):
        return lines(*equity_lines(report["shape"], report["policy"])).png()


def intervals(report: Mapping[str, Any]) -> bytes:
    """P&L an event of every policy with its interval; PNG."""
    table = main_table(report)
    rows = policy_dots(table["policies"], report["policy"], "pnl_cents", "pnl_interval")
    with styled(PICTURE):
        return dots(table["title"], rows, "P&L per event, ¢").png()
