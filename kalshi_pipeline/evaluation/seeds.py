"""Several trainings that differ in nothing but their seed: what the method does, whoever is lucky.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice";
`docs/EVALUATION.md`, "Seeds".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.metrics import Panel, PolicyMetrics
from kalshi_pipeline.evaluation.samples import Sample


@dataclass(frozen=True)
class OverSeeds:
    """S trainings on C events; cents per event, fees on, liquidation mark.

    Args:
        title: the episodes, as the report calls them.
        clean: whether every row is clean-forward.
        events: C.
        seeds: `[S]` (seed, metrics) of each.
        mean_cents: over seeds and events.
        mean_interval: seeds and events drawn anew; None below `min_seeds` or `min_units`.
        iqm_cents: interquartile mean over seeds x events: a quarter left out at either end.
        iqm_interval: the same as of the mean.
    """

    title: str
    clean: bool
    events: int
    seeds: tuple[tuple[int, PolicyMetrics], ...]
    mean_cents: float
    mean_interval: Interval | None
    iqm_cents: float
    iqm_interval: Interval | None


def over_seeds(
    sample: Sample, policy_of: Mapping[int, str], evaluation: EvaluationConfig
) -> OverSeeds:
    """What the trainings came to together.

    Args:
        sample: every policy on one set of episodes.
        policy_of: seed -> its policy.
        evaluation: confidence, resamples, and below how many seeds or events nothing is claimed.
    """
    data: Panel = sample.panel
    columns = [data.policies.index(policy) for policy in policy_of.values()]
    values = data.per_event("pnl_micro")[:, columns] / MICRO_PER_CENT
    mean_interval = iqm_interval = None
    if len(columns) >= evaluation.min_seeds and data.events >= evaluation.min_units:
        rng = np.random.default_rng(evaluation.seed)
        means, iqms = stats.crossed_bootstrap(values, evaluation.resamples, rng)
        fewest = min(values.shape)  # mostly the seeds: five of them, taken for many, cover 88 %
        mean_interval = stats.percentile_interval(means, evaluation.confidence, fewest)
        iqm_interval = stats.percentile_interval(iqms, evaluation.confidence, fewest)
    return OverSeeds(
        title=sample.title,
        clean=sample.clean,
        events=data.events,
        seeds=tuple(
            (seed, sample.metrics[column]) for seed, column in zip(policy_of, columns, strict=True)
        ),
        mean_cents=float(values.mean()),
        mean_interval=mean_interval,
        iqm_cents=float(stats.interquartile_mean(values.ravel())),
        iqm_interval=iqm_interval,
    )
