"""Orders at the exchange, and the three fill models of resting ones.

A resting buy at p fills, at p and as a maker, on a message after the one it arrived on:

* `cross`, conservative, because all others trade first: the message prints a public trade below p,
  up to that trade's size; or it leaves the best ask at or below p, up to what that level shows less
  what own fills took of it.
* `queue`: as `cross`; and, before the best ask is looked at, up to what passes the queue ahead of
  it at p (`queue`).
* `touch`, an upper bound only: on the very next message, whole.

Whatever one fills, by any message, the next has filled by then, for a single order that cash can
carry. Sells mirrored. A taking order is immediate-or-cancel at the touch it meets. One order rests
a side: a new one cancels it first; the same price again keeps the resting order and drops the new
one. An arriving order cancels the own opposite order it would meet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.journal import EndReason, EntryKind, write_end, write_entry
from kalshi_pipeline.trading.portfolio import (
    FLIGHT,
    SLOTS,
    Account,
    FillModel,
    Lane,
    Order,
    affordable_centi,
    available_micro,
    book_fill,
    fits,
    held_centi,
)
from kalshi_pipeline.trading.queue import join_queue, pass_queue, prints_at
from kalshi_pipeline.trading.replay import Message
from kalshi_pipeline.trading.tape import RowKind

Ints = NDArray[np.int64]

FILL_RATE_UNIT = 10**9


@part
def concerns(side: int, price_bp: int, message: Message, fill_model: int) -> bool:
    """Whether a message can fill the resting order at a price (0 = none) or change its queue."""
    if price_bp == 0:
        return False
    if fill_model == FillModel.TOUCH:
        return True
    if message.kind == RowKind.SNAPSHOT or meets(side, price_bp, message.bid_bp, message.ask_bp):
        return True
    if message.kind == RowKind.TRADE:
        return prints_through(side, price_bp, message) or (
            fill_model == FillModel.QUEUE and prints_at(side, price_bp, message)
        )
    own_scale_bp = price_bp if side == BUY else BP_PER_DOLLAR - price_bp
    return message.side == side and message.price_bp == own_scale_bp


@part
def prints_through(side: int, price_bp: int, message: Message) -> bool:
    """Whether a trade prints at a price worse for its taker than a resting order's."""
    return message.price_bp < price_bp if side == BUY else message.price_bp > price_bp


@kernel
def fill_resting(lane: Lane, side: int, message: Message) -> None:
    """What one message, already applied to the ladder, does to the resting order of a side."""
    order = lane.orders[side]
    price = order[Order.PRICE]
    reached = 0
    if message.kind == RowKind.TRADE and prints_through(side, price, message):
        reached = message.change_centi
    if lane.fill_model == FillModel.QUEUE:
        shown = displayed_centi(lane, side, price)
        reached += pass_queue(order, side, message, shown, lane.alpha_pct)
    elif lane.fill_model == FillModel.TOUCH:
        reached = order[Order.REMAINING]
    if reached > 0:
        size = min(order[Order.REMAINING], reached)
        execute(lane, side, price, size, message)
    if order[Order.PRICE] > 0 and meets(side, price, message.bid_bp, message.ask_bp):
        take_touch(lane, side, price, message)
    if order[Order.PRICE] > 0:
        order[Order.AHEAD] = min(order[Order.AHEAD], displayed_centi(lane, side, price))


@kernel
def arrive(lane: Lane, message: Message) -> None:
    """Let the order in flight reach the exchange and meet the book after a message."""
    flight = lane.orders[FLIGHT]
    side, price = flight[Order.SIDE], flight[Order.PRICE]
    resting, opposite = lane.orders[side], lane.orders[1 - side]
    if opposite[Order.PRICE] > 0:
        meets_own = (
            price >= opposite[Order.PRICE] if side == BUY else price <= opposite[Order.PRICE]
        )
        if meets_own:
            end_order(lane.account, lane.journal, opposite, message.time_ms, EndReason.MET_OWN)
    if flight[Order.POST_ONLY] == 1 and resting[Order.PRICE] == price:
        write_end(lane.account, lane.journal, flight, message.time_ms, EndReason.UNCHANGED)
        flight[:] = 0
        return
    lane.account[Account.ORDERS] += 1
    if resting[Order.PRICE] > 0:
        end_order(lane.account, lane.journal, resting, message.time_ms, EndReason.REPLACED)
    crosses = meets(side, price, message.bid_bp, message.ask_bp)
    if flight[Order.POST_ONLY] == 1 and not crosses:
        rest(lane, side, message)
        return
    if flight[Order.POST_ONLY] == 0 and crosses:
        touch = message.ask_bp if side == BUY else message.bid_bp
        take_touch(lane, FLIGHT, touch, message)
    if flight[Order.PRICE] > 0:
        why = EndReason.WOULD_CROSS if flight[Order.POST_ONLY] == 1 else EndReason.NOT_FILLED
        end_order(lane.account, lane.journal, flight, message.time_ms, why)


