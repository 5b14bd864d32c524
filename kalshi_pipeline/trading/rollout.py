"""Episodes under a script, from the first to the last step, in one compiled call.

Python is not asked between steps, and an observation is written only for a script that looks at it:
for baselines, backtests and sweeps.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import InvalidAction
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.kernel import Lanes, Rules, begin, finish, move, show
from kalshi_pipeline.trading.record import (
    Played,
    Sheet,
    note_end,
    note_step,
    play_shares,
    steps_of,
)
from kalshi_pipeline.trading.scripts import Rule, Script, choose_by
from kalshi_pipeline.trading.simulator import Simulator, indices_of
from kalshi_pipeline.trading.tape import Reel, Universe

Ints = NDArray[np.int64]
Given = NDArray[np.uint32]

_NOTHING = np.zeros(0, np.uint32)
_STEPS_WORTH_A_THREAD = 4_096  # about a millisecond of them


def play(
    universe: Universe,
    script: Script,
    config: TradingConfig,
    episodes: Any,
    rng: np.random.Generator,
    threads: int = 2,
    *,
    actions: Given | None = None,
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
        actions: `[T]` of all steps of all jobs, in their order; of a sequence, and of no other.
        detail: whether every step and fill is kept.

    Returns:
        What became of the K jobs.

    Raises:
        InvalidAction: actions that are not of as many steps, or of none of the seven.
    """
    chosen = indices_of("episode", episodes, len(universe))
    begins = np.concatenate([[0], np.cumsum(steps_of(universe.tape, chosen))])
    given = _given(script, int(begins[-1]), actions, rng)
    # as many steps to each thread; chance was drawn before, so their number changes nothing
    threads = min(threads, 1 + int(begins[-1]) // _STEPS_WORTH_A_THREAD)
    shares = np.linspace(0, begins[-1], threads + 1)
    cuts = np.searchsorted(begins[:-1], shares[1:-1]).tolist()
    parts = [np.arange(first, end) for first, end in pairwise([0, *cuts, len(chosen)])]
    parameters = np.array(script.parameters, np.float64)

    def play_share(simulator: Simulator, sheet: Sheet, jobs: Ints) -> None:
        play_script(
            simulator.reel, simulator.state, simulator.rules, int(script.rule), script.looks,
            parameters, given, sheet, jobs,
        )  # fmt: skip

    return play_shares(universe, config, chosen, parts, 1, play_share, detail=detail)


def _given(script: Script, steps: int, actions: Given | None, rng: np.random.Generator) -> Given:
    # a lot or an action for each step
    if script.rule is Rule.ANY:
        return rng.integers(0, 1 << 32, steps, dtype=np.uint32)
    if script.rule is not Rule.SEQUENCE:
        return _NOTHING
    if actions is None or actions.shape != (steps,) or actions.max(initial=0) >= ACTIONS:
        raise InvalidAction(f"a sequence is one of the {ACTIONS} actions for each of {steps} steps")
    return actions


@kernel
def play_script(
    reel: Reel,
    lanes: Lanes,
    rules: Rules,
    rule: int,
    looks: bool,
    parameters: NDArray[np.float64],
    given: Given,
    sheet: Sheet,
    jobs: Ints,
) -> None:
    """Play jobs in the first lane.

    Args:
        reel: the messages.
        lanes: at least one.
        rules: of an episode.
        rule: of `Rule`.
        looks: whether it reads observations.
        parameters: of the rule.
        given: for each step of all jobs what the rule is given; see `choose_by`.
        sheet: written.
        jobs: which of the sheet's.
    """
    for job in jobs:
        begin(reel, lanes, rules, 0, sheet.episode[job])
        ended = 0
        while ended == 0:
            if looks:
                show(reel, lanes, rules, 0)
            lot = int(given[sheet.next[job]]) if len(given) > 0 else 0
            chosen = choose_by(rule, parameters, lot, reel, lanes, rules, 0)
            move(reel, lanes, rules, 0, chosen)
            ended = finish(reel, lanes, rules, 0)
            note_step(sheet, lanes, 0, job, chosen)
        note_end(sheet, lanes, 0, job)
