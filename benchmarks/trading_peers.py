"""Vectorised environments of other trading libraries; importable only where they are installed.

Their rules are far simpler than ours: a price a step, a position, no book, no order that waits, no
queue, no collateral. What is compared is what a learner waits for: one step of N episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gym_anytrading.envs
import gym_trading_env.environments
import gymnasium
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.timing import Contestant

PRICES = 10_000  # of a random walk; an episode of either lasts that long
WINDOW = 10


def contestants(lanes: int, actions: NDArray[np.int64]) -> dict[str, Contestant]:
    """Both libraries under Gymnasium's own vector environment, which is what they offer.

    Args:
        lanes: how many episodes side by side.
        actions: `[K, lanes]`, whatever they are; each library takes them modulo its own.
    """
    prices = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-3, PRICES)))
    makers = {
        "gym-anytrading, SyncVectorEnv": (lambda: _anytrading(prices), 2),
        "gym-trading-env, SyncVectorEnv": (lambda: _trading_env(prices), 3),
    }
    return {
        name: _stepping(make, lanes, actions % positions)
        for name, (make, positions) in makers.items()
    }


def _stepping(
    make: Callable[[], gymnasium.Env[Any, Any]], lanes: int, actions: NDArray[np.int64]
) -> Contestant:
    vector = gymnasium.vector.SyncVectorEnv([make] * lanes)
    vector.reset(seed=0)

    def run(_: None) -> int:
        for chosen in actions:
            vector.step(chosen)
        return actions.size

    return Contestant(run)


def _anytrading(prices: NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
    table = pd.DataFrame({"Close": prices})
    return gym_anytrading.envs.StocksEnv(
        df=table, window_size=WINDOW, frame_bound=(WINDOW, len(table))
    )


def _trading_env(prices: NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
    times = pd.date_range("2026-01-01", periods=len(prices), freq="min")
    table = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": 1.0}, index=times
    )
    table["feature_return"] = table["close"].pct_change().fillna(0.0)
    return gym_trading_env.environments.TradingEnv(df=table, positions=[-1, 0, 1], verbose=0)
