"""A2C of Stable-Baselines3: one gradient step on each rollout, and nothing that can overfit it."""

from __future__ import annotations

import torch
from stable_baselines3 import A2C
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import A2CConfig
from kalshi_pipeline.learning.on_policy import GuardedOnPolicy
from kalshi_pipeline.storage.sb3 import network_arguments


class GuardedA2C(GuardedOnPolicy, A2C):
    """Stock A2C that stops before a non-finite gradient moves the weights."""


def make_a2c(env: VecEnv, config: A2CConfig, seed: int) -> GuardedA2C:
    """A fresh A2C on one torch thread that logs to memory only.

    Its optimiser is Adam instead of A2C's usual RMSProp, so that its checkpoints hold what those of
    PPO hold.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).
    """
    torch.set_num_threads(1)
    model = GuardedA2C(
        "MlpPolicy",
        env,
        seed=seed,
        learning_rate=config.learning_rate,
        n_steps=config.n_steps,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        normalize_advantage=config.normalize_advantage,
        use_rms_prop=False,
        **network_arguments(config),
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model
