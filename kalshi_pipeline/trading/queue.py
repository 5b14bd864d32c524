"""The queue ahead of a resting order: what passes it under the `queue` fill model.

Let A be the size others show at the order's price when it arrives, and since then T what public
trades printed at that price whose taker met this side, D the sum of all falls of the size shown
there. A trade and the fall it makes are two messages, in either order, and nothing ties them
together; so they are not matched one by one, only their sums are compared. U = max(D - T, 0) are
the decreases no trade explains so far, and of them R counts as traded, at the front of the queue:

* R is at least the share alpha of U, rounded down to 0.01 contract;
* what a late trade explains leaves R, so that one event never shrinks the queue twice;
* the queue ahead is max(A - T - R, 0), and never more than the level still shows: where it would
  be, R rises by the excess.

What T + R exceeds A by has passed the queue and reaches the order. T + R never falls, and at every
message it is the larger the larger alpha is. Nothing later than the message is read.

Source: the plan's fill models; the pessimistic, proportional and optimistic reading of decreases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.trading.portfolio import Order
from kalshi_pipeline.trading.replay import Message
from kalshi_pipeline.trading.tape import RowKind

Ints = NDArray[np.int64]


@part
def prints_at(side: int, price_bp: int, message: Message) -> bool:
    """Whether a trade prints at a resting order's price, its taker on the other side."""
    return message.price_bp == price_bp and message.side == 1 - side


@kernel
def join_queue(order: Ints, shown_centi: int) -> None:
    """Put an order behind what the level shows."""
    order[Order.AHEAD] = shown_centi
    order[Order.SHOWN] = shown_centi  # after the last message
    order[Order.UNMATCHED] = 0  # T - D
    order[Order.PRESUMED] = 0  # R


@kernel
def pass_queue(order: Ints, side: int, message: Message, shown_centi: int, alpha_pct: int) -> int:
    """Move the queue ahead of a resting order by one message.

    Args:
        order: the slot.
        side: BUY or SELL.
        message: already applied to the ladder.
        shown_centi: size others show at the order's price after it.
        alpha_pct: share of the unexplained decreases that counts as traded, 1/100.

    Returns:
        The size that passed the queue with this message.
    """
    printed = 0
    if message.kind == RowKind.TRADE and prints_at(side, order[Order.PRICE], message):
        printed = message.change_centi
    unexplained_before = max(-order[Order.UNMATCHED], 0)
    order[Order.UNMATCHED] += printed - max(order[Order.SHOWN] - shown_centi, 0)
    order[Order.SHOWN] = shown_centi
    unexplained = max(-order[Order.UNMATCHED], 0)
    explained = max(unexplained_before - unexplained, 0)
    before = order[Order.PRESUMED]
    presumed = max(unexplained * alpha_pct // 100, before - explained)
    gone = printed + presumed - before
    passed = max(gone - order[Order.AHEAD], 0)
    ahead = order[Order.AHEAD] - (gone - passed)
    order[Order.AHEAD] = min(ahead, shown_centi)
    order[Order.PRESUMED] = presumed + max(ahead - shown_centi, 0)
    return int(passed)
