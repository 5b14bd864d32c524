"""Discount by market time: a step of an hour is not worth what a step of a millisecond is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MS_PER_SECOND = 1_000


def discounts(
    elapsed_ms: NDArray[np.int64], gamma: float, unit_s: float = 0.0
) -> NDArray[np.float64]:
    """What one dollar after each of these steps is worth before it: gamma ** (elapsed / unit).

    Args:
        elapsed_ms: of the steps, any shape; see `Simulator.elapsed_ms`.
        gamma: of one unit of market time, in [0, 1].
        unit_s: seconds; 0 = one step is one unit, whatever time it took.

    Raises:
        ValueError: gamma or unit is out of range.
    """
    if not 0 <= gamma <= 1 or not 0 <= unit_s < np.inf:
        raise ValueError(f"gamma must be 0 to 1, the unit not negative, were {gamma}, {unit_s}")
    if unit_s == 0:
        return np.full(np.shape(elapsed_ms), gamma, np.float64)
    return np.power(gamma, elapsed_ms / (unit_s * MS_PER_SECOND))
