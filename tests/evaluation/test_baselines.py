"""What the policies without skill do on a given observation."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform
from kalshi_pipeline.feature_table import COLUMN, OBSERVATION_WIDTH
from kalshi_pipeline.trading.actions import Action

RNG = np.random.default_rng(0)
ALL = np.ones((1, len(Action)), dtype=np.bool_)


def observation(**columns: float) -> np.ndarray:
    seen = np.zeros((1, OBSERVATION_WIDTH), dtype=np.float32)
    quiet = {"best_bid": 0.40, "best_ask": 0.44, "mid": 0.42, "buy_distance": -1.0}
    for name, value in {**quiet, "sell_distance": -1.0, **columns}.items():
        seen[0, COLUMN[name]] = value
    return seen


def quote(mask: np.ndarray = ALL, **columns: float) -> Action:
    return Action(PassiveTwoSided().act(observation(**columns), mask, RNG)[0])


AT_BID, AT_ASK = {"buy_distance": 0.04}, {"sell_distance": 0.04}


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        ({}, Action.BUY_PASSIVE),
        (AT_BID, Action.SELL_PASSIVE),
        (AT_ASK, Action.BUY_PASSIVE),
        ({**AT_BID, **AT_ASK}, Action.HOLD),
        ({"inventory": 0.1}, Action.SELL_PASSIVE),  # reduces first
        ({"inventory": 0.1, **AT_ASK}, Action.BUY_PASSIVE),
        ({"inventory": -0.1}, Action.BUY_PASSIVE),
        ({"buy_distance": 0.06, **AT_ASK}, Action.BUY_PASSIVE),  # left behind by the touch
    ],
)
def test_the_quoter_keeps_both_sides_at_the_touch(
    columns: dict[str, float], action: Action
) -> None:
    assert quote(**columns) is action


def test_the_quoter_holds_where_neither_side_is_valid() -> None:
    only_hold = np.zeros((1, len(Action)), dtype=np.bool_)
    only_hold[0, Action.HOLD] = True
    assert quote(only_hold) is Action.HOLD


def test_random_is_uniform_over_valid_actions() -> None:
    mask = np.zeros((6_000, len(Action)), dtype=np.bool_)
    mask[:, [Action.HOLD, Action.BUY_BEST, Action.SELL_PASSIVE]] = True
    seen = np.zeros((len(mask), OBSERVATION_WIDTH), dtype=np.float32)
    counts = np.bincount(RandomUniform().act(seen, mask, RNG), minlength=len(Action))
    assert counts[~mask[0]].sum() == 0
    assert np.allclose(counts[mask[0]] / len(mask), 1 / 3, atol=0.03)


def test_always_falls_back_to_hold() -> None:
    mask = np.repeat(ALL, 2, axis=0)
    mask[1, Action.SELL_BEST] = False
    seen = np.repeat(observation(), 2, axis=0)
    assert Always(Action.SELL_BEST).act(seen, mask, RNG).tolist() == [
        Action.SELL_BEST,
        Action.HOLD,
    ]
