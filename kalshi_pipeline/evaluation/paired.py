"""The judged policy minus each baseline, event by event, and how often so many would mislead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference
from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.metrics import Panel


@dataclass(frozen=True)
class Paired:
    """Judged policy minus one baseline, cents per event; None where there are too few events.

    Args:
        baseline: its name.
        cheating: it sees what nobody can: a ceiling, and nothing that has to be beaten.
        difference_cents: mean over events.
        interval_percentile: of the mean difference, by the cluster bootstrap; the one that counts.
        interval_bca: the same, bias-corrected and accelerated.
        p_value: two-sided, of flipping the signs of the events' differences.
        p_holm: the same with every other baseline that has to be beaten allowed for.
        units: events.
        detectable_cents: smallest mean difference found with 80 % power on so many events.
    """

    baseline: str
    cheating: bool
    difference_cents: float
    interval_percentile: Interval | None
    interval_bca: Interval | None
    p_value: float | None
    p_holm: float | None
    units: int
    detectable_cents: float | None

    def beaten(self, level: float) -> bool:
        """Whether both the interval and the test that allows for the others say so."""
        return (
            self.interval_percentile is not None
            and self.interval_percentile.low > 0
            and self.p_holm is not None
            and self.p_holm < level
        )


def paired(
    data: Panel,
    baselines: Sequence[str],
    evaluation: EvaluationConfig,
    cheating: Collection[str] = (),
) -> tuple[Paired, ...]:
    """Compare the first policy of a panel with each baseline.

    Args:
        data: markets and events under every policy, the judged one first.
        baselines: which of its policies are compared with, in this order.
        evaluation: confidence, resamples, seed, and below how many events nothing is claimed.
        cheating: those that nobody has to beat; not in Holm's family.
    """
    pnl = data.per_event("pnl_micro") / MICRO_PER_CENT
    columns = [data.policies.index(name) for name in baselines]
    differences = pnl[:, :1] - pnl[:, columns]
    if data.events < evaluation.min_units or not baselines:
        return tuple(
            _claiming_nothing(name, name in cheating, differences[:, k])
            for k, name in enumerate(baselines)
        )
    honest = np.array([name not in cheating for name in baselines])
    p_values = inference.sign_flip_test(
        differences, evaluation.resamples, np.random.default_rng(evaluation.seed)
    )
    p_holm = np.full(len(baselines), np.nan)
    p_holm[honest] = inference.holm(p_values[honest])
    means = inference.cluster_means(
        differences,
        np.arange(data.events),
        evaluation.resamples,
        np.random.default_rng(evaluation.seed),
    )
    return tuple(
        _compared(
            name,
            differences[:, k],
            means[:, k],
            float(p_values[k]),
            float(p_holm[k]) if honest[k] else None,
            evaluation.confidence,
        )
        for k, name in enumerate(baselines)
    )


def _claiming_nothing(name: str, cheating: bool, difference: NDArray[np.float64]) -> Paired:
    mean, units = float(difference.mean()), len(difference)
    return Paired(name, cheating, mean, None, None, None, None, units, None)


def _compared(
    name: str,
    difference: NDArray[np.float64],
    means: NDArray[np.float64],
    p_value: float,
    p_holm: float | None,
    confidence: float,
) -> Paired:
    mean, units = float(difference.mean()), len(difference)
    jackknife = inference.jackknife_means(difference)
    return Paired(
        baseline=name,
        cheating=p_holm is None,
        difference_cents=mean,
        interval_percentile=inference.percentile_interval(means, confidence, units),
        interval_bca=inference.bca_interval(means, mean, jackknife, confidence, units),
        p_value=p_value,
        p_holm=p_holm,
        units=units,
        detectable_cents=inference.smallest_detectable_effect(
            float(np.std(difference, ddof=1)), units, confidence
        ),
    )
