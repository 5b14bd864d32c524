"""Applying the rows of a tape to the dense ladder of one lane.

A row that leaves the book empty is not applied, so that the ladder always is the last book with a
bid or an ask: the one a truncated episode is marked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.trading.marks import next_mid2
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.tape import RowKind

Ints = NDArray[np.int64]


class Message(NamedTuple):
    """One row of the tape."""

    row: int
    time_ms: int
    kind: int
    side: int
    price_bp: int
    change_centi: int
    bid_bp: int
    ask_bp: int


@part
def apply_message(
    message: Message, account: Ints, ladder: Ints, consumed: Ints, grid_step_bp: int
) -> None:
    """Apply a message, but for the levels of a snapshot, and move the mark's mid.

    The mid (`marks`) marks positions only, it is no feature.
    """
    bid, ask = message.bid_bp, message.ask_bp
    if bid <= 0 and ask >= BP_PER_DOLLAR:
        account[Account.BOOK_EMPTY] = 1
        return
    account[Account.BID] = bid
    account[Account.ASK] = ask
    account[Account.MID2] = next_mid2(account[Account.MID2], bid, ask)
    if message.kind == RowKind.TRADE:
        return
    if message.kind == RowKind.SNAPSHOT or account[Account.BOOK_EMPTY] == 1:
        clear(account, ladder, consumed)
    if message.kind == RowKind.DELTA:
        index = message.price_bp // grid_step_bp
        ladder[message.side, index] += message.change_centi
        if account[Account.CONSUMED] == 1:
            consumed[message.side, index] = 0


@kernel
def clear(account: Ints, ladder: Ints, consumed: Ints) -> None:
    """Empty a lane's ladder."""
    for side in range(2):
        ladder[side, :] = 0
    account[Account.BOOK_EMPTY] = 0
    if account[Account.CONSUMED] == 1:
        for side in range(2):
            consumed[side, :] = 0
        account[Account.CONSUMED] = 0
