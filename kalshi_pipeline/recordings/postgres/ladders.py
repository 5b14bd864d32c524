"""The four ladders of a snapshot: two conventions, and how mislaid sizes are recovered.

Until 17 December 2025 the collector put each level above 50 cents into the column of the other
side's asks, and looked for it among the bids when it changed: its running size of such a level
starts at nothing, and a decrease below nothing was cut off. What is left is a lower bound of each
decrease. Source: `domain.md` section 2.5.

Sizes are contracts, prices cents, as in the rows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel, kernel
from kalshi_pipeline.market.integrity import Reason

HALF_CENTS = 50  # levels above it were mislaid
_LEVELS = 101
Ladder = dict[int, int]


class Convention(IntEnum):
    """What a snapshot's four ladders mean."""

    EMPTY = 0  # consistent with both
    FIXED = 1  # bids are bids; asks mirror the other side's bids
    LEGACY = 2  # bids above 50 cents stand among the asks
    NEITHER = 3


class Policy(IntEnum):
    """How sizes above 50 cents in legacy rows are recovered; see `config.RecoveryConfig`."""

    AS_RECORDED = 0
    UPPER_BOUND = 1
    REMOVE_STALE = 2
    UNCROSS = 3
    REMOVE_AND_UNCROSS = 4


class Figure(IntEnum):
    """Columns of a market's integrity figures."""

    ROWS = 0
    CLIPPED_ROWS = 1  # a change from nothing to nothing: a decrease that was cut off
    DOUBTFUL_ROWS = 2  # a change to nothing at a level that may have held more
    TOUCHING_ROWS = 3  # rows at a level whose size is in doubt
    MISMATCHES = 4  # the size before the change is not ours
    CROSSED_STATES = 5
    LOCKED_STATES = 6
    REPAIRS = 7
    OBSERVED_MS = 8
    DOUBTFUL_BEST_MS = 9  # time in which a best quote is a level whose size is in doubt
    EMPTY_SNAPSHOTS = 10
    FIXED_SNAPSHOTS = 11
    LEGACY_SNAPSHOTS = 12
    REFUSED_SNAPSHOTS = 13
    REFUSED_ROWS = 14


class Rows(NamedTuple):
    """Rows in replay order (`[R]`); files other than 0 and 1 are passed over."""

    file: NDArray[np.int16]
    market: NDArray[np.int32]
    epoch: NDArray[np.int32]
    seq: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    side: NDArray[np.uint8]
    cents: NDArray[np.int64]
    old: NDArray[np.int64]
    new: NDArray[np.int64]
    snapshot: NDArray[np.int32]  # place of its levels


class Levels(NamedTuple):
    """The levels of all snapshots (`[V]`; `first` is `[S + 1]`)."""

    first: NDArray[np.int64]
    convention: NDArray[np.uint8]  # [S]
    side: NDArray[np.int64]
    cents: NDArray[np.int64]
    contracts: NDArray[np.int64]
    mislaid: NDArray[np.int64]


class Books(NamedTuple):
    """State of M markets between blocks, `[M, 2, 101]` but for the last two."""

    seen: NDArray[np.int64]  # what the collector's book held
    hidden: NDArray[np.int64]  # what of a mislaid snapshot level is taken to be still there
    doubt: NDArray[np.uint8]  # the size is not certain
    touched: NDArray[np.int64]  # when the level last changed, in rows of the market
    best: NDArray[np.int64]  # [M, 2] best level with size; 0 = none
    market: NDArray[np.int64]  # [M, 9] see the slots below


class Repairs(NamedTuple):
    """Levels taken away after a row because they cross the book."""

    row: NDArray[np.int64]
    side: NDArray[np.uint8]
    cents: NDArray[np.int64]
    contracts: NDArray[np.int64]


_EPOCH, _LEGACY, _TIME, _SEQ, _CHANGE, _SIDE, _CENTS, _OLD, _NEW = range(9)
_AS_RECORDED, _REMOVE_STALE = int(Policy.AS_RECORDED), int(Policy.REMOVE_STALE)
_UNCROSS, _BOTH = int(Policy.UNCROSS), int(Policy.REMOVE_AND_UNCROSS)
_LEGACY_CONVENTION = int(Convention.LEGACY)
_DISCONTINUITY = int(Reason.DISCONTINUITY)
_ROWS, _CLIPPED, _DOUBTFUL = int(Figure.ROWS), int(Figure.CLIPPED_ROWS), int(Figure.DOUBTFUL_ROWS)
_TOUCHING, _MISMATCH = int(Figure.TOUCHING_ROWS), int(Figure.MISMATCHES)
_CROSSED, _LOCKED = int(Figure.CROSSED_STATES), int(Figure.LOCKED_STATES)
_REPAIRS, _OBSERVED = int(Figure.REPAIRS), int(Figure.OBSERVED_MS)
_DOUBTFUL_BEST, _EMPTY_SNAPSHOTS = int(Figure.DOUBTFUL_BEST_MS), int(Figure.EMPTY_SNAPSHOTS)
_REFUSED_SNAPSHOTS, _REFUSED_ROWS = int(Figure.REFUSED_SNAPSHOTS), int(Figure.REFUSED_ROWS)


