"""The cluster bootstrap of a tiny data set, every possible resample weighed exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import product


def exact_cluster_bootstrap(clusters: Sequence[Sequence[int]]) -> dict[Fraction, Fraction]:
    """Mean over drawn clusters of the total of drawn members -> its probability.

    Rule: draw as many clusters as there are, with replacement; in each draw, draw as many members
    as the cluster has, with replacement.
    """
    distribution: dict[Fraction, Fraction] = defaultdict(Fraction)
    each = Fraction(1, len(clusters) ** len(clusters))
    for drawn in product(clusters, repeat=len(clusters)):
        for totals in product(*(_totals(cluster) for cluster in drawn)):
            probability = each
            for _, share in totals:
                probability *= share
            distribution[Fraction(sum(total for total, _ in totals), len(clusters))] += probability
    return dict(distribution)


def _totals(cluster: Sequence[int]) -> list[tuple[int, Fraction]]:
    each = Fraction(1, len(cluster) ** len(cluster))
    return [(sum(members), each) for members in product(cluster, repeat=len(cluster))]
