"""What an agent saw at chosen steps of episodes it played: its actions are replayed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.kernel import Lanes, Rules, begin, finish, move, show
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Reel, Universe

Ints = NDArray[np.int64]


def observations_at(
    universe: Universe,
    config: TradingConfig,
    episodes: Ints,
    first: Ints,
    actions: NDArray[np.int8],
    chosen: Ints,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Observation and mask before chosen steps.

    Args:
        universe: the episodes.
        config: rules they were played by.
        episodes: `[K]` what each job played.
        first: `[K + 1]` job k's steps are first[k] .. first[k + 1].
        actions: `[T]` taken at each of them.
        chosen: `[n]` of the T steps, ascending.

    Returns:
        `[n, 52]` and `[n, 7]`.
    """
    simulator = Simulator(universe, 1, config)
    observation = np.zeros((len(chosen), OBSERVATION_WIDTH), np.float32)
    mask = np.zeros((len(chosen), ACTIONS), np.bool_)
    cuts = np.searchsorted(chosen, first)
    replay_actions(
        simulator.reel, simulator.state, simulator.rules,
        episodes, first, actions, chosen, cuts, observation, mask,
    )  # fmt: skip
    return observation, mask


@kernel
def replay_actions(
    reel: Reel,
    lanes: Lanes,
    rules: Rules,
    episodes: Ints,
    first: Ints,
    actions: NDArray[np.int8],
    chosen: Ints,
    cuts: Ints,
    observation: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """Play each job's actions in the first lane, up to the last step that is asked for.

    Args:
        reel: the messages.
        lanes: at least one.
        rules: of an episode.
        episodes: `[K]`.
        first: `[K + 1]` job k's steps are first[k] .. first[k + 1].
        actions: `[T]`.
        chosen: `[n]` of the T steps, ascending.
        cuts: `[K + 1]` chosen[cuts[k]] .. chosen[cuts[k + 1]] are of job k.
        observation: `[n, 52]`, written.
        mask: `[n, 7]`, written.
    """
    for k in range(len(episodes)):
        if cuts[k] == cuts[k + 1]:
            continue
        begin(reel, lanes, rules, 0, episodes[k])
        at = first[k]
        for place in range(cuts[k], cuts[k + 1]):
            while at < chosen[place]:
                move(reel, lanes, rules, 0, int(actions[at]))
                finish(reel, lanes, rules, 0)
                at += 1
            show(reel, lanes, rules, 0)
            for column in range(observation.shape[1]):
                observation[place, column] = lanes.observation[0, column]
            for action in range(mask.shape[1]):
                mask[place, action] = lanes.mask[0, action]
