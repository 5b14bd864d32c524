"""Whole episodes under an actor, in one compiled call a thread.

Chance is drawn before the first step, one lot for each step of each episode, so that neither lanes
nor threads nor the other episodes change what becomes of one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.learning.actor import TILE, Actor, Scratch, choose, scratch_of
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.kernel import Lanes, Rules, reset_lanes, step_lanes
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator, indices_of
from kalshi_pipeline.trading.summary import EpisodeSummary
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
) -> tuple[EpisodeSummary, ...]:
    """Play episodes under an actor, four lanes a thread, the longest first.

    Args:
        universe: the episodes.
        actor: who chooses.
        config: rules of an episode.
        episodes: `[K]` which episodes; one may come several times.
        rng: chance, drawn on only where the actor is not greedy.
        threads: that share the episodes.

    Returns:
        K summaries, in the order of `episodes`.
    """
    chosen = indices_of("episode", episodes, len(universe))
    steps = (universe.tape.end_step - universe.tape.first_step)[chosen] - 1
    drawn = 0 if actor.greedy else int(steps.sum())
    # 32 bits a lot: finer than any difference between the networks' probabilities that matters
    lots = rng.integers(0, _LOTS, drawn, dtype=np.uint32)
    first_lot = np.cumsum(steps) - steps

    def play_share(jobs: Ints) -> list[EpisodeSummary]:
        return _play(universe, actor, config, chosen[jobs], lots, first_lot[jobs])

    shares = _shared(steps, threads)
    found: dict[int, EpisodeSummary] = {}
    with ThreadPoolExecutor(threads) as pool:
        for jobs, played in zip(shares, pool.map(play_share, shares), strict=True):
            found.update(zip(jobs.tolist(), played, strict=True))
    return tuple(found[job] for job in range(len(chosen)))


def _shared(steps: Ints, threads: int) -> list[Ints]:
    # the longest first, each to the thread with the least to do; without threads no share is empty
    shares: list[list[int]] = [[] for _ in range(threads)]
    load = [0] * threads
    for job in np.argsort(-steps, kind="stable").tolist():
        idle = load.index(min(load))
        shares[idle].append(job)
        load[idle] += int(steps[job])
    return [np.array(share, np.int64) for share in shares]


def _play(
    universe: Universe, actor: Actor, config: TradingConfig, episodes: Ints,
    lots: NDArray[np.uint32], first_lot: Ints,
) -> list[EpisodeSummary]:  # fmt: skip
    simulator = Simulator(universe, TILE, config)
    accounts = np.zeros((len(episodes), len(Account)), np.int64)
    counts = np.zeros((len(episodes), ACTIONS), np.int64)
    settled = np.zeros(len(episodes), np.bool_)
    play_jobs(
        simulator.reel, simulator.state, simulator.rules, actor, scratch_of(actor),
        _seats(), episodes, lots, first_lot.copy(), accounts, counts, settled,
    )  # fmt: skip
    return EpisodeSummary.of_played(accounts, counts, settled, simulator.tape, config)


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
    episodes: Ints,
    lots: NDArray[np.uint32],
    next_lot: Ints,
    accounts: Ints,
    counts: Ints,
    settled: NDArray[np.bool_],
) -> None:
    """Play episodes in the order given; a lane that is done takes the next.

    Args:
        reel: the messages.
        lanes: `TILE` of them, finished.
        rules: of an episode.
        actor: who chooses.
        scratch: the actor's.
        seats: nobody in them.
        episodes: `[K]`.
        lots: of all steps of all episodes; not read where the actor is greedy.
        next_lot: `[K]` where each episode's lots begin; moved on.
        accounts: `[K, len(Account)]`, written: the accounts in the end.
        counts: `[K, 7]`, written: how often each action was taken.
        settled: `[K]`, written: whether the episode was settled by its market's result.
    """
    waiting = 0
    for lane in range(TILE):
        waiting = _seat(reel, lanes, rules, seats, episodes, lane, waiting)
    rows = _deal(seats, actor, lots, next_lot)
    while rows != 0:
        choose(actor, scratch, lanes.observation, lanes.mask, seats.lot, rows, seats.action)
        ended = step_lanes(reel, lanes, rules, seats.lane, seats.action)
        for lane in range(TILE if ended else 0):
            job = seats.job[lane]
            if job != _EMPTY and (lanes.terminated[lane] or lanes.truncated[lane]):
                for column in range(accounts.shape[1]):
                    accounts[job, column] = lanes.account[lane, column]
                for action in range(ACTIONS):
                    counts[job, action] = lanes.action_counts[lane, action]
                settled[job] = lanes.terminated[lane]
                waiting = _seat(reel, lanes, rules, seats, episodes, lane, waiting)
        rows = _deal(seats, actor, lots, next_lot)


@kernel
def _deal(seats: Seats, actor: Actor, lots: NDArray[np.uint32], next_lot: Ints) -> int:
    # the lot of each lane that runs; bit r is set where lane r does
    rows = 0
    for lane in range(TILE):
        job = seats.job[lane]
        if job != _EMPTY:
            rows |= 1 << lane
            if not actor.greedy:
                seats.lot[lane] = lots[next_lot[job]] / _LOTS
                next_lot[job] += 1
    return rows


@kernel
def _seat(
    reel: Reel, lanes: Lanes, rules: Rules, seats: Seats, episodes: Ints, lane: int, job: int
) -> int:
    # start the next episode in a lane, if there is one left
    if job == len(episodes):
        seats.job[lane] = _EMPTY
        return job
    seats.job[lane] = job
    seats.episode[lane] = episodes[job]
    reset_lanes(reel, lanes, rules, seats.lane[lane : lane + 1], seats.episode[lane : lane + 1])
    return job + 1
