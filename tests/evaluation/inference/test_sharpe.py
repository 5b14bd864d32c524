"""Sharpe ratios, against published numbers and what choosing the best of many does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from kalshi_pipeline.evaluation.inference import (
    deflated_sharpe,
    effective_trials,
    expected_best_sharpe,
    psr,
    sharpe_deviation,
    sharpe_interval,
    sharpe_per_unit,
)


def test_sharpe_of_equal_units_has_no_meaning() -> None:
    assert sharpe_per_unit(np.zeros(40)) is None
    assert sharpe_interval(np.zeros(40), 0.95) is None
    assert sharpe_per_unit(np.array([1.0])) is None
    assert psr(np.ones(40)) is None
    assert deflated_sharpe(np.ones(40), 10) is None
    assert deflated_sharpe(np.ones(1), 10) is None


def test_sharpe_interval_of_a_two_point_sample_is_finite() -> None:
    interval = sharpe_interval(np.array([0.0, 1.0] * 20), 0.95)
    assert interval is not None
    assert np.all(np.isfinite(interval))


def test_the_worked_example_of_skewed_fat_units() -> None:
    # n = 100, SR 0.25, skew -1, kurtosis 8: PSR 0.984; DSR 0.78 at N = 10 and 0.59 at N = 45 follow
    # where the Sharpe ratios of the trials vary as those of trials without skill: 1 / sqrt(n - 1)
    deviation = sharpe_deviation(0.25, -1.0, 8.0, 100)
    null = 1 / math.sqrt(99)
    found = [
        norm.cdf((0.25 - expected_best_sharpe(trials, null)) / deviation) for trials in (1, 10, 45)
    ]
    assert [round(found[0], 3), *(round(value, 2) for value in found[1:])] == [0.984, 0.78, 0.59]
    # the two errors of the web: excess kurtosis; no deviation of the trials
    excess = sharpe_deviation(0.25, -1.0, 5.0, 100)
    assert round(norm.cdf(0.25 / excess), 3) != 0.984
    assert norm.cdf((0.25 - expected_best_sharpe(10, 1.0)) / deviation) < 1e-9


def units(ratio: float, count: int = 100) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=count)
    return (noise - noise.mean()) / noise.std(ddof=1) + ratio


def test_psr_is_how_likely_the_true_ratio_is_above_the_benchmark() -> None:
    assert psr(units(0.0)) == pytest.approx(0.5)
    assert psr(units(0.2)) > psr(units(0.2), benchmark=0.1) > psr(units(0.2), benchmark=0.3)
    assert psr(units(0.2), benchmark=0.2) == pytest.approx(0.5)


def test_units_of_two_values_leave_a_probability() -> None:
    # ratio = 2 / skewness: the formula's variance is 0 up to rounding
    two = np.array([0.0] * 36 + [1.0] * 4)
    skewness = 0.8 / 0.3
    two += 2 / skewness * two.std(ddof=1) - two.mean()
    assert sharpe_deviation(2 / skewness, skewness, 1 + skewness**2, 40) < 1e-6
    found = psr(two, benchmark=0.1)
    assert found is not None
    assert 0.0 <= found <= 1.0


def test_more_trials_deflate_more_and_one_does_not() -> None:
    values = units(0.3)
    by_trials = [deflated_sharpe(values, trials) for trials in (1, 2, 10, 100, 1_000)]
    assert by_trials[0] == psr(values)
    assert by_trials == sorted(by_trials, reverse=True)
    assert deflated_sharpe(values, 10, 0.0) == psr(values)
    assert deflated_sharpe(values, 10) == deflated_sharpe(values, 10, 1 / math.sqrt(99))
    # few effective trials never raise the benchmark below 0
    assert deflated_sharpe(values, 1.05) <= psr(values)


@pytest.mark.parametrize("trials", [10, 45, 500])
def test_the_best_of_so_many_is_expected_where_it_is_found(trials: int) -> None:
    best = np.random.default_rng(2).normal(size=(8_000, trials)).max(axis=1).mean()
    assert expected_best_sharpe(trials, 1.0) == pytest.approx(best, rel=0.03)


def test_effective_trials_count_copies_once_and_strangers_fully() -> None:
    rng = np.random.default_rng(3)
    strangers = rng.normal(size=(2_000, 10))
    assert effective_trials(strangers) == pytest.approx(10, abs=0.2)
    assert effective_trials(np.repeat(strangers[:, :1], 10, axis=1)) == pytest.approx(1.0)
    assert effective_trials(strangers[:, :1]) == 1.0
    common = rng.normal(size=(2_000, 1))
    assert effective_trials(strangers + common) == pytest.approx(0.5 + 0.5 * 10, abs=0.3)
    # who never trades is like nobody, opposites are no fewer than two
    assert effective_trials(np.hstack([common, np.zeros((2_000, 2))])) == 3.0
    assert effective_trials(np.hstack([common, -common])) == 2.0


def test_effective_trials_use_the_mean_correlation() -> None:
    values = np.random.default_rng(4).normal(size=(50, 6)) @ np.random.default_rng(5).normal(
        size=(6, 6)
    )
    pairs = np.corrcoef(values.T)[np.triu_indices(6, 1)]
    mean = max(0.0, pairs.mean())
    assert effective_trials(values + 7.0) == pytest.approx(mean + (1 - mean) * 6)
