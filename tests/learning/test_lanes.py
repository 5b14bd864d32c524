"""Lanes begin at different places of their first episodes, as if they had held up to there."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.learning.curriculum import MarketSampler
from kalshi_pipeline.learning.lanes import StaggeredLanes
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(5), episodes=2, steps=60)


def lanes_of(universe: Universe = UNIVERSE, lanes: int = 16, seed: int = 0) -> StaggeredLanes:
    sampler = MarketSampler(universe, np.random.default_rng(1))
    rng = np.random.default_rng(seed)
    return StaggeredLanes(universe, lanes, TradingConfig(), sampler, rng)


def places(env: StaggeredLanes) -> np.ndarray:
    """`[lanes]` steps since the start of each lane's episode."""
    account = env.simulator.state.account
    return account[:, Account.STEP] - UNIVERSE.tape.first_step[account[:, Account.EPISODE]]


def test_lanes_on_few_episodes_do_not_play_in_step() -> None:
    env = lanes_of()
    env.reset()
    assert len(set(places(env).tolist())) > 8
    assert places(env).max() < 30  # the first half


def test_every_lane_stands_where_holding_from_the_start_leads() -> None:
    env = lanes_of()
    observations = env.reset()
    slow = Simulator(UNIVERSE, 1, TradingConfig())
    for lane, place in enumerate(places(env).tolist()):
        slow.reset([0], [int(env.simulator.state.account[lane, Account.EPISODE])])
        for _ in range(place):
            slow.step([0])
        np.testing.assert_array_equal(observations[lane], slow.observation[0])
    assert not (env.simulator.terminated | env.simulator.truncated).any()


def test_a_seed_fixes_the_places_and_another_gives_others() -> None:
    first, again, other = (lanes_of(seed=seed) for seed in (0, 0, 1))
    for env in (first, again, other):
        env.reset()
    np.testing.assert_array_equal(places(first), places(again))
    assert (places(first) != places(other)).any()


def test_later_episodes_start_at_their_start() -> None:
    env = lanes_of()
    env.reset()
    for _ in range(60):
        before = env.simulator.state.account[:, Account.STEP].copy()
        _, _, dones, _ = env.step(np.zeros(16, np.int64))
        assert (places(env)[dones] == 0).all()
        assert (env.simulator.state.account[~dones, Account.STEP] == before[~dones] + 1).all()
