"""The market sampler: mixes, prefers busy markets at first, forgets none, resumes exactly."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import NoSuitableMarket
from kalshi_pipeline.learning.curriculum import TIERS, MarketSampler
from kalshi_pipeline.trading.tape import Episode, Universe


def universe_of(tiers: list[str], segments: int = 1) -> Universe:
    """Only names: the sampler never looks at a tape."""
    episodes = tuple(
        Episode(1, f"M{market}", f"E{market}", segment, 0, 1, 50, tier, settles=False)
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


def test_an_empty_universe_is_refused_with_its_counts() -> None:
    with pytest.raises(NoSuitableMarket, match="0 episodes in 0 markets"):
        sampler_of([])
