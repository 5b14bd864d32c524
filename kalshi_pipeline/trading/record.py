"""Episodes played whole, and what is kept of them: every step and every fill, where asked for.

Whoever plays, compiled or from Python, writes on a `Sheet`; `play_shares` hands one to each thread
and reads them. A job is one episode to be played, and an episode may be played by several jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import ACTIONS, BUY
from kalshi_pipeline.trading.journal import Entry, EntryKind
from kalshi_pipeline.trading.kernel import Lanes
from kalshi_pipeline.trading.portfolio import SLOTS, Account, tied_micro
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Tape, Universe

Ints = NDArray[np.int64]


class Trace(NamedTuple):
    """Every step of K jobs, T in all, job after job in the order of its steps.

    Equity and position are those the step led to: after the messages up to the next step, after
    settlement or closing liquidation where it was the last.
    """

    first: Ints  # [K + 1] job k's steps are first[k] .. first[k + 1]
    step: Ints  # [T] of the tape, at which the action was chosen
    action: NDArray[np.int8]  # [T]
    equity_micro: Ints  # [T] liquidation
    equity_mid_micro: Ints  # [T]
    position_centi: Ints  # [T] signed
    capital_micro: Ints  # [T] what the position cost and orders reserve


class Fills(NamedTuple):
    """Every fill of K jobs, F in all, job after job in the order they happened."""

    job: Ints  # [F]
    step: Ints  # [F] of the tape, at which the order was decided
    row: Ints  # [F] of the tape, the message it filled on
    time_ms: Ints  # [F] of that message
    side: Ints  # [F] BUY or SELL
    price_bp: Ints  # [F] YES scale
    size_centi: Ints  # [F]
    fee_micro: Ints  # [F]
    taker: NDArray[np.bool_]  # [F]
    improved: NDArray[np.bool_]  # [F] a maker whose price beat its side's best quote as it was sent


@dataclass(frozen=True)
class Played:
    """What became of K jobs; the trace only where detail was asked for."""

    summaries: tuple[EpisodeSummary, ...]
    fills: Fills
    trace: Trace | None = None


class Sheet(NamedTuple):
    """What players write down; without detail there is no room for steps."""

    episode: Ints  # [K] of the universe
    next: Ints  # [K] where a job's next step is written, and its lot lies
    account: Ints  # [K, len(Account)] in the end
    action_counts: Ints  # [K, 7]
    settled: NDArray[np.bool_]  # [K] by the market's result
    action: NDArray[np.int8]  # [T], as in `Trace`
    equity_micro: Ints
    equity_mid_micro: Ints
    position_centi: Ints
    capital_micro: Ints
    filled: Ints  # [1] how many fills there were, those there was no room for included
    fill_job: Ints  # [F]
    fill: Ints  # [F, len(Entry)]


# plays some jobs in a simulator's lanes, which are finished, and writes them on a sheet
Play = Callable[[Simulator, Sheet, Ints], None]


def steps_of(tape: Tape, episodes: Ints) -> Ints:
    """`[K]` actions that episodes take."""
    return (tape.end_step - tape.first_step)[episodes] - 1


def play_shares(
    universe: Universe,
    config: TradingConfig,
    episodes: Ints,
    shares: Sequence[Ints],
    lanes: int,
    play: Play,
    *,
    detail: bool,
) -> Played:
    """Play jobs, a share of them in each thread.

    Args:
        universe: the episodes.
        config: rules of an episode.
        episodes: `[K]` what each job plays.
        shares: job numbers; together all of them, each once.
        lanes: of each thread's simulator.
        play: called once a share, and again, to do the same, where a share had more fills than
            were made room for.
        detail: whether the trace is kept.
    """
    first = np.concatenate([[0], np.cumsum(steps_of(universe.tape, episodes))]).astype(np.int64)
    sheet = _empty_sheet(episodes, int(first[-1]) if detail else 0)
    journal = _journal_room(config)

    def play_share(jobs: Ints) -> Sheet:
        room = _fill_room(int(np.diff(first)[jobs].sum()))
        while True:
            own = sheet._replace(
                next=first[:-1].copy(),  # a cache line of its own for each thread
                filled=np.zeros(1, np.int64),
                fill_job=np.zeros(room, np.int64),
                fill=np.zeros((room, len(Entry)), np.int64),
            )
            play(Simulator(universe, lanes, config, journal), own, jobs)
            if own.filled[0] <= room:
                return own
            room = int(own.filled[0])

    if len(shares) == 1:  # starting a thread costs more than a short episode
        sheets = [play_share(shares[0])]
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            sheets = list(pool.map(play_share, shares))
    summaries = EpisodeSummary.of_played(
        sheet.account, sheet.action_counts, sheet.settled, universe.tape, config
    )
    trace = _trace(universe.tape, sheet, first) if detail else None
    return Played(tuple(summaries), _fills(universe.tape, sheets), trace)


def _empty_sheet(episodes: Ints, steps: int) -> Sheet:
    jobs = len(episodes)
    return Sheet(
        episode=episodes,
        next=np.zeros(0, np.int64),
        account=np.zeros((jobs, len(Account)), np.int64),
        action_counts=np.zeros((jobs, ACTIONS), np.int64),
        settled=np.zeros(jobs, np.bool_),
        action=np.zeros(steps, np.int8),
        equity_micro=np.zeros(steps, np.int64),
        equity_mid_micro=np.zeros(steps, np.int64),
        position_centi=np.zeros(steps, np.int64),
        capital_micro=np.zeros(steps, np.int64),
        filled=np.zeros(1, np.int64),
        fill_job=np.zeros(0, np.int64),
        fill=np.zeros((0, len(Entry)), np.int64),
    )


def _journal_room(config: TradingConfig) -> int:
    # the most entries of one step: each order fills a centi at a time, rests once and ends once
    return SLOTS * (config.order_size_centi + 3)


def _fill_room(steps: int) -> int:
    # more than one fill a step is rare; memory that is not written to costs nothing
    return steps + 1_024


def _trace(tape: Tape, sheet: Sheet, first: Ints) -> Trace:
    begins = tape.first_step[sheet.episode] - first[:-1]
    step = np.repeat(begins, np.diff(first)) + np.arange(first[-1])
    return Trace(
        first, step, sheet.action, sheet.equity_micro, sheet.equity_mid_micro,
        sheet.position_centi, sheet.capital_micro,
    )  # fmt: skip


def _fills(tape: Tape, sheets: Sequence[Sheet]) -> Fills:
    counts = [int(sheet.filled[0]) for sheet in sheets]
    jobs = np.concatenate([s.fill_job[:n] for s, n in zip(sheets, counts, strict=True)])
    entries = np.concatenate([s.fill[:n] for s, n in zip(sheets, counts, strict=True)])
    order = np.argsort(jobs, kind="stable")
    entries = entries[order]
    step, side, price = (entries[:, column] for column in (Entry.ORDER, Entry.SIDE, Entry.PRICE))
    taker = entries[:, Entry.DETAIL] == 1
    seen = tape.step_row[step]
    better = np.where(side == BUY, price > tape.bid_bp[seen], price < tape.ask_bp[seen])
    return Fills(
        job=jobs[order],
        step=step,
        row=entries[:, Entry.ROW],
        time_ms=entries[:, Entry.TIME_MS],
        side=side,
        price_bp=price,
        size_centi=entries[:, Entry.SIZE],
        fee_micro=entries[:, Entry.FEE],
        taker=taker,
        improved=better & ~taker,
    )


@part
def note_step(sheet: Sheet, lanes: Lanes, lane: int, job: int, action: int) -> None:
    """Write down the step a lane just took."""
    at = sheet.next[job]
    sheet.next[job] = at + 1
    if len(sheet.action) > 0:
        _note_state(sheet, lanes.account[lane], at, action)
    if lanes.account[lane, Account.JOURNALLED] > 0:
        _note_fills(
            sheet.filled, sheet.fill_job, sheet.fill, lanes.account[lane], lanes.journal[lane], job
        )


# calls of their own, without what they need not: the loop they are called from stays small
@kernel
def _note_state(sheet: Sheet, account: Ints, at: int, action: int) -> None:
    sheet.action[at] = action
    sheet.equity_micro[at] = account[Account.EQUITY]
    sheet.equity_mid_micro[at] = account[Account.EQUITY_MID]
    sheet.position_centi[at] = account[Account.POSITION]
    sheet.capital_micro[at] = tied_micro(account, account[Account.AVAILABLE])


@kernel
def _note_fills(
    filled: Ints, jobs: Ints, fills: Ints, account: Ints, journal: Ints, job: int
) -> None:
    for place in range(account[Account.JOURNALLED]):
        if journal[place, Entry.KIND] == EntryKind.FILLED:
            at = filled[0]
            filled[0] = at + 1
            if at < len(fills):
                jobs[at] = job
                for column in range(journal.shape[1]):
                    fills[at, column] = journal[place, column]
    account[Account.JOURNALLED] = 0


@part
def note_end(sheet: Sheet, lanes: Lanes, lane: int, job: int) -> None:
    """Write down what became of the episode a lane just ended."""
    for column in range(sheet.account.shape[1]):
        sheet.account[job, column] = lanes.account[lane, column]
    for action in range(ACTIONS):
        sheet.action_counts[job, action] = lanes.action_counts[lane, action]
    sheet.settled[job] = lanes.terminated[lane]


@kernel
def note_lanes(sheet: Sheet, lanes: Lanes, which: Ints, job_of_lane: Ints, actions: Ints) -> None:
    """Write down the step some lanes just took, and the end of those that ended.

    Args:
        sheet: written.
        lanes: all of them.
        which: took a step.
        job_of_lane: `[N]` what each lane plays.
        actions: `[N]` of the step.
    """
    for lane in which:
        note_step(sheet, lanes, lane, job_of_lane[lane], actions[lane])
        if lanes.terminated[lane] or lanes.truncated[lane]:
            note_end(sheet, lanes, lane, job_of_lane[lane])