def convention_of(
    yes_bids: Ladder, yes_asks: Ladder, no_bids: Ladder, no_asks: Ladder
) -> Convention:
    """Which convention a snapshot's ladders (cents -> contracts) follow."""
    if not (yes_bids or yes_asks or no_bids or no_asks):
        return Convention.EMPTY
    if yes_asks == _mirror(no_bids) and no_asks == _mirror(yes_bids):
        return Convention.FIXED
    low = all(cents <= HALF_CENTS for cents in (*yes_bids, *no_bids))
    high = all(cents > HALF_CENTS for cents in (*yes_asks, *no_asks))
    return Convention.LEGACY if low and high else Convention.NEITHER


def _mirror(ladder: Ladder) -> Ladder:
    return {100 - cents: size for cents, size in ladder.items()}


def empty_books(markets: int) -> Books:
    """State of markets nothing is known of."""
    market = np.zeros((markets, 9), dtype=np.int64)
    market[:, _EPOCH] = market[:, _SEQ] = -1
    shape = (markets, 2, _LEVELS)
    return Books(
        np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.uint8),
        np.zeros(shape, np.int64), np.zeros((markets, 2), np.int64), market,
    )  # fmt: skip


@allocating_kernel
def recover(
    rows: Rows,
    levels: Levels,
    policy: int,
    strict: bool,
    books: Books,
    change: NDArray[np.int64],
    reason: NDArray[np.uint8],
    repairs: Repairs,
    figures: NDArray[np.int64],
) -> int:
    """Signed changes of the recovered ladders.

    Args:
        rows: `[R]` in order of (connection, seq); rows whose `reason` is set are not looked into.
        levels: of all snapshots.
        policy: `Policy`.
        strict: reject rows whose size before the change is not the collector's.
        books: state, carried from block to block.
        change: output `[R]`, contracts, of the recovered ladder.
        reason: `[R]`, in and out.
        repairs: output, room for every mislaid level.
        figures: `[M, len(Figure)]`, added to.

    Returns:
        How many entries of `repairs` are filled.
    """
    repaired = 0
    for i in range(len(rows.file)):
        m = rows.market[i]
        if m < 0 or rows.file[i] > 1:
            continue
        if reason[i] != 0:
            # the book is not trusted until the next snapshot
            figures[m, _REFUSED_SNAPSHOTS if rows.file[i] == 0 else _REFUSED_ROWS] += 1
            books.market[m, _EPOCH] = -1
        elif rows.file[i] == 0:
            _load(i, m, rows, levels, policy, books)
            figures[m, _EMPTY_SNAPSHOTS + levels.convention[rows.snapshot[i]]] += 1
        else:
            _apply(i, m, rows, policy, strict, books, change, reason, figures)
            if books.market[m, _EPOCH] != rows.epoch[i]:
                continue
            if policy >= _UNCROSS and books.market[m, _LEGACY] == 1:
                repaired = _uncross(i, m, books, repairs, repaired, figures)
            both = books.best[m, 0] + books.best[m, 1]
            if books.best[m, 0] > 0 and books.best[m, 1] > 0 and both >= 100:
                figures[m, _CROSSED if both > 100 else _LOCKED] += 1
    return repaired


@kernel
def _load(i, m, rows, levels, policy, books):  # type: ignore[no-untyped-def]
    books.seen[m] = 0
    books.hidden[m] = 0
    books.doubt[m] = 0
    books.best[m] = 0
    s = rows.snapshot[i]
    for v in range(levels.first[s], levels.first[s + 1]):
        side, cents = levels.side[v], levels.cents[v]
        if levels.mislaid[v]:
            books.hidden[m, side, cents] = levels.contracts[v]
        else:
            books.seen[m, side, cents] = levels.contracts[v]
        books.touched[m, side, cents] = -1
        if levels.mislaid[v] == 0 or policy != _AS_RECORDED:
            books.best[m, side] = max(books.best[m, side], cents)
    books.market[m, _EPOCH] = rows.epoch[i]
    books.market[m, _LEGACY] = levels.convention[s] == _LEGACY_CONVENTION
    books.market[m, _TIME] = rows.time_ms[i]
    books.market[m, _SEQ] = -1


