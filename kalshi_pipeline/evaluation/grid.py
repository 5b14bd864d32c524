"""Every policy in every fill model, at both marks, with fees and without: the report's appendix.

One cell is the headline. What a policy earns in the others and not there, the fill model, the mark
or the missing fees gave it. Source: `docs/EVALUATION.md`, "Grid".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from kalshi_pipeline.config import MICRO_PER_CENT, FillModelName, TradingConfig
from kalshi_pipeline.evaluation.columns import columns_of
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
from kalshi_pipeline.evaluation.metrics import panel
from kalshi_pipeline.evaluation.verdict import Cell

FILL_MODELS: tuple[FillModelName, ...] = ("cross", "queue", "touch")  # worst to best
QUEUE_ALPHA = 0.5
MARKS = {"liquidation": "pnl_micro", "mid": "pnl_mid_micro"}  # columns of one ledger

# every episode of every cell; one backtest gives both marks
GRID_SCHEMA = pa.schema(
    [("fill_model", pa.string()), ("fees", pa.bool_()), *JUDGED_SCHEMA],
)


@dataclass(frozen=True)
class GridRow:
    """A policy in a cell, per event and in cents; None as in `PolicyMetrics`."""

    policy: str
    fill_model: str
    fees: bool
    mark: str
    pnl_cents: float
    pnl_interval: Interval | None
    difference_cents: float | None  # judged policy minus this one, paired by event
    difference_interval: Interval | None
    sharpe: float | None
    round_trips: float
    fees_cents: float
    headline: bool


def grid(evidence: Evidence) -> list[dict[str, Any]]:
    """Section `grid` of the report: one row a policy and cell, `GridRow`."""
    return [vars(row) for row in evidence.once(_rows)]


def grid_table(evidence: Evidence) -> pa.Table:
    """Every episode of every cell, `GRID_SCHEMA`."""
    tables = []
    for config, ledger in evidence.once(cells):
        model = Cell.of(config).fill_model
        named = ledger.add_column(0, "fees", pa.repeat(config.fees, len(ledger)))
        tables.append(named.add_column(0, "fill_model", pa.repeat(model, len(ledger))))
    return pa.concat_tables(tables).cast(GRID_SCHEMA)


def _configs(base: TradingConfig) -> Iterator[TradingConfig]:
    for model in FILL_MODELS:
        for fees in (True, False):
            alpha = QUEUE_ALPHA if model == "queue" else base.queue_alpha
            yield replace(base, fill_model=model, queue_alpha=alpha, fees=fees)


def cells(evidence: Evidence) -> list[tuple[TradingConfig, pa.Table]]:
    """Rules of each of the six backtests, and what every policy of the case did under them."""
    case = evidence.case
    found = []
    for config in _configs(case.trading):
        fees = "with" if config.fees else "without"
        name = f"{Cell.of(config).fill_model}, {fees} fees"
        own = config == case.trading  # the cell that was played already
        ledger = evidence.scope if own else evidence.under(config, case.policies, name)
        found.append((config, ledger))
    return found


def _rows(evidence: Evidence) -> list[GridRow]:
    case, played = evidence.case, evidence.once(cells)
    panels = [panel(ledger, case.shown) for _, ledger in played]
    pnl = np.hstack([data.totals[MARKS[mark]] for data in panels for mark in MARKS])
    figures = columns_of(pnl, panels[0].cluster, case.evaluation)
    rows = []
    for n, ((config, _), data, mark) in enumerate(
        (cell, data, mark) for cell, data in zip(played, panels, strict=True) for mark in MARKS
    ):
        cell = replace(Cell.of(config), mark=mark)
        judged = n * len(case.shown)
        for k, policy in enumerate(case.shown):
            mean, interval = figures.mean(judged + k)
            behind, between = figures.difference(judged, judged + k) if k else (None, None)
            trips, fees = (
                float(data.totals[name][:, k].sum()) / data.events
                for name in ("round_trips", "fees_micro")
            )
            rows.append(
                GridRow(
                    policy, cell.fill_model, cell.fees, cell.mark, mean, interval, behind, between,
                    figures.sharpe(judged + k), trips, fees / MICRO_PER_CENT, cell.headline,
                )
            )  # fmt: skip
    return rows
