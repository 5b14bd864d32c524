"""Whole episodes under an actor, in one compiled call a thread.

Chance is drawn before the first step, one lot for each step of each episode, so that neither lanes
nor threads nor the other episodes change what becomes of one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.learning.actor import TILE, Actor, Scratch, choose, scratch_of
from kalshi_pipeline.trading.kernel import Lanes, Rules, reset_lanes, step_lanes
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

_LOTS = 1 << 32
_EMPTY = -1


class Seats(NamedTuple):
    """What stands beside the lanes of one thread."""

    lane: Ints  # [TILE] 0, 1, ...
    job: Ints  # [TILE] what the lane plays; -1 = nothing
    episode: Ints  # [TILE] of the universe
    action: Ints  # [TILE]
    lot: NDArray[np.float64]  # [TILE] in [0, 1)


def play_actor(
    universe: Universe,
    actor: Actor,
    config: TradingConfig,
    episodes: Any,
    rng: np.random.Generator,
    threads: int = 2,
    *,
    detail: bool = False,
) -> Played:
    """Play episodes under an actor, four lanes a thread, the longest first.

    Args:
        universe: the episodes.
        actor: who chooses.
        config: rules of an episode.
        episodes: `[K]` which episodes; one may come several times.
        rng: chance, drawn on only where the actor is not greedy.
        threads: that share the episodes.
        detail: whether every step and fill is kept.

    Returns:
        What became of the K jobs, in the order of `episodes`.
    """
    chosen = indices_of("episode", episodes, len(universe))
    steps = steps_of(universe.tape, chosen)
    drawn = 0 if actor.greedy else int(steps.sum())
    # 32 bits a lot: finer than any difference between the networks' probabilities that matters
    lots = rng.integers(0, _LOTS, drawn, dtype=np.uint32)

    def play_share(simulator: Simulator, sheet: Sheet, jobs: Ints) -> None:
        play_jobs(
            simulator.reel, simulator.state, simulator.rules, actor, scratch_of(actor),
            _seats(), lots, sheet, jobs,
        )  # fmt: skip

    shares = _shared(steps, threads)
    return play_shares(universe, config, chosen, shares, TILE, play_share, detail=detail)


def _shared(steps: Ints, threads: int) -> list[Ints]:
    # the longest first, each to the thread with the least to do; without threads no share is empty
    shares: list[list[int]] = [[] for _ in range(threads)]
    load = [0] * threads
    for job in np.argsort(-steps, kind="stable").tolist():
        idle = load.index(min(load))
        shares[idle].append(job)
        load[idle] += int(steps[job])
    return [np.array(share, np.int64) for share in shares]


def _seats() -> Seats:
    empty = np.full(TILE, _EMPTY, np.int64)
    return Seats(np.arange(TILE), empty, empty.copy(), np.zeros(TILE, np.int64), np.zeros(TILE))


@kernel
def play_jobs(
    reel: Reel,
    lanes: Lanes,
    rules: Rules,
    actor: Actor,
    scratch: Scratch,
    seats: Seats,
    lots: NDArray[np.uint32],
    sheet: Sheet,
    jobs: Ints,
) -> None:
    """Play jobs in the order given; a lane that is done takes the next.

    Args:
        reel: the messages.
        lanes: `TILE` of them, finished.
        rules: of an episode.
        actor: who chooses.
        scratch: the actor's.
        seats: nobody in them.
        lots: of all steps of all jobs; not read where the actor is greedy.
        sheet: written.
        jobs: which of the sheet's.
    """
    waiting = 0
    for lane in range(TILE):
        waiting = _seat(reel, lanes, rules, seats, sheet, jobs, lane, waiting)
    rows = _deal(seats, actor, lots, sheet)
    while rows != 0:
        choose(actor, scratch, lanes.observation, lanes.mask, seats.lot, rows, seats.action)
        step_lanes(reel, lanes, rules, seats.lane, seats.action)
        for lane in range(TILE):
            job = seats.job[lane]
            if job == _EMPTY:
                continue
            note_step(sheet, lanes, lane, job, seats.action[lane])
            if lanes.terminated[lane] or lanes.truncated[lane]:
                note_end(sheet, lanes, lane, job)
                waiting = _seat(reel, lanes, rules, seats, sheet, jobs, lane, waiting)
        rows = _deal(seats, actor, lots, sheet)


@kernel
def _deal(seats: Seats, actor: Actor, lots: NDArray[np.uint32], sheet: Sheet) -> int:
    # the lot of each lane that runs; bit r is set where lane r does
    rows = 0
    for lane in range(TILE):
        job = seats.job[lane]
        if job != _EMPTY:
            rows |= 1 << lane
            if not actor.greedy:
                seats.lot[lane] = lots[sheet.next[job]] / _LOTS
    return rows


@kernel
def _seat(
    reel: Reel,
    lanes: Lanes,
    rules: Rules,
    seats: Seats,
    sheet: Sheet,
    jobs: Ints,
    lane: int,
    waiting: int,
) -> int:
    # start the next job in a lane, if there is one left
    if waiting == len(jobs):
        seats.job[lane] = _EMPTY
        return waiting
    seats.job[lane] = jobs[waiting]
    seats.episode[lane] = sheet.episode[jobs[waiting]]
    reset_lanes(reel, lanes, rules, seats.lane[lane : lane + 1], seats.episode[lane : lane + 1])
    return waiting + 1
