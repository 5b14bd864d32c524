"""Intervals whose unit is a Kalshi event, because markets of one event are near copies.

The cluster bootstrap resamples events, then the markets inside each drawn event.
Source: Davison and Hinkley 1997, section 3.8 (hierarchical data); `docs/EVALUATION.md`,
"Statistics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# One block of resamples and what it takes to draw it stay under about 64 MiB.
_BLOCK_WEIGHTS = 1 << 20


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def cluster_weights(
    cluster: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Draw clusters with replacement, then members of each drawn cluster with replacement.

    Args:
        cluster: `[n]` the cluster of each member, numbered 0 .. c - 1, none empty.
        resamples: how many resamples in all.
        rng: the only source of chance.

    Yields:
        `[b, n]` how often each member was drawn in each of b resamples; b sums to `resamples`.
    """
    members = np.argsort(cluster, kind="stable")
    size = np.bincount(cluster)
    first = np.concatenate(([0], np.cumsum(size)[:-1]))
    clusters, n = len(size), len(cluster)
    block = max(1, _BLOCK_WEIGHTS // n)
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(b, clusters))
        draws = size[drawn]
        owner = np.repeat(drawn.ravel(), draws.ravel())
        resample = np.repeat(np.arange(b), draws.sum(axis=1))
        member = members[first[owner] + rng.integers(size[owner])]
        counts = np.bincount(resample * n + member, minlength=b * n)
        yield counts.reshape(b, n).astype(np.float64)


def cluster_means(
    values: NDArray[np.float64],
    cluster: NDArray[np.int64],
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Bootstrap the mean over clusters of a cluster's total.

    Every column sees the same draws, so the difference of two columns is a paired comparison.

    Args:
        values: `[n, k]` one row a member, one column a quantity.
        cluster: `[n]` the cluster of each member, numbered 0 .. c - 1.
        resamples: how many.
        rng: the only source of chance.

    Returns:
        `[resamples, k]` the mean in each resample.
    """
    clusters = int(cluster.max()) + 1
    blocks = [weights @ values for weights in cluster_weights(cluster, resamples, rng)]
    means: NDArray[np.float64] = np.concatenate(blocks) / clusters
    return means


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[...]` mean over the last axis, a quarter of the values cut off either end."""
    count = values.shape[-1]
    cut = count // 4
    middle: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : count - cut]
    return np.asarray(middle.mean(axis=-1))


def crossed_bootstrap(
    values: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw clusters and, independently of them, seeds with replacement.

    A drawn seed brings its figure on every drawn cluster, for a lucky training is lucky on all.

    Args:
        values: `[c, s]` total of each cluster under each seed.
        resamples: how many.
        rng: the only source of chance.

    Returns:
        `[resamples]` the mean and the interquartile mean over clusters x seeds of each resample.

    Source: Agarwal et al. 2021, section 4.1, with the tasks resampled too.
    """
    clusters, seeds = values.shape
    means, iqms = np.zeros(resamples), np.zeros(resamples)
    block = max(1, _BLOCK_WEIGHTS // values.size)
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(b, clusters))
        lucky = rng.integers(seeds, size=(b, seeds))
        drawn_values = values[drawn[:, :, None], lucky[:, None, :]].reshape(b, -1)
        means[start : start + b] = drawn_values.mean(axis=1)
        iqms[start : start + b] = interquartile_mean(drawn_values)
    return means, iqms


def percentile_interval(samples: NDArray[np.float64], confidence: float) -> Interval:
    """The percentile bootstrap interval of one quantity, `[resamples]`."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(samples, (tail, 1.0 - tail))
    return Interval(float(low), float(high))


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Wilson's score interval for a share; `trials` must be positive."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def smallest_detectable_effect(
    deviation: float, units: int, confidence: float, power: float = 0.8
) -> float:
    """The true mean that a two-sided test on `units` would find with probability `power`.

    Args:
        deviation: standard deviation of one unit, in any unit of measure.
        units: number of independent units.
        confidence: of the test, 0.95 for a level of 5 %.
        power: probability of finding it.

    Returns:
        The effect, in the unit of `deviation`. Normal approximation: 0.2 deviations take 197 units.
    """
    from scipy.stats import norm

    quantiles = norm.ppf(0.5 + confidence / 2.0) + norm.ppf(power)
    return float(quantiles * deviation / math.sqrt(units))


def sharpe_per_unit(values: NDArray[np.float64]) -> float | None:
    """Mean over standard deviation of the units, `[n]`; not annualised, None if all are equal."""
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    return float(np.mean(values)) / deviation if deviation > 0 else None


def sharpe_deviation(ratio: float, skewness: float, kurtosis: float, units: int) -> float:
    """Standard error of a Sharpe ratio per unit, allowing for skewness and fat tails.

    Args:
        ratio: the Sharpe ratio.
        skewness: of the units.
        kurtosis: of the units, 3 for a normal variable.
        units: how many.

    Source: Bailey and Lopez de Prado 2012, "The Sharpe ratio efficient frontier", equation 4.
    """
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return math.sqrt(max(0.0, variance) / (units - 1))


def sharpe_interval(values: NDArray[np.float64], confidence: float) -> Interval | None:
    """Interval of the Sharpe ratio per unit of `[n]` units; None where the ratio is."""
    from scipy.stats import kurtosis, norm, skew

    ratio = sharpe_per_unit(values)
    if ratio is None:
        return None
    fatness = float(kurtosis(values, fisher=False))
    deviation = sharpe_deviation(ratio, float(skew(values)), fatness, len(values))
    reach = float(norm.ppf(0.5 + confidence / 2.0)) * deviation
    return Interval(ratio - reach, ratio + reach)
