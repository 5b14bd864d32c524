"""Whether picking the best trial picks skill: the probability of backtest overfitting.

pbo(matrix, blocks=16) -> Overfitting | None
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELLS = 1 << 20  # splits x trials looked at together


class Overfitting(NamedTuple):
    """What the splits said.

    Args:
        probability: share of splits whose best trial is below the median of the rest; above 0.5
            picking the best does harm. A trial exactly at the median counts half.
        splits: how many there were.
        trials: columns of the matrix.
    """

    probability: float
    splits: int
    trials: int


def pbo(matrix: NDArray[np.float64], blocks: int = 16) -> Overfitting | None:
    """Combinatorially symmetric cross-validation of choosing by Sharpe ratio per unit.

    The units are cut into blocks in their order; every half of the blocks chooses a trial, which is
    then ranked among all trials on the other half.

    Args:
        matrix: `[units, trials]` total of each unit under each trial, units in order of time.
        blocks: even; 16 give 12,870 splits.

    Returns:
        None below two trials or `blocks` units.

    Source: Bailey, Borwein, Lopez de Prado and Zhu 2017, "The probability of backtest overfitting",
    section 2.
    """
    units, trials = matrix.shape
    if trials < 2 or units < blocks:
        return None
    table = _Blocks(matrix, blocks)
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(chosen), blocks))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    at_once = max(1, _CELLS // trials)
    beaten = sum(
        _below_median(table, inside[start : start + at_once])
        for start in range(0, len(inside), at_once)
    )
    return Overfitting(beaten / len(inside), len(inside), trials)


class _Blocks:
    """Sums by block, about each trial's mean so that squares of large totals lose no digits."""

    def __init__(self, matrix: NDArray[np.float64], blocks: int) -> None:
        edges = np.linspace(0, len(matrix), blocks + 1).round().astype(np.int64)
        self._mean = matrix.mean(axis=0)
        apart = matrix - self._mean
        self._units = np.diff(edges).astype(np.float64)
        self._sums = np.add.reduceat(apart, edges[:-1], axis=0)
        self._squares = np.add.reduceat(apart**2, edges[:-1], axis=0)
        # who never varies, as Hold, is divided by next to nothing and not by nothing
        self._least = 1e-9 * max(float(np.abs(matrix).max()), 1.0)

    def sharpe(self, inside: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[splits, trials]` on the blocks that are 1 in `[splits, blocks]`."""
        units = (inside @ self._units)[:, None]
        sums = inside @ self._sums
        variance = (inside @ self._squares - sums**2 / units) / (units - 1.0)
        deviation = np.sqrt(np.maximum(variance, self._least**2))
        ratio: NDArray[np.float64] = (self._mean + sums / units) / deviation
        return ratio


def _below_median(table: _Blocks, inside: NDArray[np.float64]) -> float:
    best = np.argmax(table.sharpe(inside), axis=1)[:, None]
    outside = table.sharpe(1.0 - inside)
    of_best = np.take_along_axis(outside, best, axis=1)
    worse, better = np.sum(outside < of_best, axis=1), np.sum(outside > of_best, axis=1)
    return float(np.sum(worse < better) + 0.5 * np.sum(worse == better))
