"""How active markets are, counted in one pass over the rows of their segments."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.market.replay_tables import RowKind

QUARTERS = 4


class Count(IntEnum):
    """Columns of the counts of a market."""

    ROWS = 0
    DELTAS = 1
    STEPS = 2
    KNOWN = 3  # steps before the causal choice is made
    QUARTER = 4  # the first of four: steps by quarter of the market's life
    MOVES = 8  # changes of mid from one two-sided step to the next, zeros included
    MOVES_SQUARED = 9  # sum of their squares, in (half basis points)^2
    SPREADS = 10  # rows with both sides
    SPREAD_TWICE_BP = 11  # twice their median spread
    WIDTH = 12


class ActivityBatch(NamedTuple):
    """Consecutive rows of the book table."""

    time_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    bid_bp: NDArray[np.int32]
    ask_bp: NDArray[np.int32]
    bid_total_centi: NDArray[np.int64]
    ask_total_centi: NDArray[np.int64]


class Lives(NamedTuple):
    """S segments in the order of the book table, and the M markets they belong to."""

    market: NDArray[np.int64]  # [S]
    first_row: NDArray[np.int64]  # [S]
    end_row: NDArray[np.int64]  # [S]
    start_ms: NDArray[np.int64]  # [S]
    lived_ms: NDArray[np.int64]  # [S] life of the market before the segment
    life_ms: NDArray[np.int64]  # [M]
    known_until_ms: NDArray[np.int64]  # [M] when the causal choice is made


class Tally(NamedTuple):
    """What has been counted so far."""

    counts: NDArray[np.int64]  # [M, Count.WIDTH]
    resting_centi: NDArray[np.float64]  # [M] sum over rows of the size of both sides
    spread_rows: NDArray[np.int64]  # [20001] of the market being read: rows by spread
    place: NDArray[np.int64]  # [Place.WIDTH]


class Place(IntEnum):
    """Where the reading stands."""

    ROW = 0
    SEGMENT = 1
    STEP = 2  # next entry of the step rows
    MARKET = 3  # -1 = none yet
    MID = 4  # bid plus ask at the last two-sided step; -1 = none
    LOW = 5  # range of the spreads seen
    HIGH = 6
    WIDTH = 7


_ROWS, _DELTAS, _STEPS, _KNOWN = (
    int(c) for c in (Count.ROWS, Count.DELTAS, Count.STEPS, Count.KNOWN)
)
_QUARTER, _MOVES, _SQUARED = int(Count.QUARTER), int(Count.MOVES), int(Count.MOVES_SQUARED)
_SPREADS, _SPREAD = int(Count.SPREADS), int(Count.SPREAD_TWICE_BP)
_ROW, _SEGMENT, _STEP, _MARKET = (
    int(p) for p in (Place.ROW, Place.SEGMENT, Place.STEP, Place.MARKET)
)
_MID, _LOW, _HIGH = int(Place.MID), int(Place.LOW), int(Place.HIGH)
_DELTA = int(RowKind.DELTA)


def new_tally(markets: int) -> Tally:
    """Nothing counted yet."""
    place = np.zeros(Place.WIDTH, dtype=np.int64)
    place[[Place.MARKET, Place.MID]] = -1
    place[Place.LOW], place[Place.HIGH] = BP_PER_DOLLAR, -BP_PER_DOLLAR
    return Tally(
        np.zeros((markets, Count.WIDTH), dtype=np.int64),
        np.zeros(markets),
        np.zeros(2 * BP_PER_DOLLAR + 1, dtype=np.int64),
        place,
    )


@kernel
def count_rows(
    batch: ActivityBatch, lives: Lives, step_row: NDArray[np.int64], tally: Tally
) -> None:
    """Count the next rows of the book table.

    Args:
        batch: the rows that follow those of the call before.
        lives: every segment of the session.
        step_row: `[T]` rows after which the agent acts, ascending.
        tally: what has been counted; becomes complete with `finish`.
    """
    place = tally.place
    begin = place[_ROW]
    end = begin + len(batch.kind)
    s = place[_SEGMENT]
    while s < len(lives.first_row) and lives.first_row[s] < end:
        if lives.market[s] != place[_MARKET]:
            finish(tally)
            place[_MARKET] = lives.market[s]
        first, last = max(lives.first_row[s], begin), min(lives.end_row[s], end)
        _count_segment(batch, begin, first, last, s, lives, step_row, tally)
        if lives.end_row[s] > end:
            break
        s += 1
    place[_SEGMENT] = s
    place[_ROW] = end


@kernel
def _count_segment(batch, begin, first, last, s, lives, step_row, tally):  # type: ignore[no-untyped-def]
    market, place = lives.market[s], tally.place
    counts = tally.counts[market]
    step = place[_STEP]
    while step < len(step_row) and step_row[step] < first:
        step += 1
    mid_before = place[_MID]
    life = max(lives.life_ms[market], 1)
    for row in range(first, last):
        i = row - begin
        bid, ask = batch.bid_bp[i], batch.ask_bp[i]
        counts[_ROWS] += 1
        counts[_DELTAS] += batch.kind[i] == _DELTA
        tally.resting_centi[market] += batch.bid_total_centi[i] + batch.ask_total_centi[i]
        two_sided = bid > 0 and ask < BP_PER_DOLLAR
        if two_sided:
            spread = ask - bid
            tally.spread_rows[spread + BP_PER_DOLLAR] += 1
            place[_LOW], place[_HIGH] = min(place[_LOW], spread), max(place[_HIGH], spread)
        if step < len(step_row) and step_row[step] == row:
            step += 1
            counts[_STEPS] += 1
            counts[_KNOWN] += batch.time_ms[i] < lives.known_until_ms[market]
            age = lives.lived_ms[s] + batch.time_ms[i] - lives.start_ms[s]
            counts[_QUARTER + min(QUARTERS * age // life, QUARTERS - 1)] += 1
            if two_sided:
                if mid_before >= 0:
                    counts[_MOVES] += 1
                    counts[_SQUARED] += (bid + ask - mid_before) ** 2
                mid_before = bid + ask
    place[_STEP], place[_MID] = step, mid_before


@kernel
def finish(tally: Tally) -> None:
    """Write down the median spread of the market that was being read."""
    market, place = tally.place[_MARKET], tally.place
    if market >= 0 and place[_HIGH] >= place[_LOW]:
        total = 0
        for spread in range(place[_LOW], place[_HIGH] + 1):
            total += tally.spread_rows[spread + BP_PER_DOLLAR]
        lower, upper, seen = (total - 1) // 2, total // 2, 0
        twice = 0
        for spread in range(place[_LOW], place[_HIGH] + 1):
            rows = tally.spread_rows[spread + BP_PER_DOLLAR]
            if seen <= lower < seen + rows:
                twice += spread
            if seen <= upper < seen + rows:
                twice += spread
            seen += rows
            tally.spread_rows[spread + BP_PER_DOLLAR] = 0
        tally.counts[market, _SPREADS] = total
        tally.counts[market, _SPREAD] = twice
    place[_MARKET], place[_MID] = -1, -1
    place[_LOW], place[_HIGH] = BP_PER_DOLLAR, -BP_PER_DOLLAR