@part
def rest(lane: Lane, side: int, message: Message) -> None:
    """Put the order in flight into the book, if the account still carries it."""
    order = lane.orders[side]
    for column in range(len(order)):
        order[column] = lane.orders[FLIGHT, column]
    lane.orders[FLIGHT, :] = 0
    order[Order.ROW] = message.row
    order[Order.SINCE_MS] = message.time_ms
    join_queue(order, displayed_centi(lane, side, order[Order.PRICE]))
    write_entry(
        lane.account, lane.journal, order, EntryKind.RESTED, message.time_ms,
        order[Order.PRICE], order[Order.SIZE], 0, 0, -1,
    )  # fmt: skip
    if (
        not fits(lane.limit_centi, held_centi(lane.account, side), order[Order.SIZE])
        or available_micro(lane.account, lane.orders, lane.fees) < 0
    ):
        end_order(lane.account, lane.journal, order, message.time_ms, EndReason.NOT_CARRIED)


@part
def take_touch(lane: Lane, slot: int, price_bp: int, message: Message) -> None:
    """Fill an order against the opposite touch and remember what it consumed."""
    order = lane.orders[slot]
    if order[Order.SIDE] == BUY:
        ladder, own_scale_bp = 1, BP_PER_DOLLAR - message.ask_bp
    else:
        ladder, own_scale_bp = 0, message.bid_bp
    index = own_scale_bp // lane.grid_step_bp
    shown = lane.ladder[ladder, index] - lane.consumed[ladder, index]
    filled = execute(lane, slot, price_bp, min(order[Order.REMAINING], shown), message)
    if filled > 0:
        lane.consumed[ladder, index] += filled
        lane.account[Account.CONSUMED] = 1


@part
def execute(lane: Lane, slot: int, price_bp: int, size_centi: int, message: Message) -> int:
    """Fill up to `size_centi` of an order, as far as the account can carry it.

    What cannot be carried, now or as a resting remainder, is cancelled.

    Args:
        lane: the episode.
        slot: FLIGHT takes; a resting slot makes.
        price_bp: of the fill.
        size_centi: offered.
        message: it fills on.

    Returns:
        The size filled.
    """
    if size_centi <= 0:
        return 0
    account, order, time_ms = lane.account, lane.orders[slot], message.time_ms
    rate = lane.fees.taker_rate_bp if slot == FLIGHT else lane.fees.maker_rate_bp
    size = affordable_centi(lane, order, price_bp, size_centi, rate)
    if size > 0:
        fees = account[Account.FEES]
        book_fill(account, order, price_bp, size, rate, lane.fees, time_ms)
        write_entry(
            account, lane.journal, order, EntryKind.FILLED, time_ms,
            price_bp, size, account[Account.FEES] - fees, 1 if slot == FLIGHT else 0,
            message.row,
        )  # fmt: skip
        account[Account.TAKER_FILLS if slot == FLIGHT else Account.MAKER_FILLS] += 1
    if (
        size < size_centi
        or order[Order.REMAINING] == 0
        or available_micro(account, lane.orders, lane.fees) < 0
    ):
        end_order(account, lane.journal, order, time_ms, EndReason.NOT_CARRIED)
    return size


@kernel
def end_order(account: Ints, journal: Ints, order: Ints, time_ms: int, reason: int) -> None:
    """Take an order off, filled or not, and remember the share that filled."""
    write_end(account, journal, order, time_ms, reason)
    unfilled = order[Order.REMAINING]
    if unfilled > 0:
        account[Account.CANCELS] += 1
    share = (order[Order.SIZE] - unfilled) * FILL_RATE_UNIT // order[Order.SIZE]
    account[Account.FILL_RATE] = (9 * account[Account.FILL_RATE] + share) // 10
    order[:] = 0


@kernel
def cancel_all(account: Ints, journal: Ints, orders: Ints, time_ms: int) -> None:
    """End what is in flight and what rests, because the episode ends."""
    if orders[FLIGHT, Order.PRICE] > 0:
        account[Account.ORDERS] += 1
    for slot in range(SLOTS):
        if orders[slot, Order.PRICE] > 0:
            end_order(account, journal, orders[slot], time_ms, EndReason.EPISODE_OVER)


@part
def meets(side: int, price_bp: int, bid_bp: int, ask_bp: int) -> bool:
    """Whether an order at this price crosses the opposite quote."""
    if side == BUY:
        return ask_bp < BP_PER_DOLLAR and ask_bp <= price_bp
    return bid_bp > 0 and bid_bp >= price_bp


@part
def displayed_centi(lane: Lane, side: int, price_bp: int) -> int:
    """Size others show at a price on an order's own side."""
    if lane.account[Account.BOOK_EMPTY] == 1:
        return 0
    own_scale_bp = price_bp if side == BUY else BP_PER_DOLLAR - price_bp
    return int(lane.ladder[side, own_scale_bp // lane.grid_step_bp])
