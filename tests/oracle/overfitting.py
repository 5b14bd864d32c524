"""Combinatorially symmetric cross-validation, split after split, on the units themselves."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean, stdev

import numpy as np


def pbo(matrix: np.ndarray, blocks: int) -> float:
    """Share of splits whose best trial inside is below the median outside; at it counts half."""
    edges = [round(i * len(matrix) / blocks) for i in range(blocks + 1)]
    block_of = [b for b in range(blocks) for _ in range(edges[b], edges[b + 1])]
    halves = list(combinations(range(blocks), blocks // 2))
    total = 0.0
    for half in halves:
        inside = [u for u, b in enumerate(block_of) if b in half]
        outside = [u for u, b in enumerate(block_of) if b not in half]
        scores = [_sharpe(matrix[inside, trial]) for trial in range(matrix.shape[1])]
        best = scores.index(max(scores))
        rest = [_sharpe(matrix[outside, trial]) for trial in range(matrix.shape[1])]
        worse = sum(score < rest[best] for score in rest)
        better = sum(score > rest[best] for score in rest)
        total += 1.0 if worse < better else 0.5 if worse == better else 0.0
    return total / len(halves)


def _sharpe(values: np.ndarray) -> float:
    deviation = stdev(values.tolist())
    return fmean(values.tolist()) / deviation if deviation else 0.0
