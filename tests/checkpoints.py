"""Small checkpoints of random numbers, for tests."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.storage.checkpoints import (
    Checkpoint,
    LineageEntry,
    TrainerState,
    optimizer_shapes,
    tensor_shapes,
)

SMALL = PPOConfig(hidden=(8, 8, 4), n_envs=2, n_steps=4, batch_size=4)


def small_checkpoint(seed: int = 0, config: PPOConfig = SMALL) -> Checkpoint:
    rng = np.random.default_rng(seed)
    state = TrainerState(
        phase="phase_1",
        seed=seed,
        timesteps=8,
        timesteps_total=8,
        config=config,
        trading=TradingConfig(),
        lineage=(LineageEntry(102, "KXBTCD-25DEC1417", "KXBTCD-25DEC1417-T90000", 1, 2),),
        selected_on=(),
        parent=None,
        curriculum={"rng": rng.bit_generator.state},  # 128-bit integers
    )
    policy = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in tensor_shapes(config.hidden).items()
    }
    optimizer = {
        name: np.array(np.abs(rng.normal(size=shape)), np.float32)
        for name, shape in optimizer_shapes(config.hidden).items()
    }
    return Checkpoint(state, policy, optimizer)
