"""Ledgers without a simulator: P&L is what a test says it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from kalshi_pipeline.config import MICRO_PER_CENT
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS, LEDGER_SCHEMA
from kalshi_pipeline.evaluation.lineage import Label

DAY_MS = 86_400_000
START_MS = 1_765_000_000_000


def row(policy: str, pnl_cents: float, **columns: object) -> dict[str, object]:
    """One episode: named columns override what is plausible and dull."""
    actions = dict.fromkeys(ACTION_COLUMNS, 0) | {"action_hold": 90, "action_buy_best": 10}
    pnl = round(pnl_cents * MICRO_PER_CENT)
    plain: dict[str, object] = {
        "session": 1, "event": "EVENT", "market": "EVENT-M", "segment": 0, "tier": "high",
        "repeat": 0, "terminated": False, "steps": 100, "pnl_micro": pnl, "pnl_mid_micro": pnl,
        "fees_micro": 20_000, "taker_fills": 2, "maker_fills": 1, "contracts_centi": 300,
        "orders": 5, "cancels": 2, "invalid_actions": 0, "final_position_centi": 0,
        "max_drawdown_micro": max(0, -pnl), "max_capital_micro": 1_000_000, "round_trips": 2,
        "winning_trips": 1, "start_ms": START_MS, "end_ms": START_MS + 1_000,
    }  # fmt: skip
    return {"policy": policy, **plain, **actions, **columns}


def ledger(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([dict(one) for one in rows], schema=LEDGER_SCHEMA)


def event_ledger(
    pnl_cents: Mapping[str, np.ndarray], *, session: int = 1, tiers: Sequence[str] = ("high",)
) -> pa.Table:
    """One market an event; policy -> `[events]` P&L in cents."""
    return ledger(
        [
            row(
                policy,
                float(value),
                session=session,
                event=f"E{index:04d}",
                market=f"E{index:04d}-M",
                tier=tiers[index % len(tiers)],
                start_ms=START_MS + session * DAY_MS + index * 1_000,
                end_ms=START_MS + session * DAY_MS + index * 1_000 + 900,
            )
            for policy, values in pnl_cents.items()
            for index, value in enumerate(values)
        ]
    )


def labelled(
    table: pa.Table, label: Label = Label.CLEAN_FORWARD, role: str = "forward"
) -> pa.Table:
    """The ledger as `evaluate` hands it on."""
    table = table.append_column("role", pa.array([role] * table.num_rows, pa.string()))
    return table.append_column("label", pa.array([label.value] * table.num_rows, pa.string()))
