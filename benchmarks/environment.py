"""Environment steps a second: the kernel, and the two contracts it is offered under."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.data import CONFIG, Material
from benchmarks.plain_environment import Lists, PlainKalshiEnv, assert_same_rewards
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.trading.actions import ACTIONS, Action
from kalshi_pipeline.trading.environment import MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.rollout import play
from kalshi_pipeline.trading.scripts import Rule, Script
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.vector import KalshiVecEnv

UNIT = "env steps/s"
LANES = (1, 64, 256)
COPY = "copy 35 floats, write 17"
KERNEL = "the bare kernel"
CHECKED_EPISODES = 3
STEPS_A_RUN = 1_024  # over all lanes
Actions = NDArray[np.int64]


def measure(
    material: Material, effort: Effort, lanes: tuple[int, ...] = LANES, seed: int = 0
) -> list[Row]:
    """Random actions, every finished episode followed by another; the same rules for all."""
    universe = material.universe
    rng = np.random.default_rng(seed)
    shortest = np.argsort([episode.steps for episode in universe.episodes])
    checked = np.append(shortest[:CHECKED_EPISODES], rng.integers(len(universe)))
    assert_same_rewards(universe, CONFIG.trading, checked, seed)
    lists = Lists(universe)
    result = [_single(universe, lists, effort, rng)]
    for count in lanes:
        result += _vectors(universe, lists, effort, count, rng)
    return [*result, _rollout(universe, effort)]


def _single(universe: Universe, lists: Lists, effort: Effort, rng: np.random.Generator) -> Row:
    actions = rng.integers(0, ACTIONS, STEPS_A_RUN)

    def stepping(env: MarketAgnosticKalshiEnv | PlainKalshiEnv) -> Contestant:
        env.reset(seed=0)

        def run(_: None) -> int:
            for action in actions:
                terminated, truncated = env.step(action)[2:4]
                if terminated or truncated:
                    env.reset()
            return len(actions)

        return Contestant(run)

    contestants = {
        "MarketAgnosticKalshiEnv": stepping(MarketAgnosticKalshiEnv(universe, CONFIG.trading)),
        "plain Python environment": stepping(PlainKalshiEnv(lists, CONFIG.trading)),
        KERNEL: _kernel(universe, 1, rng),
    }
    return row("env_step_n1", UNIT, contestants, effort, KERNEL)


def _vectors(
    universe: Universe, lists: Lists, effort: Effort, lanes: int, rng: np.random.Generator
) -> list[Row]:
    vector = KalshiVecEnv(universe, lanes, CONFIG.trading)
    plain = DummyVecEnv([lambda: PlainKalshiEnv(lists, CONFIG.trading) for _ in range(lanes)])
    vector.reset()
    plain.reset()
    contestants = {
        "KalshiVecEnv": _repeated(vector.step, lanes, rng),
        "SB3 DummyVecEnv, plain Python environment": _repeated(plain.step, lanes, rng),
        KERNEL: _kernel(universe, lanes, rng),
        COPY: _copying(universe, lanes),
    } | _trading_peers(lanes, rng)
    name = "env_step" if lanes == 1 else f"env_step_n{lanes}"
    both = row(f"{name}, KalshiVecEnv" if lanes == 1 else name, UNIT, contestants, effort, KERNEL)
    copied = both.peers[COPY]
    peers = {name: rate for name, rate in both.peers.items() if name != COPY}
    assert both.floor is not None
    return [
        Row(f"bare kernel, {lanes} lanes", both.floor, UNIT, {}, copied),
        Row(both.name, both.value, UNIT, peers, both.floor),
    ]


def _trading_peers(lanes: int, rng: np.random.Generator) -> dict[str, Contestant]:
    try:
        from benchmarks.trading_peers import contestants
    except ImportError:
        return {}
    calls = max(4, STEPS_A_RUN // lanes)
    return contestants(lanes, rng.integers(0, ACTIONS, (calls, lanes)))


def _repeated(
    step: Callable[[Actions], object], lanes: int, rng: np.random.Generator
) -> Contestant:
    actions = rng.integers(0, ACTIONS, (max(4, STEPS_A_RUN // lanes), lanes))

    def run(_: None) -> int:
        for chosen in actions:
            step(chosen)
        return actions.size

    return Contestant(run)


def _rollout(universe: Universe, effort: Effort) -> Row:
    # every episode in one call; one Simulator stepped from Python beside it
    episodes = np.arange(len(universe))
    steps = sum(episode.steps - 1 for episode in universe.episodes)

    def playing(script: Script, threads: int = 1) -> Contestant:
        def run(_: None) -> int:
            play(universe, script, CONFIG.trading, episodes, np.random.default_rng(0), threads)
            return steps

        return Contestant(run)

    contestants = {
        "any valid action": playing(Script(Rule.ANY)),
        "any valid action, two threads": playing(Script(Rule.ANY), 2),
        "one side taken at every step": playing(Script(Rule.ACTION, (Action.BUY_BEST,))),
        "nothing done": playing(Script(Rule.ACTION, (Action.HOLD,))),
        "the bare kernel, 256 lanes": _kernel(universe, 256, np.random.default_rng(0)),
    }
    return row("env_rollout", UNIT, contestants, effort)


def _kernel(universe: Universe, lanes: int, rng: np.random.Generator) -> Contestant:
    simulator = Simulator(universe, lanes, CONFIG.trading)
    simulator.reset(np.arange(lanes), rng.integers(0, len(universe), lanes))

    def step(actions: Actions) -> None:
        simulator.step(actions)
        finished = np.flatnonzero(simulator.terminated | simulator.truncated)
        if len(finished):
            simulator.reset(finished, rng.integers(0, len(universe), len(finished)))

    return _repeated(step, lanes, rng)


def _copying(universe: Universe, lanes: int) -> Contestant:
    # the least a step does: find the next row of features, write an observation
    tape = universe.tape
    at = np.linspace(0, len(tape.features) - 1, lanes).astype(np.int64)
    observation = np.zeros((lanes, 52), np.float32)
    calls = max(4, STEPS_A_RUN // lanes)

    def run(_: None) -> int:
        for _call in range(calls):
            copy_rows(tape.features, at, observation)
        return calls * lanes

    return Contestant(run)


@numba.njit(cache=True)
def copy_rows(
    features: NDArray[np.float32], at: NDArray[np.int64], observation: NDArray[np.float32]
) -> None:
    """Move each lane to its next row, copy the row, write the rest of the observation."""
    width = features.shape[1]
    for lane in range(len(at)):
        step = at[lane] + 1
        if step >= len(features):
            step = 0
        at[lane] = step
        for column in range(width):
            observation[lane, column] = features[step, column]
        for column in range(width, observation.shape[1]):
            observation[lane, column] = np.float32(step & 7)
