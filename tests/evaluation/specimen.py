"""A report with every section, its figures made up: what the page is tested on, no evaluation run.

Nothing here was measured. Every name a report takes from elsewhere carries `mark`, so that a test
can make all of them hostile at once.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from tests.evaluation import specimen_judgement, specimen_sections, specimen_trades

BASELINES = (
    "Hold", "Random", "Own actions, shuffled", "Passive two-sided", "Passive buy-only",
    "Buy and hold YES", "Momentum 60 s", "Imbalance rule", "Avellaneda-Stoikov",
    "Untrained network", "Phase 1", "One-step oracle (cheats)",
)  # fmt: skip
EVENTS = 41
START_MS = 1_765_700_000_000


def specimen(mark: str = "", seed: int = 5) -> dict[str, Any]:
    """A made-up report of schema 3."""
    rng = np.random.default_rng(seed)
    judged = f"Learned{mark}"
    names = [judged, *BASELINES]
    pnl = {name: _events(rng, place) for place, name in enumerate(names)}
    headline = _table(f"Clean-forward events{mark}", pnl, judged, clean=True)
    session = _table("Session 71", pnl, judged, clean=True)
    return {
        "schema_version": 3,
        "generated": True,
        "policy": judged,
        "baselines": list(BASELINES),
        "cheating": ["One-step oracle (cheats)"],
        "cell": {"fill_model": "cross", "mark": "liquidation", "fees": True, "headline": True},
        "provenance": {
            "plan": f"specimen{mark}",
            "title": f"Made-up figures{mark}",
            "checkpoint": "0123456789abcdef",
            "phases": [{"phase": 1, "sessions": [32], "steps": 500_000, f"note{mark}": None}],
            "seed": 3,
            "sessions": {"71": f"the only forward test{mark}"},
        },
        "settings": {
            "trading": asdict(TradingConfig()),
            "evaluation": asdict(EvaluationConfig()),
        },
        "labels": {
            "in_sample": {"episodes": 420, "markets": 210, "events": 63},
            "selected_on": {"episodes": 12, "markets": 6, "events": 3},
            "clean_forward": {"episodes": 164, "markets": 82, "events": EVENTS},
        },
        "lineage_end_ms": START_MS - 3_600_000,
        "exclusions": [{"session": 71, "reason": f"too_few_steps{mark}", "count": 17}],
        "walk_forward": {
            "used_until_ms": START_MS - 3_600_000,
            "embargo_s": 3_600.0,
            "lookback_s": 600.0,
            "clean_from_ms": START_MS,
            "purged_episodes": 1,
            "sessions": [
                {
                    "session": 71,
                    "markets_trained_on": 0,
                    "markets_selected_on": 0,
                    "role": f"forward{mark}",
                    "start_ms": START_MS,
                    "end_ms": None,
                }
            ],
        },
        "forward_tests": [
            {
                "scope": scope,
                "session": None,
                "events": EVENTS,
                "policy": judged,
                "pnl_cents": -4.1,
                "pnl_interval": None,
                "difference_cents": None,
                "difference_interval": None,
            }
            for scope in ("pooled", "session 71", "session 72")
        ],
        "sealed": [{"session": 71, "status": f"opened{mark}", "first_look": True}],
        "headline": headline,
        "seeds": None,
        "shape": _shape(pnl, judged),
        "sessions": [
            {
                "session": 71,
                "role": f"forward{mark}",
                "description": f"generated{mark}",
                "labels": {"clean_forward": {"episodes": 164, "markets": 82, "events": EVENTS}},
                "start_ms": START_MS,
                "end_ms": START_MS + 9 * 3_600_000,
                **session,
            }
        ],
        "verdict": {
            "sentence": "No evidence of profit on generated sessions: \N{MINUS SIGN}4.1 ¢ per "
            "event [\N{MINUS SIGN}21.3, +12.8], 41 clean-forward events, fill model cross, "
            "liquidation mark, fees on; not shown to beat Hold and 6 more.",
            "claim": False,
        },
        "criteria": _criteria(),
        **_more(rng, names, judged, mark),
    }


def _events(rng: np.random.Generator, place: int) -> np.ndarray:
    if place == 1:
        return np.zeros(EVENTS)
    middle = (-4.0, 0.0, -120.0, -9.0, -3.0, -14.0, 2.0, -25.0, -18.0, -11.0, -40.0, -7.0, 210.0)
    return rng.normal(middle[place], 40.0 + 12.0 * place, EVENTS) + rng.exponential(12.0, EVENTS)


def _around(value: float, half: float) -> list[float]:
    return [value - half, value + 0.9 * half]


def _table(title: str, pnl: dict[str, np.ndarray], judged: str, *, clean: bool) -> dict[str, Any]:
    return {
        "title": title,
        "clean": clean,
        "events": EVENTS,
        "markets": 82,
        "episodes": 164,
        "policies": [_metrics(name, pnl, judged) for name in pnl],
    }


def _metrics(name: str, pnl: dict[str, np.ndarray], judged: str) -> dict[str, Any]:
    values = pnl[name]
    mean, spread = float(values.mean()), float(values.std())
    half = 1.96 * spread / EVENTS**0.5
    behind = float((pnl[judged] - values).mean())
    active = bool(spread)
    shares = np.array([0.62, 0.04, 0.07, 0.1, 0.03, 0.06, 0.08]) if active else np.eye(7)[0]
    return {
        "policy": name,
        "pnl_cents": mean,
        "pnl_interval": _around(mean, half),
        "difference_cents": None if name == judged else behind,
        "difference_interval": None if name == judged else _around(behind, half + 9.0),
        "pnl_mid_cents": mean + 6.5 * active,
        "pnl_episode_cents": mean / 4,
        "return_on_capital": mean / 900 if active else None,
        "sharpe": mean / spread if active else None,
        "sharpe_interval": _around(mean / spread, 0.31) if active else None,
        "detectable_cents": 1.43 * half if active else None,
        "positive_events": int((values > 0).sum()),
        "positive_share": float((values > 0).mean()),
        "positive_interval": [0.3, 0.61] if active else [0.0, 0.09],
        "round_trips": 9.4 * active,
        "win_rate": 0.47 if active else None,
        "win_interval": [0.41, 0.53] if active else None,
        "max_drawdown_cents": 88.0 * active,
        "max_drawdown_share": 0.12 * active,
        "fees_cents": 14.2 * active,
        "contracts": 19.0 * active,
        "orders": 61.0 * active,
        "fills_per_order": 0.31 if active else None,
        "maker_share": 0.78 if active else None,
        "hold_share": float(shares[0]),
        "invalid_share": 0.004 * active,
        "action_shares": [float(share) for share in shares],
        "best_event_share": 0.18 if active else None,
        "pnl_without_best_cents": mean - 5,
    }


def _shape(pnl: dict[str, np.ndarray], judged: str) -> dict[str, Any]:
    paths = {name: np.cumsum(values) for name, values in pnl.items()}
    width = 1.96 * np.sqrt(np.arange(1, EVENTS + 1)) * pnl[judged].std()
    return {
        "title": "Clean-forward events, all sessions pooled",
        "clean": True,
        "events_so_far": list(range(1, EVENTS + 1)),
        "end_ms": [START_MS + 600_000 * event for event in range(EVENTS)],
        "paths": {name: path.tolist() for name, path in paths.items()},
        "band": {
            "low": (paths[judged] - width).tolist(),
            "high": (paths[judged] + width).tolist(),
        },
        "quantiles": {
            name: np.quantile(values, np.linspace(0, 1, 101)).tolist()
            for name, values in pnl.items()
        },
    }


def _criteria() -> list[dict[str, Any]]:
    plain = {"threshold": 0.45, "comparison": ">", "events": EVENTS, "in_sample": False}
    return [
        {"group": "minimum viable", "text": "Mean return on the validation sessions above 0",
         "unit": "cents", "value": -4.1, "interval": [-21.3, 12.8], "status": "fail",
         "conclusive": False, "also_met_by": ["Hold"], "discriminates": False,
         "note": "this criterion does not discriminate here", **plain},
        {"group": "minimum viable", "text": "Win rate above 45 %", "unit": "share", "value": 0.47,
         "interval": [0.41, 0.53], "status": "pass", "conclusive": False,
         "also_met_by": ["Random", "Passive two-sided"], "discriminates": False,
         "note": "the interval holds the threshold", **plain},
        {"group": "the plan's upper bar", "text": "Sharpe ratio per event above 1",
         "unit": "ratio", "value": -0.06, "interval": [-0.37, 0.25], "status": "not assessable",
         "conclusive": None, "also_met_by": [], "discriminates": True, "note": "", **plain},
    ]  # fmt: skip


def _more(rng: np.random.Generator, names: list[str], judged: str, mark: str) -> dict[str, Any]:
    """The sections of an evaluation that ran everything."""
    few = [judged, "Hold", "Passive two-sided", "Avellaneda-Stoikov"]
    return {
        "paired": [_paired(rng, name) for name in names[1:]],
        "grid": _grid(rng, names),
        "robustness": {
            "curves": [
                _curve(rng, few, "starting_capital", "$", (10, 25, 50, 100, 200)),
                _curve(rng, few, "position_limit", "contracts", (1, 2, 5, 10, 20)),
                _curve(rng, few, "fee_multiple", "x", (0, 0.5, 1, 2)),
                _curve(rng, few, "latency", "ms", (0, 250, 1_000)),
                _curve(rng, few, "fill_model", "", ("cross", "queue(0.5)", "touch")),
            ],
            "queue_break_even_alpha": 0.5,
        },
        "behaviour": specimen_sections.behaviour(rng, judged, mark),
        "features": specimen_sections.features(rng),
        "trades": specimen_trades.trades(rng, few, mark),
        **specimen_judgement.judgement(mark),
        "generalisation": specimen_sections.generalisation(mark),
    }


def _paired(rng: np.random.Generator, name: str) -> dict[str, Any]:
    middle, p = float(rng.normal(4, 12)), float(rng.uniform(0.01, 0.7))
    return {
        "baseline": name,
        "cheating": "cheats" in name,
        "difference_cents": middle,
        "interval_percentile": _around(middle, 18.0),
        "interval_bca": _around(middle + 0.6, 18.4),
        "p_value": p,
        "p_holm": None if "cheats" in name else min(1.0, 5 * p),
        "units": EVENTS,
        "detectable_cents": 25.3,
    }


def _grid(rng: np.random.Generator, names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for fill, kind in (("cross", 0.0), ("queue(0.5)", 14.0), ("touch", 60.0)):
        for mark, gain in (("liquidation", 0.0), ("mid", 8.0)):
            for fees, cost in ((True, 0.0), (False, 13.0)):
                for name in names:
                    pnl = float(rng.normal(-6, 5)) + kind + gain + cost if name != "Hold" else 0.0
                    rows.append(
                        {
                            "policy": name, "fill_model": fill, "fees": fees, "mark": mark,
                            "pnl_cents": pnl, "pnl_interval": _around(pnl, 15.0),
                            "difference_cents": None if name == names[0] else 1.0,
                            "difference_interval": None if name == names[0] else [-14.0, 16.0],
                            "sharpe": pnl / 50, "round_trips": 9.4, "fees_cents": 14.0 * fees,
                            "headline": fill == "cross" and mark == "liquidation" and fees,
                        }
                    )  # fmt: skip
    return rows


def _curve(
    rng: np.random.Generator, names: list[str], axis: str, unit: str, settings: tuple[Any, ...]
) -> dict[str, Any]:
    points = []
    for place, setting in enumerate(settings):
        for name in names:
            pnl = float(rng.normal(-4, 3)) + 4.0 * place if name != "Hold" else 0.0
            number = None if isinstance(setting, str) else float(setting)
            points.append(
                {"setting": str(setting), "value": number, "policy": name, "pnl_cents": pnl,
                 "pnl_interval": _around(pnl, 16.0)}
            )  # fmt: skip
    return {"axis": axis, "unit": unit, "points": points}
