"""The Sharpe ratio of independent units, never annualised, and what choosing the best does to it.

    sharpe_per_unit(values) -> float | None
    sharpe_interval(values, confidence) -> Interval | None
    psr(values, benchmark=0.0) -> float | None
    deflated_sharpe(values, trials, trial_deviation=None) -> float | None
    effective_trials(matrix) -> float
    expected_best_sharpe(trials, trial_deviation) -> float

`values` are the totals of the units, `[n]`; None where all are equal or there are fewer than two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.inference.bootstrap import Interval

# Units of two values only can bring the variance to nothing, which nobody may divide by.
_LEAST_VARIANCE = 1e-12


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
        kurtosis: of the units, 3 for a normal variable: not the excess.
        units: how many.

    Source: Bailey and Lopez de Prado 2012, "The Sharpe ratio efficient frontier", equation 4.
    """
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return math.sqrt(max(_LEAST_VARIANCE, variance) / (units - 1))


def sharpe_interval(values: NDArray[np.float64], confidence: float) -> Interval | None:
    """Interval of the Sharpe ratio per unit of `[n]` units; None where the ratio is."""
    from scipy.stats import norm

    found = _ratio_and_deviation(values)
    if found is None:
        return None
    ratio, deviation = found
    reach = float(norm.ppf(0.5 + confidence / 2.0)) * deviation
    return Interval(ratio - reach, ratio + reach)


def psr(values: NDArray[np.float64], benchmark: float = 0.0) -> float | None:
    """Probabilistic Sharpe ratio: probability that the true ratio is above the benchmark.

    Args:
        values: `[n]` totals of the units.
        benchmark: a Sharpe ratio per unit.

    Returns:
        0 .. 1; None where the ratio has no meaning.

    Source: Bailey and Lopez de Prado 2012, equation 9.
    """
    from scipy.stats import norm

    found = _ratio_and_deviation(values)
    if found is None:
        return None
    ratio, deviation = found
    return float(norm.cdf((ratio - benchmark) / deviation))


def expected_best_sharpe(trials: float, trial_deviation: float) -> float:
    """Sharpe ratio that the best of so many trials without skill is expected to show.

    Args:
        trials: how many, counted or effective; with one there was no choice, and it is 0.
        trial_deviation: standard deviation of the Sharpe ratios of the trials.

    Source: Bailey and Lopez de Prado 2014, "The deflated Sharpe ratio", equation 1 with mean 0.
    """
    from scipy.stats import norm

    if trials <= 1:
        return 0.0
    quantiles = norm.ppf((1.0 - 1.0 / trials, 1.0 - 1.0 / (trials * math.e)))
    best = float(np.dot((1.0 - np.euler_gamma, np.euler_gamma), quantiles))
    return max(0.0, best) * trial_deviation


def deflated_sharpe(
    values: NDArray[np.float64], trials: float, trial_deviation: float | None = None
) -> float | None:
    """Probability that the chosen policy's true Sharpe ratio is above 0, the choice allowed for.

    Args:
        values: `[n]` totals of the units of the policy that was chosen.
        trials: among how many it was chosen, counted or effective.
        trial_deviation: standard deviation of the Sharpe ratios of the trials, per unit; None
            where they are not known: then that of trials without skill on n units, 1 / sqrt(n - 1).

    Returns:
        0 .. 1; None where the ratio has no meaning. With one trial it is `psr`.

    Source: Bailey and Lopez de Prado 2014, "The deflated Sharpe ratio", equation 2.
    """
    if len(values) < 2:
        return None
    if trial_deviation is None:
        trial_deviation = 1.0 / math.sqrt(len(values) - 1)
    return psr(values, expected_best_sharpe(trials, trial_deviation))


def effective_trials(matrix: NDArray[np.float64]) -> float:
    """How many independent trials correlated ones are worth: r + (1 - r) N, r the mean correlation.

    A trial whose units are all equal is correlated with none; a negative mean counts as 0. It errs
    towards many, which is the safe side: trials in tight groups count for more than the groups. The
    participation ratio of the eigenvalues says 1.2 of 50 trials correlated by 0.9, this one 5.9.

    Args:
        matrix: `[units, trials]` total of each unit under each trial, at least one trial.

    Returns:
        1 .. trials.

    Source: Bailey and Lopez de Prado 2014, "The deflated Sharpe ratio", appendix A.3.
    """
    units, trials = matrix.shape
    if trials == 1 or units < 2:
        return float(trials)
    centred = matrix - matrix.mean(axis=0)
    length = np.sqrt(np.sum(centred**2, axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    own = float(np.sum(length > 0))
    # the sum over all pairs is the squared length of the sum: no trials x trials matrix
    pairs = float(np.sum(unit.sum(axis=1) ** 2)) - own
    mean = max(0.0, pairs / (trials * (trials - 1)))
    return float(mean + (1.0 - mean) * trials)


def _ratio_and_deviation(values: NDArray[np.float64]) -> tuple[float, float] | None:
    from scipy.stats import kurtosis, skew

    ratio = sharpe_per_unit(values)
    if ratio is None:
        return None
    fatness = float(kurtosis(values, fisher=False))
    return ratio, sharpe_deviation(ratio, float(skew(values)), fatness, len(values))
