"""The plan's whole training: its phases one after the other, each from the one before."""

from __future__ import annotations

from math import ceil
from time import perf_counter

from benchmarks.data import CONFIG, Material
from benchmarks.timing import Effort, Row
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.storage.checkpoints import Checkpoint


def measure(
    material: Material,
    effort: Effort,  # noqa: ARG001 - it is done once
    config: PPOConfig = CONFIG.ppo,
    share: float = 1.0,
) -> list[Row]:
    """Seconds for all phases at the plan's budgets, on one session; checks and records included.

    Args:
        material: the session.
        effort: of the other rows.
        config: hyper-parameters.
        share: train this share of each phase and divide the seconds by it.
    """
    seconds: dict[str, float] = {}
    parent: Checkpoint | None = None
    for phase in load_plan("training_plan").phases:
        timesteps = ceil(phase.timesteps * share)
        start = perf_counter()
        result = train_phase(
            material.universe, phase=phase.name, timesteps=timesteps, config=config,
            trading=CONFIG.trading, seed=0, parent=parent, keep=lambda _: None,
        )  # fmt: skip
        taken = perf_counter() - start
        # a phase is rounded up to whole rollouts
        seconds[phase.name] = taken * phase.timesteps / result.timesteps
        parent = result.final
    name = "plan_training_s" if share == 1.0 else f"plan_training_s, from {share:g} of it"
    return [Row(name, sum(seconds.values()), "s", seconds)]
