"""Every episode exactly as often as asked, and the same money as one lane alone would make."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform, baselines
from kalshi_pipeline.evaluation.ledger import LEDGER_SCHEMA
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from tests.tapes import random_universe

TRADING = TradingConfig()
CONFIG = EvaluationConfig(n_envs=3, stochastic_repeats=4)


@pytest.fixture(scope="module")
def universe() -> Universe:
    return random_universe(np.random.default_rng(11), episodes=7, steps=40)


def run(universe: Universe, policy: Policy, config: EvaluationConfig = CONFIG) -> list[dict]:
    table = backtest(universe, policy, TRADING, config, np.random.default_rng(5))
    assert table.schema == LEDGER_SCHEMA
    return table.to_pylist()


@pytest.mark.parametrize("policy", [Always(Action.BUY_BEST), PassiveTwoSided()])
def test_the_ledger_equals_a_loop_over_one_lane(universe: Universe, policy: Policy) -> None:
    rows = run(universe, policy)
    rng = np.random.default_rng(0)
    for episode, row in enumerate(rows):
        simulator = Simulator(universe, 1, TRADING)
        simulator.reset(np.array([0]), np.array([episode]))
        earned = 0.0
        while not (simulator.terminated[0] or simulator.truncated[0]):
            simulator.step(policy.act(simulator.observation, simulator.mask, rng))
            earned += float(simulator.reward[0])
        summary = simulator.summary(0)
        assert row["market"] == universe.episodes[episode].market
        assert row["pnl_micro"] == summary.pnl_micro == round(earned * 1_000_000)
        assert row["fees_micro"] == summary.fees_micro
        assert row["action_hold"] == summary.action_counts[Action.HOLD]


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
def test_lanes_do_not_change_a_deterministic_policy(universe: Universe, lanes: int) -> None:
    assert run(universe, PassiveTwoSided(), replace(CONFIG, n_envs=lanes)) == run(
        universe, PassiveTwoSided()
    )


def test_each_episode_once_or_as_often_as_repeats_ask(universe: Universe) -> None:
    once = run(universe, Always(Action.HOLD))
    assert [(row["market"], row["repeat"]) for row in once] == [
        (episode.market, 0) for episode in universe.episodes
    ]
    often = run(universe, RandomUniform())
    assert [(row["market"], row["repeat"]) for row in often] == [
        (episode.market, repeat) for episode in universe.episodes for repeat in range(4)
    ]
    assert len({row["pnl_micro"] for row in often[:4]}) > 1


def test_the_same_rng_gives_the_same_ledger(universe: Universe) -> None:
    assert run(universe, RandomUniform()) == run(universe, RandomUniform())


def test_hold_earns_exactly_nothing(universe: Universe) -> None:
    for row in run(universe, Always(Action.HOLD)):
        assert row["pnl_micro"] == row["pnl_mid_micro"] == row["fees_micro"] == 0
        assert row["orders"] == row["max_drawdown_micro"] == row["max_capital_micro"] == 0


class Watching:
    """Holds, and remembers how many lanes it was shown."""

    name = "Watching"
    stochastic = False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        assert len(observation) == len(mask)
        self.seen.append(len(observation))
        return np.zeros(len(observation), dtype=np.int64)


def test_only_running_lanes_are_shown_to_the_policy(universe: Universe) -> None:
    policy = Watching()
    rows = run(universe, policy)
    assert sum(policy.seen) == sum(row["steps"] for row in rows)
    assert max(policy.seen) == CONFIG.n_envs
    assert min(policy.seen) >= 1


def test_no_episodes_no_rows() -> None:
    empty = Universe(random_universe(np.random.default_rng(0), episodes=1).tape, ())
    assert run(empty, Always(Action.HOLD)) == []


def test_baselines_only_choose_valid_actions(universe: Universe) -> None:
    for policy in baselines():
        rows = run(universe, policy)
        assert sum(row["invalid_actions"] for row in rows) == 0, policy.name


def test_every_baseline_has_its_own_name() -> None:
    names = Counter(policy.name for policy in baselines(RandomUniform()))
    assert len(names) == len(baselines()) + 1 == 20
    assert max(names.values()) == 1
    assert next(iter(names)) == "Hold"
