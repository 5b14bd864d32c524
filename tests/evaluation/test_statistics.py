"""Intervals: against exact enumeration, against known coverage, against published numbers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, trim_mean

from kalshi_pipeline.evaluation import statistics as stats
from tests.oracle.bootstrap import exact_cluster_bootstrap


def test_resamples_follow_the_exact_distribution() -> None:
    clusters = [[5, -1], [2], [-3, 4]]
    expected = exact_cluster_bootstrap(clusters)
    values = np.array([float(v) for cluster in clusters for v in cluster])
    cluster = np.array([0, 0, 1, 2, 2])
    means = stats.cluster_means(values[:, None], cluster, 60_000, np.random.default_rng(1))[:, 0]
    for mean, probability in expected.items():
        share = np.mean(np.isclose(means, float(mean)))
        assert share == pytest.approx(float(probability), abs=0.01)
    assert sum(expected.values()) == 1


@given(
    cluster=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_a_drawn_cluster_brings_as_many_members_as_it_has(cluster: list[int], seed: int) -> None:
    codes = np.unique(cluster, return_inverse=True)[1]
    sizes = np.bincount(codes)
    rng = np.random.default_rng(seed)
    weights = np.concatenate(list(stats.cluster_weights(codes, 20, rng)))
    assert weights.shape == (20, len(cluster))
    drawn = np.stack([weights[:, codes == c].sum(axis=1) for c in range(len(sizes))], axis=1)
    assert np.all(drawn % sizes == 0)
    assert np.all((drawn / sizes).sum(axis=1) == len(sizes))


def test_blocks_add_up_to_the_resamples_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_BLOCK_WEIGHTS", 30)
    blocks = list(stats.cluster_weights(np.arange(10), 7, np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [3, 3, 1]


def test_seeds_and_clusters_are_drawn_apart() -> None:
    values = np.array([[1.0, 5.0], [2.0, 9.0], [-4.0, 0.0]])
    expected: dict[float, float] = {}
    for clusters in product(range(3), repeat=3):
        for seeds in product(range(2), repeat=2):
            mean = float(np.mean([values[c, s] for c in clusters for s in seeds]))
            expected[mean] = expected.get(mean, 0.0) + 1 / (27 * 4)
    means, iqms = stats.crossed_bootstrap(values, 60_000, np.random.default_rng(1))
    for mean, probability in expected.items():
        assert np.mean(np.isclose(means, mean)) == pytest.approx(probability, abs=0.01)
    assert sum(np.isclose(means, mean).sum() for mean in expected) >= 60_000
    assert iqms.std() > 0


def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy() -> None:
    values = np.random.default_rng(2).normal(size=(5, 23))
    np.testing.assert_allclose(stats.interquartile_mean(values), trim_mean(values, 0.25, axis=1))


def test_an_interval_over_seeds_covers_what_the_method_does_and_one_seed_alone_does_not() -> None:
    # 60 events; a training is lucky on all of them, by as much as an event varies; true mean 0
    rng = np.random.default_rng(6)
    covered, alone = 0, 0
    for _ in range(200):
        values = rng.normal(size=(60, 8)) + rng.normal(size=8)
        means, _ = stats.crossed_bootstrap(values, 300, rng)
        covered += stats.percentile_interval(means, 0.95).low <= 0 <= np.quantile(means, 0.975)
        one = stats.cluster_means(values[:, :1], np.arange(60), 300, rng)[:, 0]
        interval = stats.percentile_interval(one, 0.95)
        alone += interval.low <= 0 <= interval.high
    assert covered / 200 > 0.85
    assert alone / 200 < 0.4


def test_columns_see_the_same_draws() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 1))
    means = stats.cluster_means(
        np.hstack([values, values + 1.0]), np.arange(40), 200, np.random.default_rng(4)
    )
    assert np.allclose(means[:, 1] - means[:, 0], 1.0)


def test_clustering_covers_the_truth_where_counting_markets_does_not() -> None:
    # 40 events of 5 markets, correlation 1/2 inside an event, true mean 0.
    data = np.random.default_rng(5)
    events, markets, runs = 40, 5, 150
    by_event = np.repeat(np.arange(events), markets)
    covered = {"event": 0, "market": 0}
    for run in range(runs):
        common = data.normal(size=(events, 1))
        values = (common + data.normal(size=(events, markets))).reshape(-1, 1)
        for unit, cluster in (("event", by_event), ("market", np.arange(len(values)))):
            means = stats.cluster_means(values, cluster, 300, np.random.default_rng(run))
            low, high = stats.percentile_interval(means[:, 0], 0.95)
            covered[unit] += low <= 0.0 <= high
    assert covered["event"] / runs > 0.90
    assert covered["market"] / runs < 0.80


def test_wilson_of_three_in_three_is_44_to_100_percent() -> None:
    low, high = stats.wilson_interval(3, 3, 0.95)
    assert (round(low, 2), round(high, 2)) == (0.44, 1.0)


@pytest.mark.parametrize(("effect", "units"), [(0.2, 197), (0.3, 88), (0.5, 32)])
def test_units_needed_to_see_an_effect(effect: float, units: int) -> None:
    assert stats.smallest_detectable_effect(1.0, units, 0.95) <= effect
    assert stats.smallest_detectable_effect(1.0, units - 1, 0.95) > effect


def test_sharpe_of_equal_units_has_no_meaning() -> None:
    assert stats.sharpe_per_unit(np.zeros(40)) is None
    assert stats.sharpe_interval(np.zeros(40), 0.95) is None
    assert stats.sharpe_per_unit(np.array([1.0])) is None


def test_sharpe_of_skewed_fat_units_is_less_certain() -> None:
    # 100 units, SR 0.25, skew -1, kurtosis 8: probability 0.984 that the true ratio is above 0.
    deviation = stats.sharpe_deviation(0.25, -1.0, 8.0, 100)
    assert norm.cdf(0.25 / deviation) == pytest.approx(0.984, abs=5e-4)
    assert deviation > stats.sharpe_deviation(0.25, 0.0, 3.0, 100)


def test_sharpe_interval_of_a_two_point_sample_is_finite() -> None:
    interval = stats.sharpe_interval(np.array([0.0, 1.0] * 20), 0.95)
    assert interval is not None
    assert np.all(np.isfinite(interval))
