"""Episodes under a script, from the first to the last step, in one compiled call.

A script needs no observation, so none is written, and Python is not asked between steps: for
baselines, backtests and sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import ACTIONS, Action
from kalshi_pipeline.trading.kernel import Lanes, Rules, begin, finish, move
from kalshi_pipeline.trading.record import (
    Played,
    Sheet,
    note_end,
    note_step,
    play_shares,
    steps_of,
)
from kalshi_pipeline.trading.simulator import Simulator, indices_of
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
    *,
    detail: bool = False,
) -> Played:
    """Play episodes under a script, one after the other in each thread.

    Args:
        universe: the episodes.
        script: what to do.
        config: rules of an episode.
        episodes: `[K]` which episodes, in this order; one may come several times.
        rng: chance, drawn on only where the script leaves a choice.
        threads: that share the episodes.
        detail: whether every step and fill is kept.

    Returns:
        What became of the K jobs.
    """
    chosen = indices_of("episode", episodes, len(universe))
    begins = np.concatenate([[0], np.cumsum(steps_of(universe.tape, chosen))])
    free = script.action is None
    lots = rng.integers(0, 1 << 32, int(begins[-1]) if free else 0, dtype=np.uint32)
    # as many steps to each thread; chance was drawn before, so their number changes nothing
    shares = np.linspace(0, begins[-1], threads + 1)
    cuts = np.searchsorted(begins[:-1], shares[1:-1]).tolist()
    parts = [np.arange(first, end) for first, end in pairwise([0, *cuts, len(chosen)])]
    action = _ANY if script.action is None else int(script.action)

    def play_share(simulator: Simulator, sheet: Sheet, jobs: Ints) -> None:
        play_script(simulator.reel, simulator.state, simulator.rules, action, lots, sheet, jobs)

    return play_shares(universe, config, chosen, parts, 1, play_share, detail=detail)


@kernel
def play_script(
    reel: Reel, lanes: Lanes, rules: Rules, action: int, lots: Lots, sheet: Sheet, jobs: Ints
) -> None:
    """Play jobs in the first lane.

    Args:
        reel: the messages.
        lanes: at least one.
        rules: of an episode.
        action: of `Action`, or -1: any valid one.
        lots: for each step of all jobs the lot that chooses among the valid actions.
        sheet: written.
        jobs: which of the sheet's.
    """
    for job in jobs:
        begin(reel, lanes, rules, 0, sheet.episode[job])
        ended = 0
        while ended == 0:
            chosen = action
            if action < 0:
                chosen = pick_valid(lanes.mask[0], lots[sheet.next[job]])
            elif not lanes.mask[0, action]:
                chosen = 0
            move(reel, lanes, rules, 0, chosen)
            ended = finish(reel, lanes, rules, 0)
            note_step(sheet, lanes, 0, job, chosen)
        note_end(sheet, lanes, 0, job)


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
