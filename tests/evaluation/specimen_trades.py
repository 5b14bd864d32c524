"""Made-up trades of a report; see `specimen`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.evaluation.specimen_sections import around


def trades(rng: np.random.Generator, names: list[str], mark: str) -> dict[str, Any]:
    return {
        "split": [split(rng, name) for name in names],
        "markouts": [
            {"policy": name, "horizon_s": horizon, "cents": -0.3 * (place + 1) - 0.1 * horizon**0.5,
             "interval": around(-0.3 * (place + 1) - 0.1 * horizon**0.5, 0.4), "fills": 812}
            for place, name in enumerate(names)
            for horizon in (1, 10, 60)
        ],
        "trips": [
            {"policy": name, "trips": 385, "win_rate": 0.47, "win_interval": [0.41, 0.53],
             "average_win_cents": 3.1, "average_loss_cents": -3.9, "break_even_rate": 0.56,
             "matched_win_rate": 0.49, "matched_trips": 385, "forced_share": 0.21}
            for name in names
        ],
        "concentration": [
            {"policy": name, "best_market_share": 0.2, "best_event_share": 0.18,
             "best_trade_share": 0.04, "pnl_without_best_percent_cents": -9.2}
            for name in names
        ],
        "flags": {"thin_touch_share": 0.07, "stale_book_share": 0.01, "improved_share": 0.2,
                  "pnl_without_thin_cents": -4.4},
        "portfolio": {
            "grid_s": 300, "sharpe": -0.012, "hac_error": 0.09, "max_drawdown_cents": 310.0,
            "max_drawdown_share": 0.11,
            "points": [[hour / 12, float(value)] for hour, value in
                       enumerate(np.cumsum(rng.normal(-2, 20, 108)))],
        },
        "examples": [example(rng, names[0], mark, losing) for losing in (False, True)],
    }  # fmt: skip


def split(rng: np.random.Generator, name: str) -> dict[str, Any]:
    spread, fees, drift, end = (0.0,) * 4 if name == "Hold" else rng.normal((14, -14, -5, 1), 3)
    return {
        "policy": name, "spread_cents": float(spread), "fees_cents": float(fees),
        "drift_cents": float(drift), "settlement_cents": float(end),
        "total_cents": float(spread + fees + drift + end),
    }  # fmt: skip


def example(rng: np.random.Generator, name: str, mark: str, losing: bool) -> dict[str, Any]:
    times = np.sort(rng.uniform(-20, 60, 90)).round(2)
    mid = 45.0 + np.cumsum(rng.normal(-0.1 if losing else 0.1, 0.6, 90)).round()
    book = [
        {"at_s": float(at), "bid_cents": None if place == 50 else float(value - 1),
         "ask_cents": float(value + 1), "bid_contracts": 120.0, "ask_contracts": 85.0}
        for place, (at, value) in enumerate(zip(times, mid, strict=True))
    ]  # fmt: skip
    fill = {"contracts": 1.0, "fee_cents": 0.0, "taker": False}
    return {
        "policy": name, "session": 71, "event": f"EV{mark}", "market": f"KXBTCD-71{mark}",
        "why": "the worst trade" if losing else "the best trade",
        "pnl_cents": -7.0 if losing else 6.0,
        "book": book,
        "fills": [
            fill | {"at_s": 0.0, "side": "buy", "price_cents": 44.0, "position_contracts": 1.0},
            fill | {"at_s": 41.0, "side": "sell", "price_cents": 48.0, "position_contracts": 0.0,
                    "taker": True, "fee_cents": 2.0},
        ],
    }  # fmt: skip
