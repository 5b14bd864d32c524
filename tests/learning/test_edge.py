"""Every algorithm finds an edge that is there, and none where there is none.

Trained on 200 markets and judged on 80 others by the backtest and the bootstrap of an evaluation,
paired by event. The default suite trains the two quickest algorithms once, the slow tests all of
them five times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import (
    CONFIGS,
    MICRO_PER_DOLLAR,
    EvaluationConfig,
    LearnerConfig,
    TradingConfig,
)
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.evaluation.baselines import baselines
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.evaluation.statistics import cluster_means, percentile_interval
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.trading.tape import Universe
from tests.learning.markets import martingale, planted_edge

Market = Callable[[np.random.Generator, int], Universe]

ALGORITHMS = sorted(CONFIGS)
QUICK = ("bc", "ppo")
SEEDS = range(5)
TRADING = TradingConfig()
EVALUATION = EvaluationConfig()
# budgets: environment steps, and what makes the most of so few of them on networks this small
STEPS = {"ppo": 40_000, "a2c": 120_000, "sac": 40_000, "bc": 80_000}
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {
        "n_envs": 32, "n_steps": 32, "learning_rate": 1e-3, "batch_size": 128, "n_epochs": 5,
        "ent_coef": 0.01,
    },
    "a2c": {
        "n_envs": 16, "n_steps": 8, "learning_rate": 3e-3, "ent_coef": 0.05, "gae_lambda": 0.95,
    },
    "sac": {
        "n_envs": 16, "n_steps": 16, "learning_rate": 2e-3, "batch_size": 128,
        "gradient_steps": 16, "tau": 0.02, "entropy_share": 0.2, "temperature": 0.01,
    },
    "bc": {"n_envs": 32, "n_steps": 32, "gradient_steps": 16, "act_shares": (1.0, 0.3)},
}  # fmt: skip


def config_of(algorithm: str) -> LearnerConfig:
    return replace(CONFIGS[algorithm](), hidden=(32, 32), gamma=0.95, **SETTINGS[algorithm])


@cache
def judged_on(market: Market) -> Universe:
    return market(np.random.default_rng(99), 80)


@cache
def trained(algorithm: str, market: Market, seed: int) -> Policy:
    result = train_phase(
        market(np.random.default_rng(1_000 + seed), 200), phase="phase_1",
        timesteps=STEPS[algorithm], config=config_of(algorithm), trading=TRADING, seed=seed,
    )  # fmt: skip
    return NetworkPolicy(result.final)


def dollars(policy: Policy, market: Market) -> np.ndarray:
    """`[markets]` of profit after fees, in the order of the universe, repeats averaged."""
    universe = judged_on(market)
    table = backtest(universe, policy, TRADING, EVALUATION, np.random.default_rng(1))
    pnl = np.array(table["pnl_micro"], np.float64) / MICRO_PER_DOLLAR
    return pnl.reshape(len(universe), -1).mean(1)


def lower_bound(gain: np.ndarray, market: Market, confidence: float) -> float:
    """Of the mean gain of an event, by the cluster bootstrap."""
    events = [episode.event for episode in judged_on(market).episodes]
    cluster = np.unique(events, return_inverse=True)[1].astype(np.int64)
    rng = np.random.default_rng(EVALUATION.seed)
    means = cluster_means(gain[:, None], cluster, EVALUATION.resamples, rng)
    return percentile_interval(means[:, 0], confidence).low


def check_edge_found(algorithm: str, seeds: Sequence[int]) -> None:
    learned = np.array([dollars(trained(algorithm, planted_edge, s), planted_edge) for s in seeds])
    for baseline in baselines():
        unskilled = dollars(baseline, planted_edge)
        gains = learned - unskilled
        # a single seed may stay with holding (A2C's does in one of five, SAC's in two); none does
        # worse
        assert (gains.mean(1) >= 0).all(), baseline.name
        low = lower_bound(gains.mean(0), planted_edge, EVALUATION.confidence)
        assert low > 0, baseline.name


def check_nothing_found(algorithm: str, seeds: Sequence[int]) -> None:
    # 5 % for all the tests of the slow suite together, each on one side
    confidence = 1 - 2 * 0.05 / (len(ALGORITHMS) * len(SEEDS))
    for seed in seeds:
        gain = dollars(trained(algorithm, martingale, seed), martingale)
        assert lower_bound(gain, martingale, confidence) <= 0, seed


@pytest.mark.parametrize("algorithm", QUICK)
def test_a_planted_edge_is_found(algorithm: str) -> None:
    check_edge_found(algorithm, [0])


@pytest.mark.parametrize("algorithm", QUICK)
def test_nothing_is_found_in_a_martingale(algorithm: str) -> None:
    check_nothing_found(algorithm, [0])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_planted_edge_is_found_with_every_seed(algorithm: str) -> None:
    check_edge_found(algorithm, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_found_in_a_martingale_with_any_seed(algorithm: str) -> None:
    check_nothing_found(algorithm, SEEDS)


def test_no_baseline_lives_off_the_planted_edge() -> None:
    for baseline in baselines():
        assert dollars(baseline, planted_edge).mean() <= 0, baseline.name
