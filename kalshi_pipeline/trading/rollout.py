"""Episodes under a script, from the first to the last step, in one compiled call.

A script needs no observation, so none is written, and Python is not asked between steps: for
baselines, backtests and sweeps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import ACTIONS, Action
from kalshi_pipeline.trading.kernel import Lanes, Rules, begin, finish, move
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator, indices_of
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Reel, Universe

Ints = NDArray[np.int64]
Lots = NDArray[np.uint32]

_ANY = -1  # in place of an action


@dataclass(frozen=True)
class Script:
    """What to do at every step, whatever it looks like.

    Args:
        action: this one where it is valid, else HOLD; None: any valid one, each as likely as the
            others.
    """

    action: Action | None


def play(
    universe: Universe,
    script: Script,
    config: TradingConfig,
    episodes: Any,
    rng: np.random.Generator,
    threads: int = 2,
) -> tuple[EpisodeSummary, ...]:
    """Play episodes under a script, one after the other in each thread.

    Args:
        universe: the episodes.
        script: what to do.
        config: rules of an episode.
        episodes: `[K]` which episodes, in this order; one may come several times.
        rng: chance, drawn on only where the script leaves a choice.
        threads: that share the episodes.

    Returns:
        K summaries.
    """
    chosen = indices_of("episode", episodes, len(universe))
    steps = (universe.tape.end_step - universe.tape.first_step)[chosen] - 1
    begins = np.concatenate([[0], np.cumsum(steps)])
    free = script.action is None
    lots = rng.integers(0, 1 << 32, int(begins[-1]) if free else 0, dtype=np.uint32)
    # as many steps to each thread; chance was drawn before, so their number changes nothing
    shares = np.linspace(0, begins[-1], threads + 1)
    cuts = np.searchsorted(begins[:-1], shares[1:-1]).tolist()
    parts = [
        (chosen[first:end], lots[begins[first] : begins[end]] if free else lots)
        for first, end in pairwise([0, *cuts, len(chosen)])
    ]
    with ThreadPoolExecutor(threads) as pool:
        played = pool.map(lambda part: _play(universe, script, config, *part), parts)
        return tuple(summary for summaries in played for summary in summaries)


def _play(
    universe: Universe, script: Script, config: TradingConfig, episodes: Ints, lots: Lots
) -> list[EpisodeSummary]:
    simulator = Simulator(universe, 1, config)
    accounts = np.zeros((len(episodes), len(Account)), np.int64)
    counts = np.zeros((len(episodes), ACTIONS), np.int64)
    settled = np.zeros(len(episodes), np.bool_)
    play_script(
        simulator.reel, simulator.state, simulator.rules,
        _ANY if script.action is None else int(script.action), lots, episodes,
        accounts, counts, settled,
    )  # fmt: skip
    return EpisodeSummary.of_played(accounts, counts, settled, simulator.tape, config)


@kernel
def play_script(
    reel: Reel,
    lanes: Lanes,
    rules: Rules,
    action: int,
    lots: Lots,
    episodes: Ints,
    accounts: Ints,
    counts: Ints,
    settled: NDArray[np.bool_],
) -> None:
    """Play episodes in the first lane.

    Args:
        reel: the messages.
        lanes: at least one.
        rules: of an episode.
        action: of `Action`, or -1: any valid one.
        lots: for each step of all episodes the lot that chooses among the valid actions.
        episodes: `[K]`.
        accounts: `[K, len(Account)]`, written: the accounts in the end.
        counts: `[K, 7]`, written: how often each action was taken.
        settled: `[K]`, written: whether the episode was settled by its market's result.
    """
    drawn = 0
    for k in range(len(episodes)):
        begin(reel, lanes, rules, 0, episodes[k])
        while True:
            chosen = action
            if action < 0:
                chosen = pick_valid(lanes.mask[0], lots[drawn])
                drawn += 1
            elif not lanes.mask[0, action]:
                chosen = 0
            move(reel, lanes, rules, 0, chosen)
            if finish(reel, lanes, rules, 0) == 1:
                break
        for column in range(accounts.shape[1]):
            accounts[k, column] = lanes.account[0, column]
        for taken in range(ACTIONS):
            counts[k, taken] = lanes.action_counts[0, taken]
        settled[k] = lanes.terminated[0]


@part
def pick_valid(mask: NDArray[np.bool_], lot: int) -> int:
    """The valid action a lot of 32 bits falls on."""
    valid = 0
    for action in range(ACTIONS):
        valid += 1 if mask[action] else 0
    left = (np.int64(lot) * valid) >> 32
    for action in range(ACTIONS):
        if mask[action]:
            if left == 0:
                return action
            left -= 1
    return 0