@kernel
def _apply(i, m, rows, policy, strict, books, change, reason, figures):  # type: ignore[no-untyped-def]
    market = books.market[m]
    side, cents, old, new = rows.side[i], rows.cents[i], rows.old[i], rows.new[i]
    figures[m, _ROWS] += 1
    if market[_EPOCH] != rows.epoch[i]:
        change[i] = new - old  # no snapshot to start from: it will not be applied
        return
    if (
        market[_SEQ] == rows.seq[i] and market[_SIDE] == side and market[_CENTS] == cents
        and market[_OLD] == old and market[_NEW] == new
    ):  # fmt: skip
        change[i] = market[_CHANGE]  # the same row twice: the replay sees to it
        return
    _pass_time(m, rows.time_ms[i], books, figures)
    seen, hidden = books.seen[m, side, cents], books.hidden[m, side, cents]
    mislaid = market[_LEGACY] == 1 and cents > HALF_CENTS
    gone = 0
    if old != seen or (old == 0 and new == 0 and not mislaid):
        figures[m, _MISMATCH] += 1
        if strict:  # rows are missing: no book until the next snapshot
            reason[i] = _DISCONTINUITY
            market[_EPOCH] = -1
            return
    elif old == 0 and new == 0:
        figures[m, _CLIPPED] += 1
        books.doubt[m, side, cents] = 1
        if policy in (_REMOVE_STALE, _BOTH):
            gone = hidden
    elif mislaid and new == 0 and hidden > 0:
        figures[m, _DOUBTFUL] += 1
        books.doubt[m, side, cents] = 1
    figures[m, _TOUCHING] += books.doubt[m, side, cents]
    books.seen[m, side, cents] = new
    books.hidden[m, side, cents] = hidden - gone
    books.touched[m, side, cents] = figures[m, _ROWS]
    _rest(m, side, cents, policy, books)
    change[i] = new - seen - (gone if policy != _AS_RECORDED else 0)
    market[_SEQ], market[_CHANGE] = rows.seq[i], change[i]
    market[_SIDE], market[_CENTS], market[_OLD], market[_NEW] = side, cents, old, new


@kernel
def _size(m, side, cents, policy, books):  # type: ignore[no-untyped-def]
    hidden = books.hidden[m, side, cents] if policy != _AS_RECORDED else 0
    return books.seen[m, side, cents] + hidden


@kernel
def _rest(m, side, cents, policy, books):  # type: ignore[no-untyped-def]
    # the best level after a change of this one
    best = books.best[m, side]
    if _size(m, side, cents, policy, books) > 0:
        books.best[m, side] = max(best, cents)
    elif best == cents:
        while best > 0 and _size(m, side, best, policy, books) == 0:
            best -= 1
        books.best[m, side] = best


@kernel
def _pass_time(m, time_ms, books, figures):  # type: ignore[no-untyped-def]
    market = books.market[m]
    spent = time_ms - market[_TIME]
    if spent <= 0:
        return
    figures[m, _OBSERVED] += spent
    if books.doubt[m, 0, books.best[m, 0]] or books.doubt[m, 1, books.best[m, 1]]:
        figures[m, _DOUBTFUL_BEST] += spent
    market[_TIME] = time_ms


@kernel
def _uncross(i, m, books, repairs, repaired, figures):  # type: ignore[no-untyped-def]
    # of the two best levels of a crossed or locked book, the older one that may be stale goes
    while True:
        yes, no = books.best[m, 0], books.best[m, 1]
        if yes == 0 or no == 0 or yes + no < 100:
            return repaired
        stale_yes, stale_no = books.hidden[m, 0, yes] > 0, books.hidden[m, 1, no] > 0
        if not stale_yes and not stale_no:
            return repaired
        side = 0 if stale_yes else 1
        if stale_yes and stale_no and books.touched[m, 1, no] < books.touched[m, 0, yes]:
            side = 1
        cents = books.best[m, side]
        repairs.row[repaired] = i
        repairs.side[repaired] = side
        repairs.cents[repaired] = cents
        repairs.contracts[repaired] = books.hidden[m, side, cents]
        repaired += 1
        figures[m, _REPAIRS] += 1
        books.hidden[m, side, cents] = 0
        books.doubt[m, side, cents] = 1
        _rest(m, side, cents, _UNCROSS, books)
