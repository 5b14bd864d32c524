"""Which episodes validate, and when a fallen score is reason to stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig, WatchConfig
from kalshi_pipeline.errors import NoSuitableMarket
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.validation import Validator, drop, fallen, validation_episodes
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from tests.checkpoints import small_checkpoint
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(3), episodes=9, steps=40)
STEPS = np.array([episode.steps for episode in UNIVERSE.episodes])
CONFIG = WatchConfig(validation_min=4, validation_patience=2)


@given(st.integers(1, int(STEPS.sum()) + 5))
def test_as_many_episodes_as_fit_always_the_same_and_never_none(bound: int) -> None:
    chosen = validation_episodes(UNIVERSE, bound)
    np.testing.assert_array_equal(chosen, validation_episodes(UNIVERSE, bound))
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) >= 1
    left = np.setdiff1d(np.arange(len(UNIVERSE)), chosen)
    if len(chosen) > 1:
        assert STEPS[chosen].sum() <= bound
    if len(left) and STEPS[chosen].sum() <= bound:
        assert STEPS[left].min() > bound - STEPS[chosen].sum()


def test_all_episodes_where_there_is_room() -> None:
    np.testing.assert_array_equal(validation_episodes(UNIVERSE, 10**6), np.arange(9))


def test_every_market_comes_before_a_second_segment_of_one() -> None:
    episodes = tuple(
        replace(episode, market=f"M{place % 3}", segment=place, steps=10)
        for place, episode in enumerate(UNIVERSE.episodes)
    )
    universe = Universe(UNIVERSE.tape, episodes)
    chosen = validation_episodes(universe, 30)
    assert {episodes[index].market for index in chosen} == {"M0", "M1", "M2"}


def test_the_score_is_what_the_policy_earns_an_episode_in_the_simulator() -> None:
    policy = NetworkPolicy(small_checkpoint(3))
    validator = Validator(UNIVERSE, TradingConfig(), 150)
    assert 1 < len(validator.episodes) < len(UNIVERSE)
    earned = []
    lane = Simulator(UNIVERSE, 1, TradingConfig())
    for episode in validator.episodes.tolist():
        lane.reset([0], [episode])
        while not (lane.terminated | lane.truncated)[0]:
            lane.step(policy.act(lane.observation, lane.mask, np.random.default_rng(0)))
        earned.append(lane.summary(0).pnl_micro / 1e6)
    assert validator(policy) == pytest.approx(np.mean(earned))
    assert np.std(earned) > 0


def test_nothing_to_validate_on_is_refused() -> None:
    with pytest.raises(NoSuitableMarket, match="validate"):
        Validator(Universe(UNIVERSE.tape, ()), TradingConfig(), 10)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([2.0, 1.0], 0.5),
        ([1.0, 2.0], 0.0),
        ([-1.0, -1.5], 0.5),  # below zero: of the best score's size
        ([0.0, -0.01], 0.1),  # near zero: of the floor, 10 cents
        ([-0.05, -0.1], 0.5),
    ],
)
def test_a_drop_is_a_share_of_the_best_or_of_the_floor(
    scores: list[float], expected: float
) -> None:
    assert drop(scores, 0.1) == pytest.approx(expected)


def test_a_drop_must_last_and_be_late_enough() -> None:
    assert fallen([1.0, 0.2, 0.2], CONFIG) is None  # too early
    assert fallen([1.0, 1.0, 0.8, 0.2], CONFIG) is None  # it has not lasted
    assert fallen([1.0, 1.0, 0.6, 0.5], CONFIG) == pytest.approx(0.5)
    assert fallen([1.0, 0.1, 0.1, 0.75], CONFIG) is None  # it has recovered
    assert fallen([1.0, 0.1, 0.9, 0.2], CONFIG) is None


def test_doing_nothing_at_first_is_no_best_to_fall_from_by_a_cent() -> None:
    assert fallen([0.0, -0.02, -0.01, -0.02, -0.02], CONFIG) is None


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_a_best_score_never_stops(scores: list[float]) -> None:
    assert fallen([*scores, max(scores) + 1], CONFIG) is None


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0.01, 3))
def test_what_stops_lies_below_the_best_by_more_than_allowed(
    scores: list[float], by: float
) -> None:
    config = WatchConfig(validation_min=1, validation_patience=1, validation_drop=by)
    if (fell := fallen(scores, config)) is not None:
        assert fell > by
        assert max(scores) - scores[-1] > by * max(abs(max(scores)), 0.1) * (1 - 1e-9)


def test_every_scored_policy_is_told_what_each_event_came_to_in_the_order_they_end() -> None:
    episodes = tuple(
        replace(episode, event=f"E{place // 3}", end_ms=episode.start_ms + 1_000 * (9 - place))
        for place, episode in enumerate(UNIVERSE.episodes)
    )
    told: list[dict[tuple[int, str], int]] = []
    validator = Validator(
        Universe(UNIVERSE.tape, episodes), TradingConfig(), 10**6,
        lambda _, totals: told.append(dict(totals)),
    )  # fmt: skip
    scores = [validator(NetworkPolicy(small_checkpoint(seed))) for seed in (3, 4)]
    assert len(told) == 2
    last = {e.event: max(o.end_ms for o in episodes if o.event == e.event) for e in episodes}
    for score, totals in zip(scores, told, strict=True):
        assert [event for _, event in totals] == sorted(last, key=lambda event: last[event])
        assert sum(totals.values()) / len(episodes) / 1e6 == pytest.approx(score)
