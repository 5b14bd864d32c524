"""Scripts played in one compiled call: the same episodes as stepped one by one."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.rollout import play
from kalshi_pipeline.trading.scripts import Rule, Script, pick_valid
from kalshi_pipeline.trading.simulator import Simulator
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(7), episodes=12, steps=60)
EVERY = np.arange(len(UNIVERSE))
RULES = (
    {},
    {"fill_model": "queue", "latency_ms": 0},
    {"fill_model": "touch", "cash_start_micro": 2_000_000, "daily_loss_limit_micro": 100_000},
)


def stepped(config, episodes, choose):
    """The summaries of a simulator that is asked for its mask at every step."""
    simulator, summaries = Simulator(UNIVERSE, 1, config), []
    for episode in episodes:
        simulator.reset([0], [episode])
        ended = 0
        while not ended:
            ended = simulator.step([choose(simulator.mask[0])])
        summaries.append(simulator.summary(0))
    return tuple(summaries)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("action", Action)
def test_an_action_at_every_step_does_what_stepping_does(action, rules):
    config = TradingConfig(**rules)
    played = play(
        UNIVERSE, Script(Rule.ACTION, (action,)), config, EVERY, np.random.default_rng(0)
    ).summaries
    assert played == stepped(config, EVERY, lambda mask: action if mask[action] else Action.HOLD)
    assert sum(summary.action_counts[action] for summary in played) > 0


@pytest.mark.parametrize("rules", RULES)
def test_any_valid_action_does_what_stepping_with_the_same_lots_does(rules):
    config, episodes = TradingConfig(**rules), [3, 3, 0, 5]
    steps = sum(UNIVERSE.episodes[episode].steps - 1 for episode in episodes)
    lots = iter(np.random.default_rng(4).integers(0, 1 << 32, steps, dtype=np.uint32))

    def drawn(mask):
        valid = np.flatnonzero(mask)
        return valid[int(next(lots)) * len(valid) >> 32]

    played = play(UNIVERSE, Script(Rule.ANY), config, episodes, np.random.default_rng(4)).summaries
    assert played == stepped(config, episodes, drawn)
    assert next(lots, None) is None
    assert played[0] != played[1]  # the same episode, other lots
    assert all(summary.invalid_actions == 0 for summary in played)


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_the_number_of_threads_changes_nothing(threads):
    played = [
        play(
            UNIVERSE, Script(Rule.ANY), TradingConfig(), EVERY, np.random.default_rng(2), count
        ).summaries
        for count in (2, threads)
    ]
    assert played[0] == played[1]
    assert [summary.episode for summary in played[0]] == EVERY.tolist()


@kernel
def picks(mask, lots, counts):  # type: ignore[no-untyped-def]
    """How often each action is picked."""
    for i in range(len(lots)):
        counts[pick_valid(mask, lots[i])] += 1


@pytest.mark.parametrize("valid", [(0,), (0, 6), (0, 2, 3), tuple(range(7))])
def test_lots_fall_on_each_valid_action_as_often_as_on_any_other(valid):
    mask, counts = np.zeros(7, np.bool_), np.zeros(7, np.int64)
    mask[list(valid)] = True
    lots = np.linspace(0, 2**32 - 1, 2_100).astype(np.uint32)
    picks(mask, lots, counts)
    assert counts[list(valid)].tolist() == [2_100 // len(valid)] * len(valid)
    assert counts.sum() == len(lots)


def test_no_episodes_give_no_summaries_and_unknown_ones_are_refused():
    chance, config = np.random.default_rng(0), TradingConfig()
    assert play(UNIVERSE, Script(Rule.ANY), config, [], chance).summaries == ()
    for episodes in ([-1], [0, len(UNIVERSE)]):
        with pytest.raises(IndexError, match=f"0 to {len(UNIVERSE) - 1}"):
            play(UNIVERSE, Script(Rule.ACTION, (Action.HOLD,)), config, episodes, chance)
