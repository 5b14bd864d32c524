"""Evaluation: environment steps a second of a network judged on whole episodes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from benchmarks.data import CONFIG, Material
from benchmarks.networks import forward_products, layers
from benchmarks.plain_environment import Lists, PlainKalshiEnv
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.sb3 import restore, sb3_arguments
from kalshi_pipeline.trading.environment import MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.tape import Universe

UNIT = "env steps/s"
FLOOR = "its matrix products"
PEER_EPISODES = 8


def measure(material: Material, effort: Effort, config: PPOConfig = CONFIG.ppo) -> list[Row]:
    """The likeliest action of one network on every episode, beside `evaluate_policy` on some.

    Stable-Baselines3 evaluates one environment; a few episodes are enough to know its rate.
    """
    universe = material.universe
    checkpoint = train_phase(
        universe, phase="benchmark", timesteps=1, config=config, trading=CONFIG.trading, seed=0
    ).final
    policy, rng = NetworkPolicy(checkpoint), np.random.default_rng(0)

    def ours(_: None) -> int:
        table = backtest(universe, policy, CONFIG.trading, CONFIG.evaluation, rng)
        return int(np.sum(table["steps"].to_numpy()))

    episodes = _typical(universe)
    plain = PlainKalshiEnv(Lists(universe), CONFIG.trading, InTurn(episodes))
    compiled = MarketAgnosticKalshiEnv(universe, CONFIG.trading, InTurn(episodes))
    contestants = {
        "backtest": Contestant(ours),
        "SB3 evaluate_policy, MarketAgnosticKalshiEnv": _stock(checkpoint, compiled),
        "SB3 evaluate_policy, plain Python environment": _stock(checkpoint, plain),
        FLOOR: forward_products(layers(config), CONFIG.evaluation.n_envs),
    }
    return [row("evaluation, network on every episode", UNIT, contestants, effort, FLOOR)]


class InTurn:
    """A sampler that deals episodes in turn, without end."""

    def __init__(self, episodes: NDArray[np.int64]) -> None:
        self._next = itertools.cycle(episodes.tolist())

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        return np.array([next(self._next) for _ in range(count)], np.int64)


def _typical(universe: Universe) -> NDArray[np.int64]:
    # the episodes whose length is nearest to the median
    steps = np.array([episode.steps for episode in universe.episodes])
    nearest: NDArray[np.int64] = np.argsort(np.abs(steps - np.median(steps)), kind="stable")
    return nearest[:PEER_EPISODES]


def _stock(checkpoint: Checkpoint, env: Any) -> Contestant:
    monitored = Monitor(env)
    # the optimiser is not used; one environment fills smaller minibatches
    config = replace(checkpoint.state.config, batch_size=checkpoint.state.config.n_steps)
    model = PPO("MlpPolicy", monitored, **sb3_arguments(config))
    restore(model, checkpoint)

    def run(_: None) -> int:
        found = evaluate_policy(
            model, monitored, PEER_EPISODES, return_episode_rewards=True, warn=False
        )
        return int(np.sum(found[1]))

    return Contestant(run)
