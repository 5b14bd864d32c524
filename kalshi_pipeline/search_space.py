"""What a sweep tries of a phase's hyper-parameters: the guide of the training plan's appendix B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kalshi_pipeline.config import PPOConfig

# least and most of the knobs that the guide turns; a plan's own value widens them.
# Source: training plan, appendix B; halves of `n_steps` stand for its 2,048 of 4,096
RANGES = {
    "learning_rate": (5e-5, 3e-4), "clip_range": (0.1, 0.2), "ent_coef": (0.05, 0.15),
}  # fmt: skip
_SIGNIFICANT = 3  # digits of what is tried, so that what is written is what was tried
CHOICES = {"batch_size": (256, 512), "n_epochs": (5, 10, 15)}


def space_of(learner: PPOConfig) -> dict[str, tuple[Any, ...]]:
    """What is tried of each knob: least and most of a range, or a choice of several."""
    space: dict[str, tuple[Any, ...]] = {}
    for name, (least, most) in RANGES.items():
        own = getattr(learner, name)
        space[name] = (min(least, own), max(most, own))
    for name, values in CHOICES.items():
        space[name] = tuple(sorted({*values, getattr(learner, name)}))
    shorter = max(1, learner.n_steps // 2)
    space["n_steps"] = (shorter, learner.n_steps)
    # no minibatch is larger than a rollout
    own, most = learner.batch_size, shorter * learner.n_envs
    space["batch_size"] = tuple(size for size in space["batch_size"] if size <= most or size == own)
    return space


def distributions(learner: PPOConfig) -> dict[str, Any]:
    """The same, as Optuna draws from it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(values[0], values[1], log=name == "learning_rate")
        if name in RANGES
        else CategoricalDistribution(values)
        for name, values in space_of(learner).items()
    }


def rounded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was drawn, as it is tried and told."""
    return {
        name: float(f"{value:.{_SIGNIFICANT}g}") if isinstance(value, float) else value
        for name, value in settings.items()
    }
