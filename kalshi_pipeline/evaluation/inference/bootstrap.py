"""Intervals by the cluster bootstrap: events are drawn whole.

Markets of one event are near copies, or exclude one another. A drawn event brings all its markets:
drawing markets anew inside it as well adds their variance a second time, and a 95 % interval then
covers 98 to 100 % where markets of an event are independent or exclusive (measured:
`docs/EVALUATION.md`, "Calibration"). Source: Davison and Hinkley 1997, section 3.8, first strategy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# One block of resamples and what it takes to draw it stay under about 64 MiB.
_BLOCK_WEIGHTS = 1 << 20


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def cluster_totals(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """`[c, k]` sums of `values` `[n, k]` over the members of each cluster, numbered 0 .. c - 1."""
    totals = np.zeros((int(cluster.max()) + 1, values.shape[1]))
    np.add.at(totals, cluster, values)
    return totals


def cluster_counts(
    clusters: int, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Draw clusters with replacement.

    Args:
        clusters: c.
        resamples: how many resamples in all.
        rng: the only source of chance.

    Yields:
        `[b, c]` how often each cluster was drawn in each of b resamples; b sums to `resamples`.
    """
    block = max(1, _BLOCK_WEIGHTS // clusters)
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(b, clusters)) + np.arange(b)[:, None] * clusters
        counts = np.bincount(drawn.ravel(), minlength=b * clusters)
        yield counts.reshape(b, clusters).astype(np.float64)


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
    totals = cluster_totals(values, cluster)
    blocks = [counts @ totals for counts in cluster_counts(len(totals), resamples, rng)]
    means: NDArray[np.float64] = np.concatenate(blocks) / len(totals)
    return means


def jackknife_means(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[c, ...]` mean of the other clusters' totals, for each cluster left out."""
    means: NDArray[np.float64] = (totals.sum(axis=0) - totals) / (len(totals) - 1)
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


def percentile_interval(
    samples: NDArray[np.float64], confidence: float, units: int | None = None
) -> Interval:
    """The percentile bootstrap interval of one quantity.

    Args:
        samples: `[resamples]`.
        confidence: 0.95 for 95 %.
        units: how many units were drawn from; widens the interval by what few units cost. At 30
            units the plain interval is 5 % too short. None for the plain one.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", expanded percentiles.
    """
    tail = _tail(confidence, units)
    low, high = np.quantile(samples, (tail, 1.0 - tail))
    return Interval(float(low), float(high))


def bca_interval(
    samples: NDArray[np.float64],
    estimate: float,
    jackknife: NDArray[np.float64],
    confidence: float,
    units: int | None = None,
) -> Interval:
    """The bias-corrected and accelerated interval of one quantity, which follows its skewness.

    Args:
        samples: `[resamples]`.
        estimate: on the data as they are.
        jackknife: `[c]` the estimate with each cluster left out.
        confidence: 0.95 for 95 %.
        units: as of `percentile_interval`.

    Source: Efron and Tibshirani 1993, section 14.3; the jackknife over clusters.
    """
    from scipy.stats import norm

    below = np.mean(samples < estimate) + 0.5 * np.mean(samples == estimate)
    least = 0.5 / len(samples)
    bias = float(norm.ppf(np.clip(below, least, 1.0 - least)))
    apart = jackknife.mean() - jackknife
    spread = float(np.sum(apart**2))
    acceleration = float(np.sum(apart**3)) / (6.0 * spread**1.5) if spread > 0 else 0.0
    reach = float(norm.ppf(_tail(confidence, units)))
    ends = np.array((bias + reach, bias - reach))
    shares = norm.cdf(bias + ends / np.maximum(1.0 - acceleration * ends, least))
    low, high = np.quantile(samples, shares)
    return Interval(float(low), float(high))


@cache
def _tail(confidence: float, units: int | None) -> float:
    tail = (1.0 - confidence) / 2.0
    if units is None:
        return tail
    from scipy.stats import norm, t

    return float(norm.cdf(math.sqrt(units / (units - 1)) * t.ppf(tail, units - 1)))
