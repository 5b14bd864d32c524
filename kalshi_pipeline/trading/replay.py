"""Applying the rows of a tape to the dense ladder of one lane.

Own fills consume displayed size: `consumed` is what they took at each level since a message last
changed it. A row that leaves the book empty is not applied, so that the ladder always is the last
book with a bid or an ask: the one a truncated episode is marked at.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.tape import RowKind, Tape

Ints = NDArray[np.int64]


@njit(cache=True)
def apply_row(
    tape: Tape, row: int, account: Ints, ladder: Ints, consumed: Ints, step_bp: int
) -> None:
    """Apply one row to a lane's `[2, levels]` ladder and move the mark's mid.

    The mark's mid is (bid + ask) / 2 of the last two-sided book, bounded by the quote that remains
    where one side is empty; before the first two-sided book a missing bid counts as 0, a missing
    ask as 1 dollar. It marks positions only, it is no feature.
    """
    bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
    if bid <= 0 and ask >= BP_PER_DOLLAR:
        account[Account.BOOK_EMPTY] = 1
        return
    if (bid > 0 and ask < BP_PER_DOLLAR) or account[Account.MID2] < 0:
        account[Account.MID2] = bid + ask
    else:
        account[Account.MID2] = min(max(account[Account.MID2], 2 * bid), 2 * ask)
    kind = tape.kind[row]
    if kind == RowKind.TRADE:
        return
    if kind == RowKind.SNAPSHOT or account[Account.BOOK_EMPTY] == 1:
        clear(account, ladder, consumed)
    if kind == RowKind.SNAPSHOT:
        shot = tape.change_centi[row]
        for level in range(tape.snapshot_first[shot], tape.snapshot_first[shot + 1]):
            index = int(tape.level_price_bp[level]) // step_bp
            ladder[int(tape.level_side[level]), index] = tape.level_size_centi[level]
    else:
        side, index = int(tape.side[row]), int(tape.price_bp[row]) // step_bp
        ladder[side, index] += tape.change_centi[row]
        if account[Account.CONSUMED] == 1:
            consumed[side, index] = 0


@njit(cache=True)
def clear(account: Ints, ladder: Ints, consumed: Ints) -> None:
    """Empty a lane's ladder."""
    ladder[:] = 0
    account[Account.BOOK_EMPTY] = 0
    if account[Account.CONSUMED] == 1:
        consumed[:] = 0
        account[Account.CONSUMED] = 0
