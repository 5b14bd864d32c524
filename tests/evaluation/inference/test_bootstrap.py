"""Resamples against exact enumeration, intervals against scipy's."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t, trim_mean

from kalshi_pipeline.evaluation import inference
from kalshi_pipeline.evaluation.inference import bootstrap
from tests.oracle.bootstrap import exact_cluster_bootstrap


def test_resamples_follow_the_exact_distribution() -> None:
    clusters = [[5, -1], [2], [-3, 4]]
    expected = exact_cluster_bootstrap(clusters)
    values = np.array([float(v) for cluster in clusters for v in cluster])
    cluster = np.array([0, 0, 1, 2, 2])
    means = inference.cluster_means(values[:, None], cluster, 60_000, np.random.default_rng(1))
    for mean, probability in expected.items():
        share = np.mean(np.isclose(means[:, 0], float(mean)))
        assert share == pytest.approx(float(probability), abs=0.01)
    assert sum(expected.values()) == 1


@given(clusters=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_as_many_clusters_are_drawn_as_there_are(clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.concatenate(list(inference.cluster_counts(clusters, 20, rng)))
    assert counts.shape == (20, clusters)
    assert np.all(counts.sum(axis=1) == clusters)


def test_blocks_add_up_to_the_resamples_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK_WEIGHTS", 30)
    blocks = list(inference.cluster_counts(10, 7, np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [3, 3, 1]


def test_members_in_any_order_make_the_same_totals() -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(9), rng.integers(1, 6, 9))
    values = rng.normal(size=(len(cluster), 2))
    shuffled = rng.permutation(len(cluster))
    totals = inference.cluster_totals(values[shuffled], cluster[shuffled])
    expected = [[values[cluster == c, k].sum() for k in range(2)] for c in range(9)]
    np.testing.assert_allclose(totals, expected)


def test_columns_see_the_same_draws() -> None:
    values = np.random.default_rng(3).normal(size=(40, 1))
    means = inference.cluster_means(
        np.hstack([values, values + 1.0]), np.arange(40), 200, np.random.default_rng(4)
    )
    assert np.allclose(means[:, 1] - means[:, 0], 1.0)


@pytest.mark.parametrize("shape", ["normal", "exponential", "few values"])
def test_both_intervals_are_those_of_scipy(shape: str) -> None:
    rng = np.random.default_rng(5)
    draw = {
        "normal": lambda: rng.normal(size=60),
        "exponential": lambda: rng.exponential(size=60) ** 1.5,
        "few values": lambda: rng.choice([-2.0, 0.0, 0.0, 5.0], size=60),
    }
    values = draw[shape]()
    means = inference.cluster_means(values[:, None], np.arange(60), 60_000, rng)[:, 0]
    jackknife = inference.jackknife_means(values)
    ours = {
        "percentile": inference.percentile_interval(means, 0.95),
        "BCa": inference.bca_interval(means, values.mean(), jackknife, 0.95),
    }
    for method, interval in ours.items():
        theirs = scipy_bootstrap(
            (values,), np.mean, n_resamples=60_000, method=method, batch=10_000, rng=rng
        ).confidence_interval
        width = theirs.high - theirs.low
        assert interval == pytest.approx(tuple(theirs), abs=0.03 * width), method
    skewed = abs(ours["BCa"].low - ours["percentile"].low) > 0.02 * width
    assert skewed == (shape != "normal")


def test_the_jackknife_leaves_one_out_at_a_time() -> None:
    values = np.random.default_rng(6).normal(size=(7, 2))
    expected = [np.delete(values, c, axis=0).mean(axis=0) for c in range(7)]
    np.testing.assert_allclose(inference.jackknife_means(values), expected)


def test_what_never_varies_has_an_interval_of_one_point() -> None:
    samples, jackknife = np.zeros(500), np.zeros(40)
    assert inference.percentile_interval(samples, 0.95, 40) == (0.0, 0.0)
    assert inference.bca_interval(samples, 0.0, jackknife, 0.95, 40) == (0.0, 0.0)


def test_few_units_widen_the_interval_as_student_would() -> None:
    samples = norm.ppf((np.arange(200_000) + 0.5) / 200_000)  # a mean of n units of variance n - 1
    for units in (30, 100, 10_000):
        low, high = inference.percentile_interval(samples, 0.95, units)
        student = t.ppf(0.975, units - 1) * np.sqrt(units / (units - 1))
        assert (low, high) == pytest.approx((-student, student), rel=1e-3)
    plain = inference.percentile_interval(samples, 0.95)
    assert plain == pytest.approx((-1.96, 1.96), abs=1e-3)


def test_seeds_and_clusters_are_drawn_apart() -> None:
    values = np.array([[1.0, 5.0], [2.0, 9.0], [-4.0, 0.0]])
    expected: dict[float, float] = {}
    for clusters in product(range(3), repeat=3):
        for seeds in product(range(2), repeat=2):
            mean = float(np.mean([values[c, s] for c in clusters for s in seeds]))
            expected[mean] = expected.get(mean, 0.0) + 1 / (27 * 4)
    means, iqms = inference.crossed_bootstrap(values, 60_000, np.random.default_rng(1))
    for mean, probability in expected.items():
        assert np.mean(np.isclose(means, mean)) == pytest.approx(probability, abs=0.01)
    assert sum(np.isclose(means, mean).sum() for mean in expected) >= 60_000
    assert iqms.std() > 0


def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy() -> None:
    values = np.random.default_rng(2).normal(size=(5, 23))
    ours = inference.interquartile_mean(values)
    np.testing.assert_allclose(ours, trim_mean(values, 0.25, axis=1))


def test_an_interval_over_seeds_covers_what_the_method_does_and_one_seed_alone_does_not() -> None:
    # 60 events; a training is lucky on all of them, by as much as an event varies; true mean 0
    rng = np.random.default_rng(6)
    covered, alone = 0, 0
    for _ in range(200):
        values = rng.normal(size=(60, 8)) + rng.normal(size=8)
        means, _ = inference.crossed_bootstrap(values, 300, rng)
        low, high = inference.percentile_interval(means, 0.95, 8)
        covered += low <= 0 <= high
        one = inference.cluster_means(values[:, :1], np.arange(60), 300, rng)[:, 0]
        low, high = inference.percentile_interval(one, 0.95)
        alone += low <= 0 <= high
    assert covered / 200 > 0.92
    assert alone / 200 < 0.4
