"""Numbers that must stop training, and those that must not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import TrainingDiverged
from kalshi_pipeline.learning.guards import (
    ROLLOUT_ARRAYS,
    check_observations,
    check_rewards,
    check_rollout,
    check_weights,
    reward_bound,
)

MARKETS = np.array(["A", "B", "C"])


def bound_of(trading: TradingConfig, fees: tuple[int, int, int, int] = (700, 0, 100, 0)) -> float:
    return reward_bound(trading, SimpleNamespace(fee_schedule=np.array([fees])))


def test_the_bound_is_a_dollar_a_contract_held_or_traded_and_fees() -> None:
    free = TradingConfig(position_limit_centi=1_000, order_size_centi=100, fees=False)
    assert bound_of(free) == 13.0
    assert bound_of(TradingConfig()) == pytest.approx(13 + 3 * 0.0175 + 3 * 0.02)
    assert bound_of(TradingConfig(), (700, 0, 200, 0)) > bound_of(TradingConfig())


@pytest.mark.parametrize("reward", [13.2, -13.2, np.nan, np.inf, -np.inf])
def test_an_impossible_reward_stops_and_names_market_step_and_value(reward: float) -> None:
    rewards = np.array([0.1, reward, 0.0], np.float32)
    with pytest.raises(TrainingDiverged) as caught:
        check_rewards(rewards, 13.1, MARKETS, 640)
    assert (caught.value.market, caught.value.row) == ("B", 640)
    assert caught.value.value == pytest.approx(reward, nan_ok=True)


def test_a_large_but_possible_reward_passes() -> None:
    check_rewards(np.array([13.0, -13.0, 0.0]), 13.1, MARKETS, 0)


def test_a_non_finite_observation_stops_and_names_market_and_feature() -> None:
    seen = np.zeros((3, 52), np.float32)
    check_observations(seen, MARKETS, 64)
    seen[2, 4] = np.inf
    with pytest.raises(TrainingDiverged, match="spread") as caught:
        check_observations(seen, MARKETS, 64)
    assert (caught.value.market, caught.value.row) == ("C", 64)


@pytest.mark.parametrize("name", ROLLOUT_ARRAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_number_in_a_rollout_stops_and_names_where(name: str, value: float) -> None:
    buffer = RolloutBuffer(4, spaces.Box(-1, 1, (5,)), spaces.Discrete(7), "cpu", n_envs=3)
    played = np.tile(MARKETS, (4, 1))
    check_rollout(buffer, played, 100)
    getattr(buffer, name)[2, 1] = value
    with pytest.raises(TrainingDiverged, match=name) as caught:
        check_rollout(buffer, played, 100)
    assert (caught.value.market, caught.value.row) == ("B", 106)


def test_a_non_finite_weight_stops_and_is_named() -> None:
    network = torch.nn.Linear(2, 2)
    check_weights(network, 5)
    with torch.no_grad():
        network.bias[1] = torch.inf
    with pytest.raises(TrainingDiverged, match="bias") as caught:
        check_weights(network, 5)
    assert caught.value.row == 5
