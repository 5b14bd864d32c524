"""The daily loss limit: once a day's loss reaches it, only what reduces the position is allowed.

The day is that of UTC, in market time. Its loss is the fall of liquidation equity since the last
step of the day before (the episode's first day: since its start), looked at on every step. From the
step on which it reaches the limit until the day ends, every order is reduce-only, whatever equity
does: its mask needs a position on the other side, fills are cut to that position, and what rests on
the other side is cancelled there and then. An order in flight is cut when it arrives.

Source: training plan, section 8.2; reduce_only of Kalshi's order endpoint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.trading.actions import BUY, SELL
from kalshi_pipeline.trading.fills import end_order
from kalshi_pipeline.trading.journal import EndReason
from kalshi_pipeline.trading.portfolio import REDUCE_ONLY, Account, Order, held_centi

Ints = NDArray[np.int64]

DAY_MS = 86_400_000


@part
def limit_in_force(account: Ints, limit_centi: int) -> int:
    """The position limit of a lane, REDUCE_ONLY after the day's loss."""
    return REDUCE_ONLY if account[Account.STOPPED] == 1 else limit_centi


@kernel
def watch_day(
    account: Ints,
    journal: Ints,
    orders: Ints,
    loss_limit_micro: int,
    before_micro: int,
    now_ms: int,
) -> None:
    """Look at the day's loss on a step.

    Args:
        account: columns of `Account`, marked on this step.
        journal: of the lane.
        orders: the slots.
        loss_limit_micro: positive.
        before_micro: equity of the step before.
        now_ms: market time.
    """
    day = now_ms // DAY_MS
    if day != account[Account.DAY]:
        account[Account.DAY] = day
        account[Account.DAY_EQUITY] = before_micro
        account[Account.STOPPED] = 0
    if account[Account.DAY_EQUITY] - account[Account.EQUITY] >= loss_limit_micro:
        account[Account.STOPPED] = 1
    if account[Account.STOPPED] == 1:
        for side in (BUY, SELL):
            if orders[side, Order.PRICE] > 0 and held_centi(account, side) >= 0:
                end_order(account, journal, orders[side], now_ms, EndReason.LOSS_LIMIT)
