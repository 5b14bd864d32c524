"""The market sampler: mixes, prefers busy markets at first, forgets none, resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import IncompatibleCheckpoint, NoSuitableMarket
from kalshi_pipeline.learning.curriculum import TIERS, MarketSampler
from kalshi_pipeline.trading.tape import Episode, Universe
from tests.learning.test_diagnostics import summary

PATTERNS = ("front-loaded", "mid-peak", "back-loaded", "even")


def universe_of(tiers: list[str], segments: int = 1, patterns: Sequence[str] = ()) -> Universe:
    """Only names: the sampler never looks at a tape."""
    patterns = patterns or ["even"] * len(tiers)
    episodes = tuple(
        Episode(
            1,
            f"M{market}",
            f"E{market}",
            segment,
            0,
            1,
            50,
            tier,
            settles=False,
            pattern=patterns[market],
        )
        for market, tier in enumerate(tiers)
        for segment in range(segments)
    )
    return cast(Universe, SimpleNamespace(episodes=episodes))


def sampler_of(
    tiers: list[str], segments: int = 1, *, curriculum: bool = True, seed: int = 0
) -> MarketSampler:
    rng = np.random.default_rng(seed)
    return MarketSampler(universe_of(tiers, segments), rng, curriculum=curriculum)


tier_lists = st.lists(st.sampled_from(sorted(TIERS)), min_size=1, max_size=30)


@settings(max_examples=60)
@given(tier_lists, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_no_market_is_left_out_longer_than_its_weight_allows(
    tiers: list[str], seed: int, progress: float
) -> None:
    sampler = sampler_of(tiers, seed=seed)
    sampler.progress = progress
    # credit of the poorest market never falls below -1 and grows by its weight a draw; until it is
    # the richest, at most the other markets can be richer
    patience = int(np.ceil((len(tiers) + 2) / sampler.weights.min()))
    sampler.draw(patience)
    assert sampler.counts.min() >= 1


@settings(max_examples=60)
@given(tier_lists, st.integers(0, 2**32 - 1))
def test_draws_follow_the_weights_within_a_market_a_time(tiers: list[str], seed: int) -> None:
    sampler = sampler_of(tiers, seed=seed)
    count = 500
    sampler.draw(count)
    assert sampler.counts.sum() == count
    assert np.abs(sampler.counts - count * sampler.weights).max() <= len(tiers) + 1


def test_a_rollout_of_64_lanes_mixes_markets() -> None:
    sampler = sampler_of(["high"] * 10 + ["medium"] * 20 + ["low"] * 40)
    assert len(set(sampler.draw(64).tolist())) >= 20


def test_busy_markets_come_first_and_all_weigh_the_same_in_the_end() -> None:
    sampler = sampler_of(["high", "medium", "low"])
    weights = []
    for progress in (0.0, 0.2, 0.5, 1.0):
        sampler.progress = progress
        weights.append(sampler.weights)
    assert weights[0][0] > weights[0][1] > weights[0][2] > 0
    shares_of_low = [w[2] for w in weights]
    assert shares_of_low == sorted(shares_of_low)
    np.testing.assert_allclose(weights[-1], 1 / 3)


def test_without_a_curriculum_markets_are_alike_however_many_segments_they_have() -> None:
    sampler = MarketSampler(
        cast(
            Universe,
            SimpleNamespace(
                episodes=universe_of(["high"], 9).episodes
                + tuple(
                    Episode(1, f"L{n}", "E", 0, 0, 1, 50, "low", settles=False) for n in range(4)
                )
            ),
        ),
        np.random.default_rng(1),
        curriculum=False,
    )
    sampler.draw(500)
    np.testing.assert_array_equal(sampler.counts, 100)


def test_the_same_ticker_in_two_sessions_is_two_markets() -> None:
    episodes = tuple(
        Episode(session, "M", "E", 0, 0, 1, 50, "high", settles=False) for session in (1, 2)
    )
    universe = cast(Universe, SimpleNamespace(episodes=episodes))
    assert MarketSampler(universe, np.random.default_rng(0)).markets == ((1, "M"), (2, "M"))


def test_every_segment_of_a_market_is_reached() -> None:
    sampler = sampler_of(["low"], segments=5)
    assert set(sampler.draw(200).tolist()) == set(range(5))


def test_a_restored_sampler_continues_as_if_it_had_never_stopped() -> None:
    tiers = ["high", "medium", "low", "low"]
    whole = sampler_of(tiers, 3)
    whole.progress = 0.3
    whole.draw(37)
    state = json.loads(json.dumps(whole.state()))
    resumed = sampler_of(tiers, 3, seed=99)
    resumed.restore(state)
    np.testing.assert_array_equal(resumed.draw(100), whole.draw(100))
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    assert resumed.progress == whole.progress


def test_seeds_differ_and_seed_zero_is_a_seed() -> None:
    tiers = ["high"] * 8
    draws = [sampler_of(tiers, seed=seed).draw(8).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


kinds = st.lists(
    st.tuples(st.sampled_from(sorted(TIERS)), st.sampled_from(PATTERNS)), min_size=1, max_size=40
)


@settings(max_examples=60)
@given(kinds, st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 200))
def test_any_stretch_of_draws_has_the_universes_mix_of_tiers_and_patterns(
    alike: list[tuple[str, str]], seed: int, progress: float, before: int
) -> None:
    tiers, patterns = zip(*alike, strict=True)
    universe = universe_of(list(tiers), patterns=patterns)
    sampler = MarketSampler(universe, np.random.default_rng(seed))
    sampler.progress = progress
    sampler.draw(before)
    drawn = [alike[episode] for episode in sampler.draw(64).tolist()]
    for kind in set(alike):
        members = [market for market, other in enumerate(alike) if other == kind]
        expected = 64 * sampler.weights[members].sum()
        # credits of G groups lie within G of each other, whatever the weights
        assert abs(drawn.count(kind) - expected) <= len(set(alike)) + 1


def test_the_four_patterns_take_turns_however_markets_are_ordered() -> None:
    patterns = [pattern for pattern in PATTERNS for _ in range(25)]
    universe = universe_of(["high"] * 100, patterns=patterns)
    sampler = MarketSampler(universe, np.random.default_rng(0))
    drawn = [patterns[episode] for episode in sampler.draw(100)]
    for first in range(0, 100, 4):
        assert set(drawn[first : first + 4]) == set(PATTERNS)
    plain = MarketSampler(universe, np.random.default_rng(0), curriculum=False)
    drawn = [patterns[episode] for episode in plain.draw(100)]
    assert any(set(drawn[first : first + 4]) != set(PATTERNS) for first in range(0, 100, 4))


@settings(max_examples=60)
@given(tier_lists, st.integers(1, 6), st.integers(0, 2**32 - 1), st.integers(0, 300), st.booleans())
def test_no_segment_comes_again_before_all_others_of_its_market(
    tiers: list[str], segments: int, seed: int, count: int, curriculum: bool
) -> None:
    sampler = sampler_of(tiers, segments, curriculum=curriculum, seed=seed)
    drawn = np.bincount(sampler.draw(count), minlength=len(tiers) * segments)
    by_market = drawn.reshape(len(tiers), segments)
    assert (by_market.max(axis=1) - by_market.min(axis=1) <= 1).all()
    np.testing.assert_array_equal(by_market.sum(axis=1), sampler.counts)


@settings(max_examples=60)
@given(tier_lists, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_every_rollout_mixes_markets_within_their_weights(
    tiers: list[str], seed: int, progress: float
) -> None:
    sampler = sampler_of(tiers, seed=seed)
    sampler.progress = progress
    sampler.draw(100)
    drawn = np.bincount(sampler.draw(64), minlength=len(tiers))
    assert (drawn <= 64 * sampler.weights + len(tiers) + 2).all()
    assert len(np.flatnonzero(drawn)) >= min(2, len(tiers)) or sampler.weights.min() < 1 / 64


def test_markets_remember_how_many_episodes_ended_and_what_they_came_to() -> None:
    sampler = sampler_of(["high", "low", "low"], segments=2)
    sampler.earned([
        summary(1_000_000, episode=0), summary(-500_000, episode=1), summary(250_000, episode=5),
    ])  # fmt: skip
    assert sampler.ended.tolist() == [2, 0, 1]
    assert sampler.returns == {(1, "M0"): 0.25, (1, "M1"): None, (1, "M2"): 0.25}
    resumed = sampler_of(["high", "low", "low"], segments=2, seed=4)
    resumed.restore(json.loads(json.dumps(sampler.state())))
    assert resumed.returns == sampler.returns


def test_a_sampler_over_other_episodes_is_not_continued() -> None:
    state = sampler_of(["high", "low"], segments=2).state()
    for other in (sampler_of(["high", "low"], segments=3), sampler_of(["high"], segments=4)):
        with pytest.raises(IncompatibleCheckpoint):
            other.restore(state)
    with pytest.raises(IncompatibleCheckpoint):
        sampler_of(["high", "low"], segments=2, curriculum=False).restore(state)


def test_an_empty_universe_is_refused_with_its_counts() -> None:
    with pytest.raises(NoSuitableMarket, match="0 episodes in 0 markets"):
        sampler_of([])
