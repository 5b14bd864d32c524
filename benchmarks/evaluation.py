"""Evaluation: environment steps a second of a network judged on whole episodes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.data import CONFIG, Material
from benchmarks.networks import forward_products, layers
from benchmarks.plain_environment import Lists, PlainKalshiEnv
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import backtest, play_jobs
from kalshi_pipeline.evaluation.baselines import baselines
from kalshi_pipeline.evaluation.grid import FILL_MODELS
from kalshi_pipeline.evaluation.policies import Policy, cheats
from kalshi_pipeline.learning.actor import pack_actor
from kalshi_pipeline.learning.play import play_actor
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.sb3 import restore, sb3_arguments
from kalshi_pipeline.trading.environment import MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.vector import KalshiVecEnv

UNIT = "env steps/s"
FLOOR = "its matrix products"
EPISODES = 100
PEER_SHARE = (
    10  # one environment plays every tenth: its rate is the same, and it takes a minute less
)


def measure(material: Material, effort: Effort, config: PPOConfig = CONFIG.ppo) -> list[Row]:
    """The likeliest action of one network, beside `evaluate_policy`; a backtest of everything."""
    universe = material.universe
    checkpoint = train_phase(
        universe, phase="benchmark", timesteps=1, config=config, trading=CONFIG.trading, seed=0
    ).final
    policy, rng = NetworkPolicy(checkpoint), np.random.default_rng(0)
    episodes = _of_mean_length(universe)
    actor = pack_actor([checkpoint.policy], len(config.hidden), masked=False, greedy=True)

    def playing(threads: int) -> Contestant:
        def run(_: None) -> int:
            played = play_actor(universe, actor, CONFIG.trading, episodes, rng, threads)
            return sum(summary.steps for summary in played.summaries)

        return Contestant(run)

    def every(_: None) -> int:
        table = backtest(universe, policy, CONFIG.trading, CONFIG.evaluation, rng)
        return int(np.sum(table["steps"].to_numpy()))

    few = episodes[::PEER_SHARE]
    lists = Lists(universe)
    one = DummyVecEnv(
        [lambda: Monitor(MarketAgnosticKalshiEnv(universe, CONFIG.trading, InTurn(few)))]
    )
    plain = DummyVecEnv([lambda: Monitor(PlainKalshiEnv(lists, CONFIG.trading, InTurn(few)))])
    vector = KalshiVecEnv(universe, EPISODES, CONFIG.trading, InTurn(episodes))
    contestants = {
        "one thread": playing(1),
        "two threads": playing(2),
        "SB3 evaluate_policy, one environment": _stock(checkpoint, one, len(few)),
        "SB3 evaluate_policy, one plain Python environment": _stock(checkpoint, plain, len(few)),
        f"SB3 evaluate_policy, KalshiVecEnv of {EPISODES}": _stock(checkpoint, vector, EPISODES),
        FLOOR: forward_products(layers(config), EPISODES),
    }
    return [
        row("evaluate_100_episodes", UNIT, contestants, effort, FLOOR),
        row("evaluation, backtest of every episode", UNIT, {"backtest": Contestant(every)}, effort),
        row("evaluation_grid", UNIT, _grid(universe, checkpoint, episodes), effort),
    ]


def _grid(
    universe: Universe, checkpoint: Checkpoint, episodes: NDArray[np.int64]
) -> dict[str, Contestant]:
    """A network and every baseline on 100 episodes in six cells, a backtest giving both marks."""
    judged = NetworkPolicy(checkpoint, stochastic=True)
    policies = (judged, *baselines())
    cells = [
        replace(CONFIG.trading, fill_model=model, fees=fees)
        for model in FILL_MODELS
        for fees in (True, False)
    ]

    def compiled(_: None) -> int:
        return sum(_steps(universe, p, config, episodes) for config in cells for p in policies)

    asked = [Asked(policy) for policy in policies if not cheats(policy)]
    few = episodes[::PEER_SHARE]

    def in_lanes(_: None) -> int:
        return sum(_steps(universe, policy, cells[0], few) for policy in asked)

    return {
        "compiled": Contestant(compiled),
        "Policy.act in lanes": Contestant(in_lanes),
    }


def _steps(
    universe: Universe, policy: Policy, config: TradingConfig, episodes: NDArray[np.int64]
) -> int:
    rng = np.random.default_rng(0)
    played = play_jobs(universe, policy, config, episodes, rng)
    return sum(summary.steps for summary in played.summaries)


@dataclass(frozen=True)
class Asked:
    """A policy that is asked for every step, though it could play episodes by itself."""

    policy: Policy

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.policy.name

    @property
    def stochastic(self) -> bool:
        """Whether two calls may differ."""
        return self.policy.stochastic

    def act(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """As the policy; see `Policy.act`."""
        return self.policy.act(observation, mask, rng)


class InTurn:
    """A sampler that deals episodes in turn, without end."""

    def __init__(self, episodes: NDArray[np.int64]) -> None:
        self._next = itertools.cycle(episodes.tolist())

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        return np.array([next(self._next) for _ in range(count)], np.int64)


def _of_mean_length(universe: Universe) -> NDArray[np.int64]:
    # the episodes whose length is nearest to the mean, again from the first where they are too few
    steps = np.array([episode.steps for episode in universe.episodes])
    nearest = np.argsort(np.abs(steps - np.mean(steps)), kind="stable")[:EPISODES]
    episodes: NDArray[np.int64] = np.resize(nearest, EPISODES)
    return episodes


def _stock(checkpoint: Checkpoint, env: VecEnv, episodes: int) -> Contestant:
    # the optimiser is not used; any minibatch will do
    config = replace(checkpoint.state.config, batch_size=checkpoint.state.config.n_steps)
    model = PPO("MlpPolicy", env, **sb3_arguments(config))
    restore(model, checkpoint)

    def run(_: None) -> int:
        found = evaluate_policy(model, env, episodes, return_episode_rewards=True, warn=False)
        return int(np.sum(found[1]))

    return Contestant(run)
