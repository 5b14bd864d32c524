"""The cluster bootstrap of a tiny data set, every possible resample weighed exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import product


def exact_cluster_bootstrap(clusters: Sequence[Sequence[int]]) -> dict[Fraction, Fraction]:
    """Mean over drawn clusters of a cluster's total -> its probability.

    Rule: draw as many clusters as there are, with replacement; each brings all its members.
    """
    distribution: dict[Fraction, Fraction] = defaultdict(Fraction)
    each = Fraction(1, len(clusters) ** len(clusters))
    for drawn in product(clusters, repeat=len(clusters)):
        distribution[Fraction(sum(map(sum, drawn)), len(clusters))] += each
    return dict(distribution)
