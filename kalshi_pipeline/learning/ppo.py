"""PPO of Stable-Baselines3 with the plan's networks, and a guard in front of its optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.learning.on_policy import GuardedOnPolicy
from kalshi_pipeline.storage.sb3 import sb3_arguments


class GuardedPPO(GuardedOnPolicy, PPO):
    """Stock PPO that stops before a non-finite gradient moves the weights."""


def make_ppo(env: VecEnv, config: PPOConfig, seed: int) -> GuardedPPO:
    """A fresh PPO on one torch thread that logs to memory only.

    Stable-Baselines3 seeds and draws from the global generators of Python, NumPy and torch; nothing
    else in this package uses them.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).
    """
    # more threads are slower at these sizes and stall when a core is taken
    torch.set_num_threads(1)
    model = GuardedPPO("MlpPolicy", env, seed=seed, **sb3_arguments(config))
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def generator_states() -> dict[str, Any]:
    """States of the global generators that Stable-Baselines3 draws from, as JSON values."""
    permutations: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    key = permutations["state"]["key"].astype("<u4").tobytes().hex()
    return {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": {"key": key, "position": int(permutations["state"]["pos"])},
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Put the generators back where `generator_states` found them."""
    key = np.frombuffer(bytes.fromhex(states["numpy"]["key"]), "<u4")
    np.random.set_state(("MT19937", key, states["numpy"]["position"], 0, 0.0))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(list(bytes.fromhex(states["torch"])), dtype=torch.uint8))
