"""Out of memory: said with the sizes that were asked for, and what to ask for instead.

Nothing is made smaller silently: another batch or rollout is another experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from kalshi_pipeline.config import LearnerConfig
from kalshi_pipeline.errors import OutOfMemory
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.trading.tape import Universe

REMEDY = "ask for less: --batch-size 128, --n-steps 2048, --device cpu"  # plan, appendix C
# torch on a CPU raises a plain RuntimeError
_OF_TORCH = ("not enough memory", "can't allocate memory", "out of memory")


@contextmanager
def sizes_named(universe: Universe, config: LearnerConfig) -> Iterator[None]:
    """Inside it, running out of memory names the sizes and the flags that change them.

    Args:
        universe: what is trained on.
        config: the sizes asked for.

    Raises:
        OutOfMemory: the machine's or the accelerator's memory was too small.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own error on a GPU is a RuntimeError
        lacking = isinstance(error, MemoryError) or any(
            said in str(error).lower() for said in _OF_TORCH
        )
        if not lacking:
            raise
        raise OutOfMemory(_sentence(universe, config, error), rule="memory") from error


def _sentence(universe: Universe, config: LearnerConfig, error: BaseException) -> str:
    sizes = {name: value for name, value in asdict(config).items() if type(value) in (int, tuple)}
    asked = ", ".join(f"{name} {value}" for name, value in sizes.items())
    return (
        f"training ran out of memory ({str(error).strip() or type(error).__name__}). Asked for: "
        f"{asked}, rollouts of {config.rollout_steps:,} steps of {OBSERVATION_WIDTH} features on "
        f"{len(universe.episodes):,} episodes of {universe.tape.features.shape[0]:,} steps. "
        f"Nothing was changed; {REMEDY}"
    )
