"""Made-up trades of a report; see `specimen`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.evaluation.specimen_sections import around

START_MS = 1_765_700_000_000


def trades(rng: np.random.Generator, names: list[str], mark: str) -> dict[str, Any]:
    in_time = {"ticks": 108, "sharpe": -0.012, "hac_error": 0.09, "annual_sharpe": None,
               "max_drawdown_cents": 310.0, "max_drawdown_share": 0.11,
               "max_capital_cents": 2_800.0}  # fmt: skip
    equity = np.cumsum(rng.normal(-2, 20, 108)).tolist()
    return {
        "split": [split(rng, name) for name in names],
        "markouts": [
            markout(name, side, horizon, -0.3 * (place + 1) - 0.1 * horizon**0.5)
            for place, name in enumerate(names)
            for side in ("all", "maker", "taker")
            for horizon in (1, 10, 60)
        ],
        "trips": [
            {"policy": name, "trips": 9.4, "win_rate": 0.47, "win_interval": [0.41, 0.53],
             "average_win_cents": 3.1, "average_loss_cents": 3.9, "break_even_rate": 0.56,
             "matched_win_rate": 0.49, "matched_win_interval": [0.43, 0.56], "matched_trips": 9.4,
             "above_matched": -0.02, "above_matched_interval": [-0.09, 0.05],
             "forced_share": 0.21}
            for name in names
        ],
        "concentration": [
            {"policy": name, "best_market_share": 0.2, "best_event_share": 0.18,
             "best_trade_share": 0.04, "pnl_without_best_percent_cents": -9.2}
            for name in names
        ],
        "flags": [flags(name) for name in names],
        "portfolio": {
            "grid_s": 300,
            "points": [{"time_ms": START_MS + 300_000 * tick, "equity_cents": cents}
                       for tick, cents in enumerate(equity)],
            **in_time,
            "policies": [{"policy": name, **in_time} for name in names],
        },
        "examples": [example(rng, mark, title) for title in ("Best trade", "Worst trade")],
    }  # fmt: skip


def split(rng: np.random.Generator, name: str) -> dict[str, Any]:
    spread, fees, drift, end = (0.0,) * 4 if name == "Hold" else rng.normal((14, -14, -5, 1), 3)
    return {
        "policy": name, "spread_cents": float(spread), "fees_cents": float(fees),
        "drift_cents": float(drift), "settlement_cents": float(end),
        "total_cents": float(spread + fees + drift + end),
    }  # fmt: skip


def markout(name: str, side: str, horizon: int, cents: float) -> dict[str, Any]:
    return {"policy": name, "side": side, "horizon_s": horizon, "fills": 812, "cents": cents,
            "interval": around(cents, 0.4)}  # fmt: skip


def flags(name: str) -> dict[str, Any]:
    kinds = ("thin_touch", "stale_book", "improved")
    return {
        "policy": name,
        **{f"{kind}_share": 0.07 for kind in kinds},
        **{f"pnl_without_{kind}_cents": -4.4 for kind in kinds},
        **{f"pnl_without_{kind}_interval": [-22.0, 12.0] for kind in kinds},
        **{f"pnl_of_{kind}_cents": 0.3 for kind in kinds},
    }


def example(rng: np.random.Generator, mark: str, title: str) -> dict[str, Any]:
    times = START_MS + np.sort(rng.integers(-20_000, 60_000, 90))
    mid = 4_500 + 100 * np.cumsum(rng.normal(0.1 if "Best" in title else -0.1, 0.6, 90)).round()
    bids = [[[int(m) - 100 * (n + 1), 2_000 * (n + 1)] for n in range(5)] for m in mid]
    asks = [[[int(m) + 100 * (n + 1), 3_000 * (n + 1)] for n in range(5)] for m in mid]
    bids[50] = []
    fill = {"size_centi": 100, "fee_cents": 0.0, "taker": False, "of_trade": True}
    return {
        "title": title, "session": 71, "event": f"EV{mark}", "market": f"KXBTCD-71{mark}",
        "gain_cents": 6.0 if "Best" in title else -7.0, "ended_by": "fill",
        "fills": [
            fill | {"time_ms": START_MS, "side": "buy", "price_bp": 4_400},
            fill | {"time_ms": START_MS + 9_000, "side": "buy", "price_bp": 4_450,
                    "of_trade": False},
            fill | {"time_ms": START_MS + 41_000, "side": "sell", "price_bp": 4_800, "taker": True,
                    "fee_cents": 2.0},
        ],
        "times_ms": times.tolist(),
        "bid_bp": [side[0][0] if side else None for side in bids],
        "ask_bp": [side[0][0] for side in asks],
        "bid_size_centi": [2_000] * 90, "ask_size_centi": [3_000] * 90,
        "bids": bids, "asks": asks,
    }  # fmt: skip
