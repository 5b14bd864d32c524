"""Tests of paired differences, and what testing many of them does.

sign_flip_test(differences, resamples, rng) -> p-values, [k]
holm(p_values) -> adjusted p-values, [k]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# All sign patterns of so many units are tried (65,536); above it chance draws them.
_EXACT_UNITS = 16
_BLOCK_SIGNS = 1 << 20
# Sums of the same numbers in another order differ by less; money is in whole micro-dollars.
_ROUNDING = 1e-9


def sign_flip_test(
    differences: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Two-sided permutation test of the mean of paired differences being 0.

    Under the null a unit's difference is as likely to have the other sign. Exact where at most 16
    units differ in a column, otherwise by Monte Carlo, every column under the same flips.

    Args:
        differences: `[units, k]` policy minus baseline, one column a baseline.
        resamples: how many patterns are drawn where not all are tried.
        rng: the only source of chance.

    Returns:
        `[k]` p-values; 1 where nothing differs. The Monte Carlo ones are at least
        1 / (resamples + 1): the pattern seen is one of them.

    Source: Good 2005, "Permutation, parametric and bootstrap tests", section 3.2; Phipson and Smyth
    2010 for counting the pattern that was seen.
    """
    p_values = np.ones(differences.shape[1])
    differing = np.count_nonzero(differences, axis=0)
    for column in np.flatnonzero((differing > 0) & (differing <= _EXACT_UNITS)):
        values = differences[differences[:, column] != 0, column][:, None]
        p_values[column] = _exceeding(values, _all_signs(len(values)))[0] / 2 ** len(values)
    many = np.flatnonzero(differing > _EXACT_UNITS)
    if len(many):
        signs = _drawn_signs(len(differences), resamples, rng)
        p_values[many] = (1 + _exceeding(differences[:, many], signs)) / (1 + resamples)
    return p_values


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjustment: below a level, the family of tests errs at most that often.

    Args:
        p_values: `[k]`.

    Returns:
        `[k]` adjusted, at most 1.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def _exceeding(
    values: NDArray[np.float64], patterns: Iterator[NDArray[np.float64]]
) -> NDArray[np.int64]:
    """`[k]` patterns under which the sum is at least as far from 0 as it is."""
    seen = np.abs(values.sum(axis=0)) - _ROUNDING * np.abs(values).sum(axis=0)
    counts = [np.sum(np.abs(signs @ values) >= seen, axis=0) for signs in patterns]
    return np.asarray(np.sum(counts, axis=0))


def _all_signs(units: int) -> Iterator[NDArray[np.float64]]:
    patterns = np.arange(2**units)[:, None] >> np.arange(units) & 1
    yield (1 - 2 * patterns).astype(np.float64)


def _drawn_signs(
    units: int, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    block = max(1, _BLOCK_SIGNS // units)
    for start in range(0, resamples, block):
        b = min(block, resamples - start)
        yield (1 - 2 * rng.integers(2, size=(b, units))).astype(np.float64)
