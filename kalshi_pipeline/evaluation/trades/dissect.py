"""Fills -> where an episode's profit came from, and what the market did after each.

With x the position after a fill and m the mark's mid, an episode's profit is

    spread      sum over fills of the signed size times (m - price): earned > 0, paid < 0
    - fees      of the fills
    drift       sum over fills of x times the change of m to the next fill, or to the end
    settlement  what the position left at the end brought, less x m: settlement, or the liquidation
                it is marked at, whose taker fee is in it

and nothing else, to the micro-dollar. The m of a fill is that of the book it met: for a maker the
one before the message it filled on, for a taker the one its order arrived at.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.evaluation.trades.control import held_to_the_end
from kalshi_pipeline.evaluation.trades.lots import Lots, fifo_lots
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.record import Fills, Played
from kalshi_pipeline.trading.tape import Tape, Universe

Ints = NDArray[np.int64]
HORIZONS_S = (1, 10, 60)
NO_MID = -1
THIN_CENTI = 1_000  # a touch of under 10 contracts: one's own would have been seen
STALE_MS = 600_000


class Flag(IntFlag):
    """What makes a fill doubtful."""

    THIN_TOUCH = 1  # the touch it took from (taker) or stood at (maker) showed under 10 contracts
    STALE_BOOK = 2  # no message for 10 minutes before the one it filled on
    IMPROVED = 4  # a quote better than the best: others would have answered it


class Split(NamedTuple):
    """Profit of K jobs in parts: `spread - fees + drift + settlement`."""

    spread_micro: Ints  # [K]
    fees_micro: Ints  # [K]
    drift_micro: Ints  # [K]
    settlement_micro: Ints  # [K]


class Dissection(NamedTuple):
    """K jobs, their F fills and L round trips, and what is known of each."""

    episode: Ints  # [K] of the universe
    fills: Fills
    lots: Lots
    matched_micro: Ints  # [L] what each lot would have gained held to the end of the episode
    split: Split
    book_row: Ints  # [F] of the tape: the book a fill met
    mid2_bp: Ints  # [F] twice the mark's mid of that book
    later_mid2_bp: Ints  # [len(HORIZONS_S), F] after so long; -1 where the segment ends before
    age_ms: Ints  # [F] from the message before to the one it filled on
    flags: Ints  # [F] bits of `Flag`
    position_centi: Ints  # [F] after it
    cash_micro: Ints  # [F] after it


def dissect(universe: Universe, played: Played, config: TradingConfig) -> Dissection:
    """Look at every fill of what was played.

    Args:
        universe: what was played.
        played: K jobs.
        config: its rules.
    """
    tape, fills = universe.tape, played.fills
    episodes = np.array([summary.episode for summary in played.summaries], np.int64)
    pnl = np.array([summary.pnl_micro for summary in played.summaries], np.int64)
    signed = np.where(fills.side == BUY, fills.size_centi, -fills.size_centi)
    ends = np.searchsorted(fills.job, np.arange(len(episodes) + 1))
    position = _running(signed, ends)
    earned = _running(-signed * fills.price_bp - fills.fee_micro, ends)
    worth = pnl - _last(earned, ends)
    book_row = np.where(fills.taker, fills.row, fills.row - 1)
    touch, age = _touch(tape, fills, book_row), fills.time_ms - tape.time_ms[fills.row - 1]
    flags = (
        np.where(touch < THIN_CENTI, Flag.THIN_TOUCH, 0)
        | np.where(age > STALE_MS, Flag.STALE_BOOK, 0)
        | np.where(fills.improved, Flag.IMPROVED, 0)
    ).astype(np.int64)
    lots = fifo_lots(fills, worth, flags)
    later = np.full((len(HORIZONS_S), len(fills.job)), NO_MID, np.int64)
    end_row = tape.end_row[episodes]
    look_ahead(
        tape.time_ms, universe.mid2_bp, fills.row, fills.time_ms, end_row[fills.job],
        np.array(HORIZONS_S, np.int64) * 1_000, later,
    )  # fmt: skip
    mid2 = universe.mid2_bp[book_row]
    return Dissection(
        episode=episodes,
        fills=fills,
        lots=lots,
        matched_micro=held_to_the_end(tape, episodes, fills, lots, fees=config.fees),
        split=_split(fills, signed, position, mid2, universe.mid2_bp[end_row - 1], worth, ends),
        book_row=book_row,
        mid2_bp=mid2,
        later_mid2_bp=later,
        age_ms=age,
        flags=flags,
        position_centi=position,
        cash_micro=config.cash_start_micro + earned,
    )


def _split(
    fills: Fills, signed: Ints, position: Ints, mid2: Ints, end_mid2: Ints, worth: Ints, ends: Ints
) -> Split:
    # twice the money, so that a mid of half a tick stays whole
    spread2 = _summed(signed * (mid2 - 2 * fills.price_bp), ends)
    next_mid2 = np.empty_like(mid2)
    next_mid2[:-1] = mid2[1:]
    last = ends[1:][np.diff(ends) > 0] - 1
    next_mid2[last] = end_mid2[np.diff(ends) > 0]
    drift2 = _summed(position * (next_mid2 - mid2), ends)
    settlement2 = 2 * worth - _last(position, ends) * end_mid2
    spread, settlement = spread2 // 2, settlement2 // 2
    # a half micro-dollar of either goes with the drift
    drift = (drift2 + spread2 % 2 + settlement2 % 2) // 2
    return Split(spread, _summed(fills.fee_micro, ends), drift, settlement)


def _touch(tape: Tape, fills: Fills, book_row: Ints) -> Ints:
    # a buyer takes from the ask and makes at the bid
    at_ask = (fills.side == BUY) == fills.taker
    sizes: Ints = np.where(at_ask, tape.ask_size_centi[book_row], tape.bid_size_centi[book_row])
    return sizes


def _running(values: Ints, ends: Ints) -> Ints:
    """`[F]` sum up to each fill within its job."""
    total = np.cumsum(values)
    before = np.concatenate([[0], total])[ends[:-1]]
    sums: Ints = total - np.repeat(before, np.diff(ends))
    return sums


def _summed(values: Ints, ends: Ints) -> Ints:
    """`[K]` sum over each job."""
    sums: Ints = np.diff(np.concatenate([[0], np.cumsum(values)])[ends]).astype(np.int64)
    return sums


def _last(running: Ints, ends: Ints) -> Ints:
    """`[K]` the value after a job's last fill; 0 without fills."""
    padded = np.append(running, 0)
    last: Ints = np.where(np.diff(ends) > 0, padded[ends[1:] - 1], 0)
    return last


@kernel
def look_ahead(
    time_ms: Ints,
    mid2: Ints,
    row: Ints,
    filled_ms: Ints,
    end_row: Ints,
    horizons_ms: Ints,
    later: Ints,
) -> None:
    """Twice the mid some time after each fill; for judging only, no policy ever sees it.

    Args:
        time_ms: `[R]` of the tape.
        mid2: `[R]` twice the mark's mid.
        row: `[F]` of the fill.
        filled_ms: `[F]`.
        end_row: `[F]` of its episode, exclusive.
        horizons_ms: `[H]`.
        later: `[H, F]`, written where the segment lasts so long.
    """
    for h in range(len(horizons_ms)):
        for fill in range(len(row)):
            until = filled_ms[fill] + horizons_ms[h]
            low, high = row[fill], end_row[fill] - 1
            if time_ms[high] < until:
                continue
            while low < high:  # the last message not after it
                middle = (low + high + 1) // 2
                if time_ms[middle] <= until:
                    low = middle
                else:
                    high = middle - 1
            later[h, fill] = mid2[low]
