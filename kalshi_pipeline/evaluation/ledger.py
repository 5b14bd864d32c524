"""The episode ledger: one row for each policy, episode and repeat.

Money is in 1/1,000,000 dollar, sizes in 1/100 contract, times in Unix milliseconds.
"""

from __future__ import annotations

import pyarrow as pa

from kalshi_pipeline.trading.actions import Action

ACTION_COLUMNS = tuple(f"action_{action.name.lower()}" for action in Action)

# Taken as they are from `trading.tape.Episode`.
EPISODE_COLUMNS = ("session", "event", "market", "segment", "tier")

# Taken as they are from `trading.simulator.EpisodeSummary`.
SUMMARY_COLUMNS = (
    "steps",
    "pnl_micro",
    "pnl_mid_micro",
    "fees_micro",
    "taker_fills",
    "maker_fills",
    "contracts_centi",
    "orders",
    "cancels",
    "invalid_actions",
    "final_position_centi",
    "max_drawdown_micro",
    "max_capital_micro",
    "start_ms",
    "end_ms",
)
# pnl_micro in parts, with fees_micro: spread + drift + settlement - fees; see `trades.dissect`
SPLIT_COLUMNS = ("spread_micro", "drift_micro", "settlement_micro")
# FIFO lots, see `trades.lots`
TRIP_COLUMNS = ("round_trips", "winning_trips")

LEDGER_SCHEMA = pa.schema(
    [
        ("policy", pa.string()),
        ("session", pa.int64()),
        ("event", pa.string()),
        ("market", pa.string()),
        ("segment", pa.int64()),
        ("tier", pa.string()),
        ("repeat", pa.int64()),
        ("terminated", pa.bool_()),
        *((name, pa.int64()) for name in (*SUMMARY_COLUMNS, *TRIP_COLUMNS, *SPLIT_COLUMNS)),
        *((name, pa.int64()) for name in ACTION_COLUMNS),
    ]
)
# as it is published
JUDGED_SCHEMA = LEDGER_SCHEMA.append(pa.field("role", pa.string())).append(
    pa.field("label", pa.string())
)
