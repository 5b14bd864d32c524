"""What was seen at chosen steps, and episodes taken out of a universe."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.rollout import play
from kalshi_pipeline.trading.scripts import Rule, Script
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import excerpt
from kalshi_pipeline.trading.visits import observations_at
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(7), episodes=6, steps=40)
CONFIG = TradingConfig(fill_model="touch")


def test_observations_are_those_a_simulator_showed_when_the_actions_were_taken():
    jobs = np.array([2, 0, 2, 5])
    trace = play(
        UNIVERSE, Script(Rule.ANY), CONFIG, jobs, np.random.default_rng(1), detail=True
    ).trace
    shown, masks = [], []
    for job, episode in enumerate(jobs):
        simulator = Simulator(UNIVERSE, 1, CONFIG)
        simulator.reset([0], [episode])
        for action in trace.action[trace.first[job] : trace.first[job + 1]]:
            shown.append(simulator.observation[0].copy())
            masks.append(simulator.mask[0].copy())
            simulator.step([action])
    chosen = np.sort(np.random.default_rng(2).choice(len(shown), 50, replace=False))
    chosen = chosen[(chosen < trace.first[1]) | (chosen >= trace.first[2])]  # one job not at all
    observation, mask = observations_at(UNIVERSE, CONFIG, jobs, trace.first, trace.action, chosen)
    np.testing.assert_array_equal(observation, np.array(shown)[chosen])
    np.testing.assert_array_equal(mask, np.array(masks)[chosen])
    assert (observation[:, 35:] != 0).any()  # of the agent itself too


@pytest.mark.parametrize("action", [Action.BUY_BEST, Action.SELL_PASSIVE])
def test_episodes_taken_out_play_as_they_did(action):
    chosen = np.array([4, 1, 3])
    few = excerpt(UNIVERSE, chosen)
    assert [e.market for e in few.episodes] == [UNIVERSE.episodes[c].market for c in chosen]
    assert len(few.tape.step_row) == sum(e.steps for e in few.episodes)
    rng = np.random.default_rng
    alone = play(few, Script(Rule.ACTION, (action,)), CONFIG, np.arange(3), rng(0)).summaries
    among = play(UNIVERSE, Script(Rule.ACTION, (action,)), CONFIG, chosen, rng(0)).summaries
    assert [s.pnl_micro for s in alone] == [s.pnl_micro for s in among]
    assert [(s.start_ms, s.end_ms) for s in alone] == [(s.start_ms, s.end_ms) for s in among]
    assert any(s.pnl_micro for s in alone)
