"""Networks compiled: the oracle's numbers, and the same bits whoever else plays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.errors import IncompatibleCheckpoint
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.learning.play import play_actor
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.trading.simulator import Simulator
from tests.checkpoints import SMALL, small_checkpoint
from tests.oracle import actor as oracle
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(3), episodes=14, steps=60)
EVERY = np.arange(len(UNIVERSE))
TRADING = TradingConfig()
PLAIN = replace(SMALL, hidden=(33, 10))  # widths that no vector and no group of four divides
MASKED = replace(PLAIN, mask_actions=True)


def network(seed: int, config=PLAIN) -> Checkpoint:
    """Weights small enough that no action is certain."""
    checkpoint = small_checkpoint(seed, config)
    for weights in checkpoint.policy.values():
        weights *= 0.3
    return checkpoint


def seen(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Observations and masks, HOLD always valid."""
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, 7)) < 0.5
    mask[:, 0] = True
    return rng.normal(size=(rows, 52)).astype(np.float32), mask


@pytest.mark.parametrize("config", [PLAIN, MASKED, SMALL])
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_probabilities_are_the_mean_over_the_networks(config, seeds) -> None:
    networks = [network(seed, config) for seed in seeds]
    observation, mask = seen(9)
    found = NetworkPolicy(*networks).probabilities(observation, mask)
    for row in range(9):
        expected = oracle.probabilities(
            [one.policy for one in networks],
            observation[row],
            mask[row] if config.mask_actions else None,
        )
        np.testing.assert_allclose(found[row], expected, atol=2e-6)
    if config.mask_actions:
        assert (found[~mask] == 0).all()


@given(st.integers(1, 23), st.integers(0, 99), st.booleans(), st.booleans(), st.integers(1, 3))
@settings(max_examples=60)
def test_a_row_is_the_same_to_the_bit_whichever_rows_are_beside_it(
    rows, seed, masked, stochastic, networks
) -> None:
    config = MASKED if masked else PLAIN
    policy = NetworkPolicy(
        *(network(seed + n, config) for n in range(networks)), stochastic=stochastic
    )
    observation, mask = seen(rows, seed)
    lots = np.random.default_rng(seed).random(rows)
    actions, probabilities = policy._chosen(observation, mask, lots)
    for row in range(rows):
        one = slice(row, row + 1)
        action, alone = policy._chosen(observation[one], mask[one], lots[one])
        assert (action[0], alone.tobytes()) == (actions[row], probabilities[one].tobytes())
        expected = oracle.fallen_on(lots[row], alone[0]) if stochastic else int(np.argmax(alone[0]))
        assert action[0] == expected


def test_networks_of_other_shapes_or_other_masks_make_no_ensemble() -> None:
    for other in (network(2, MASKED), network(2, SMALL)):
        with pytest.raises(IncompatibleCheckpoint, match="one shape"):
            NetworkPolicy(network(1), other)


# --- whole episodes


@dataclass(frozen=True)
class StepByStep:
    """A policy that may not play on its own."""

    policy: NetworkPolicy

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def stochastic(self) -> bool:
        return self.policy.stochastic

    def act(self, *arguments: Any) -> np.ndarray:
        return self.policy.act(*arguments)


RULES = (
    {},
    {"fill_model": "queue", "latency_ms": 0},
    {"fill_model": "touch", "cash_start_micro": 2_000_000, "daily_loss_limit_micro": 100_000},
)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("config", [PLAIN, MASKED])
@pytest.mark.parametrize("seeds", [(1,), (4, 5)])
def test_the_ledger_is_that_of_lanes_stepped_from_python(rules, config, seeds) -> None:
    policy = NetworkPolicy(*(network(seed, config) for seed in seeds))
    trading, evaluation = TradingConfig(**rules), EvaluationConfig(n_envs=5)
    played, stepped = (
        backtest(UNIVERSE, each, trading, evaluation, np.random.default_rng(0))
        for each in (policy, StepByStep(policy))
    )
    assert played.equals(stepped)
    assert len(set(played["pnl_micro"].to_pylist())) > 5
    assert (sum(played["invalid_actions"].to_pylist()) == 0) == config.mask_actions


class Dealt:
    """Gives out lots drawn before."""

    def __init__(self, lots: np.ndarray) -> None:
        self.lots = iter(lots.tolist())

    def random(self, count: int) -> np.ndarray:
        return np.array([next(self.lots) for _ in range(count)]) / (1 << 32)


@pytest.mark.parametrize("config", [PLAIN, MASKED])
def test_chance_is_one_lot_a_step_dealt_episode_after_episode(config) -> None:
    policy = NetworkPolicy(network(1, config), network(2, config), stochastic=True)
    episodes = [3, 3, 0, 5, 13]
    steps = sum(UNIVERSE.episodes[episode].steps - 1 for episode in episodes)
    dealt = Dealt(np.random.default_rng(4).integers(0, 1 << 32, steps, dtype=np.uint32))
    simulator, expected = Simulator(UNIVERSE, 1, TRADING), []
    for episode in episodes:
        simulator.reset([0], [episode])
        while not simulator.step(policy.act(simulator.observation, simulator.mask, dealt)):
            pass
        expected.append(simulator.summary(0))
    played = policy.play(UNIVERSE, TRADING, episodes, np.random.default_rng(4)).summaries
    assert played == tuple(expected)
    assert next(dealt.lots, None) is None
    assert played[0] != played[1]  # the same episode, other lots


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("threads", [1, 3, 50])
def test_the_number_of_threads_changes_nothing(threads, stochastic) -> None:
    actor = NetworkPolicy(network(1), stochastic=stochastic)._actor
    played = [
        play_actor(UNIVERSE, actor, TRADING, EVERY, np.random.default_rng(0), count).summaries
        for count in (2, threads)
    ]
    assert played[0] == played[1]


def test_what_is_played_beside_an_episode_changes_nothing() -> None:
    policy = NetworkPolicy(network(1))
    every = policy.play(UNIVERSE, TRADING, EVERY, np.random.default_rng(0)).summaries
    for episode in EVERY:
        alone = policy.play(UNIVERSE, TRADING, [episode], np.random.default_rng(0)).summaries
        assert alone == every[episode : episode + 1]
    assert policy.play(UNIVERSE, TRADING, [], np.random.default_rng(0)).summaries == ()
    with pytest.raises(IndexError):
        policy.play(UNIVERSE, TRADING, [len(UNIVERSE)], np.random.default_rng(0))
