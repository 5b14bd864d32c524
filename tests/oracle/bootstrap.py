"""The cluster bootstrap of a tiny data set, every possible resample weighed exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np


def exact_cluster_bootstrap(clusters: Sequence[Sequence[int]]) -> dict[Fraction, Fraction]:
    """Mean over drawn clusters of a cluster's total -> its probability.

    Rule: draw as many clusters as there are, with replacement; each brings all its members.
    """
    distribution: dict[Fraction, Fraction] = defaultdict(Fraction)
    each = Fraction(1, len(clusters) ** len(clusters))
    for drawn in product(clusters, repeat=len(clusters)):
        distribution[Fraction(sum(map(sum, drawn)), len(clusters))] += each
    return dict(distribution)


def two_stage_means(
    values: np.ndarray, cluster: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """`[resamples, k]` of the rule we do not follow: markets are drawn anew inside drawn events."""
    clusters = int(cluster.max()) + 1
    members = [np.flatnonzero(cluster == c) for c in range(clusters)]
    means = np.empty((resamples, values.shape[1]))
    for resample in range(resamples):
        drawn = [members[c] for c in rng.integers(clusters, size=clusters)]
        rows = np.concatenate([rng.choice(inside, len(inside)) for inside in drawn])
        means[resample] = values[rows].sum(axis=0) / clusters
    return means
