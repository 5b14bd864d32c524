"""Many totals by market, resampled once: means per event, their intervals from the same draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.inference import Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Quantities of the same events, in cents.

    Args:
        events: `[C, Q]` total of each event.
        draws: `[resamples, Q]` means per event; None below the fewest events of an interval.
        confidence: of the intervals.
    """

    events: Floats
    draws: Floats | None
    confidence: float

    def mean(self, column: int) -> tuple[float, Interval | None]:
        """Mean per event of a column, and its interval."""
        draws = None if self.draws is None else self.draws[:, column]
        return float(self.events[:, column].mean()), self._interval(draws)

    def difference(self, column: int, other: int) -> tuple[float, Interval | None]:
        """Mean per event of one column minus another, paired by event, and its interval."""
        draws = None if self.draws is None else self.draws[:, column] - self.draws[:, other]
        behind = float((self.events[:, column] - self.events[:, other]).mean())
        return behind, self._interval(draws)

    def sharpe(self, column: int) -> float | None:
        """Mean over standard deviation of the events, not annualised."""
        return stats.sharpe_per_unit(self.events[:, column])

    def _interval(self, draws: Floats | None) -> Interval | None:
        if draws is None:
            return None
        return stats.percentile_interval(draws, self.confidence, len(self.events))


def columns_of(micro: Floats, cluster: NDArray[np.int64], evaluation: EvaluationConfig) -> Columns:
    """Resample totals with the draws that every table of a report has.

    Args:
        micro: `[N, Q]` one row a market, one column a quantity, 1/1,000,000 dollar.
        cluster: `[N]` event of each market.
        evaluation: resamples, seed, and the fewest events of an interval.
    """
    cents = micro / MICRO_PER_CENT
    events = stats.cluster_totals(cents, cluster)
    draws = None
    if len(events) >= evaluation.min_units:
        rng = np.random.default_rng(evaluation.seed)
        draws = stats.cluster_means(cents, cluster, evaluation.resamples, rng)
    return Columns(events, draws, evaluation.confidence)
