"""Training: environment steps learned from a second, rollout and update together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.data import CONFIG, Material
from benchmarks.networks import update_products
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.learning.ppo import FastPPO
from kalshi_pipeline.storage.sb3 import sb3_arguments
from kalshi_pipeline.trading.environment import MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.vector import KalshiVecEnv

UNIT = "env steps/s"
FLOOR = "its matrix products, 2 threads"


def measure(material: Material, effort: Effort, config: PPOConfig = CONFIG.ppo) -> list[Row]:
    """A rollout and its update, again and again, of models that are warm.

    The peers are stock PPO with the same hyper-parameters and one torch thread: on one Gymnasium
    environment, as most people run it, and on our vector environment. Two contestants share the
    machine with a process that never rests.
    """
    torch.set_num_threads(1)
    universe, rollout = material.universe, config.n_envs * config.n_steps

    def ours(threads: int) -> Callable[[], int]:
        env = KalshiVecEnv(universe, config.n_envs, CONFIG.trading)
        settings = sb3_arguments(config)
        return _learning(FastPPO("MlpPolicy", env, seed=0, threads=threads, **settings), rollout)

    def stock(env: VecEnv) -> Callable[[], int]:
        settings = replace(config, n_envs=env.num_envs, n_steps=rollout // env.num_envs)
        return _learning(PPO("MlpPolicy", env, seed=0, **sb3_arguments(settings)), rollout)

    single = DummyVecEnv([lambda: Monitor(MarketAgnosticKalshiEnv(universe, CONFIG.trading))])
    contestants = {
        "2 threads": _alone(ours(2)),
        "1 thread": _alone(ours(1)),
        "2 threads, a core taken": _beside_another(ours(2)),
        "1 thread, a core taken": _beside_another(ours(1)),
        "sb3_single_env": _alone(stock(single)),
        "sb3_vector_env": _alone(stock(KalshiVecEnv(universe, config.n_envs, CONFIG.trading))),
        "its matrix products, 1 thread": update_products(config, 1),
        FLOOR: update_products(config, 2),
    }
    return [row("ppo_steps_per_s", UNIT, contestants, effort, FLOOR)]


def _learning(model: PPO, rollout: int) -> Callable[[], int]:
    model.set_logger(Logger(folder=None, output_formats=[]))

    def run() -> int:
        before = model.num_timesteps
        model.learn(rollout, reset_num_timesteps=False)
        return model.num_timesteps - before

    return run


def _alone(run: Callable[[], int]) -> Contestant:
    return Contestant(lambda _: run())


def _beside_another(run: Callable[[], int]) -> Contestant:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def with_it(other: subprocess.Popen[bytes]) -> int:
        try:
            return run()
        finally:
            other.kill()
            other.wait()

    return Contestant(with_it, start)
