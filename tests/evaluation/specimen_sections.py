"""Made-up figures of the sections of a report that measure behaviour; see `specimen`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.trading.actions import Action

EVENTS = 41
NAMES = [action.name for action in Action]


def around(value: float, half: float) -> list[float]:
    return [value - half, value + 0.9 * half]


def behaviour(rng: np.random.Generator, judged: str, mark: str) -> dict[str, Any]:
    spreads = ("1 cent or less", "over 1 to 3 cents", "over 3 to 10 cents", "over 10 cents")
    others = {"activity": ("low", "medium", "high"), "burst": ("quiet", "usual", "burst"),
              "volatility": ("lowest third", "middle third", "spikes, top 5 %")}  # fmt: skip
    buckets = [
        bucket(rng, name, label + mark, policy)
        for policy in (judged, "Random")
        for name, labels in {"spread": spreads, **others}.items()
        for label in labels
    ]
    shown = ("bucket", "low", "high", "events", "steps_share", "actions")
    return {
        "policies": [judged, "Random"],
        "actions_by_spread": [{key: row[key] for key in shown} for row in buckets[: len(spreads)]],
        "actions": dict.fromkeys(NAMES, 1 / 7),
        "entropy": {"nats": 1.3, "share_of_most": 0.67, "episode_nats": 1.2},
        "hold_share": 0.62,
        "inventory": {
            "time_in_position_share": 0.41, "long_share": 0.3, "short_share": 0.11,
            "at_limit_share": 0.02, "held_at_end_share": 0.35,
            "quantiles": [{"quantile": q, "contracts": 8 * q - 3} for q in (0.05, 0.5, 0.95)],
        },
        "collapse": [
            {"alarm": "action_dominates", "action": "HOLD", "share": 0.62, "threshold": 0.9,
             "fires": False},
        ],
        "action_hash": "ab" * 32,
        "buckets": buckets,
        "market_characteristics": {
            "note": "Exploratory and with hindsight: many characteristics, one sample.",
            "correlations": [
                {"characteristic": "spread", "unit": "cents", "known": "at its first step",
                 "events": EVENTS, "rank_correlation": -0.21, "interval": [-0.5, 0.1],
                 "p_value": 0.2, "p_holm": 0.9},
                {"characteristic": "time_to_close", "unit": "s", "known": "at its first step",
                 "events": 3, "rank_correlation": None, "interval": None, "p_value": None,
                 "p_holm": None},
            ],
            "thirds": [
                {"characteristic": "spread", "known": "at its first step", "third": "lowest third",
                 "low": 1.0, "high": 2.0, "events": 14, "pnl_cents": -2.0, "pnl_interval": None},
            ],
            "kinds": [
                {"characteristic": "series", "kind": f"KXBTCD{mark}", "events": EVENTS,
                 "pnl_cents": -4.1, "pnl_interval": [-21.3, 12.8]},
            ],
        },
    }  # fmt: skip


def bucket(rng: np.random.Generator, dimension: str, label: str, policy: str) -> dict[str, Any]:
    pnl = float(rng.normal(-1, 4))
    shares = rng.dirichlet(np.array([8.0, 1, 1, 1, 1, 1, 1]))
    return {
        "dimension": dimension, "unit": "cents", "bucket": label, "low": None, "high": 1.0,
        "policy": policy, "events": EVENTS, "steps": 5_000.0, "steps_share": 0.25,
        "pnl_cents": pnl, "pnl_interval": around(pnl, 6.0), "contracts": 4.0,
        "actions": dict(zip(NAMES, shares.tolist(), strict=True)), "action_intervals": None,
    }  # fmt: skip


def features(rng: np.random.Generator) -> dict[str, Any]:
    drops = np.sort(rng.exponential(0.05, len(FEATURES)))[::-1]
    return {
        "steps": 1_024,
        "events": EVENTS,
        "decision_nats": 0.9,
        "group_correlation": 0.7,
        "importance": [
            {"group": feature.name, "features": [feature.name], "agreement_drop_share": float(drop),
             "agreement_drop_interval": around(float(drop), 0.3 * float(drop)),
             "changed_share": float(drop) / 2, "pnl_drop_cents": None, "pnl_drop_interval": None,
             "pnl_events": None}
            for feature, drop in zip(FEATURES, drops, strict=True)
        ],
        "saliency": [
            {"action": action, "feature": feature.name, "weight": 1.0,
             "weight_per_deviation": float(rng.exponential(0.1))}
            for action in NAMES
            for feature in FEATURES
        ],
    }  # fmt: skip


def generalisation(mark: str) -> dict[str, Any]:
    row = {"label": "mixed", "events": EVENTS, "markets": 82, "pnl_cents": -4.1,
           "pnl_interval": [-21.3, 12.8], "reference": "in-sample markets",
           "degradation_cents": 9.0, "degradation_interval": [-12.0, 30.0]}  # fmt: skip
    quantiles = [{"quantile": q, "cents": 30 * q - 20} for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    fewer = row | {"pnl_quantiles": quantiles, "pnl_interval": None, "degradation_interval": None}
    return {
        "axes": [
            {"axis": "sessions", "rows": [row | {"name": f"session {s}{mark}"} for s in (70, 71)]},
            {"axis": "market_count",
             "rows": [fewer | {"name": f"{n} of 1,000 markets"} for n in (1_000, 500, 300)]},
            {"axis": "underlying", "rows": [row | {"name": f"BTC{mark}"}]},
            {"axis": "universe", "rows": []},
        ]
    }  # fmt: skip
