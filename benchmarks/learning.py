"""Training: environment steps learned from a second, rollout and update together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.data import CONFIG, Material
from benchmarks.networks import update_products
from benchmarks.plain_environment import Lists, PlainKalshiEnv
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.storage.sb3 import sb3_arguments

UNIT = "env steps/s"
FLOOR = "its matrix products"


def measure(material: Material, effort: Effort, config: PPOConfig = CONFIG.ppo) -> list[Row]:
    """One rollout of a phase, from building the networks to the updated weights.

    The peers are stock PPO with the same hyper-parameters on the plain-Python environment: with as
    many environments side by side, and with one, as most people run it.
    """
    torch.set_num_threads(1)
    lists = Lists(material.universe)
    rollout = config.n_envs * config.n_steps

    def ours(_: None) -> int:
        return train_phase(
            material.universe, phase="benchmark", timesteps=rollout, config=config,
            trading=CONFIG.trading, seed=0,
        ).timesteps  # fmt: skip

    def stock(environments: int) -> Callable[[None], int]:
        settings = replace(config, n_envs=environments, n_steps=rollout // environments)

        def run(_: None) -> int:
            env = DummyVecEnv([lambda: _monitored(lists)] * environments)
            model = PPO("MlpPolicy", env, seed=0, **sb3_arguments(settings))
            return model.learn(rollout).num_timesteps

        return run

    contestants = {
        "train_phase": Contestant(ours),
        f"SB3 PPO, DummyVecEnv of {config.n_envs}": Contestant(stock(config.n_envs)),
        "SB3 PPO, one environment": Contestant(stock(1)),
        FLOOR: update_products(config),
    }
    name = f"learning, PPO {config.n_envs} x {config.n_steps}"
    return [row(name, UNIT, contestants, effort, FLOOR)]


def _monitored(lists: Lists) -> Monitor:
    return Monitor(PlainKalshiEnv(lists, CONFIG.trading))
