"""Shares of units, and how small an effect so many units can show."""

from __future__ import annotations

import math

from kalshi_pipeline.evaluation.inference.bootstrap import Interval


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
