"""Orders at the exchange under the `cross` fill model: conservative, because others trade first.

A resting buy at p fills, at p and as a maker, when a row after the one it arrived on

* prints a public trade below p, up to that trade's size, or
* leaves the best ask at or below p, up to what that level shows less what own fills took of it.

Sells mirrored. A taking order is immediate-or-cancel at the touch it meets. One order rests a side:
a new one cancels it first; the same price again keeps the resting order and drops the new one. An
arriving order cancels the own opposite order it would meet.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.trading.actions import BUY, SELL
from kalshi_pipeline.trading.portfolio import (
    FLIGHT,
    Account,
    Order,
    affordable_centi,
    available_micro,
    book_fill,
)
from kalshi_pipeline.trading.tape import RowKind, Tape

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FILL_RATE_DECAY = 0.9


@njit(cache=True)
def end_order(account: Ints, order: Ints, fill_rate: Floats) -> None:
    """Take an order off, filled or not; `fill_rate` `[1]` remembers the share that filled."""
    unfilled = order[Order.REMAINING]
    if unfilled > 0:
        account[Account.CANCELS] += 1
    share = 1.0 - unfilled / order[Order.SIZE]
    fill_rate[0] = FILL_RATE_DECAY * fill_rate[0] + (1.0 - FILL_RATE_DECAY) * share
    order[:] = 0


@njit(cache=True)
def fill_resting(
    tape: Tape,
    row: int,
    side: int,
    account: Ints,
    orders: Ints,
    ladder: Ints,
    consumed: Ints,
    fill_rate: Floats,
    step_bp: int,
    limit_centi: int,
    schedule: Ints,
) -> None:
    """What one row, already applied to the ladder, does to the resting order of a side."""
    order = orders[side]
    price = order[Order.PRICE]
    if tape.kind[row] == RowKind.TRADE:
        printed = int(tape.price_bp[row])
        if printed < price if side == BUY else printed > price:
            size = min(order[Order.REMAINING], tape.change_centi[row])
            execute(
                account, orders, side, price, size, True, limit_centi, schedule,
                int(tape.time_ms[row]), fill_rate,
            )  # fmt: skip
    if order[Order.PRICE] > 0 and meets(side, price, tape.bid_bp[row], tape.ask_bp[row]):
        take_touch(
            tape, row, side, price, True, account, orders, ladder, consumed, fill_rate,
            step_bp, limit_centi, schedule,
        )  # fmt: skip
    if order[Order.PRICE] > 0:
        shown = displayed_centi(account, ladder, side, price, step_bp)
        order[Order.AHEAD] = min(order[Order.AHEAD], shown)


@njit(cache=True)
def arrive(
    tape: Tape,
    row: int,
    account: Ints,
    orders: Ints,
    ladder: Ints,
    consumed: Ints,
    fill_rate: Floats,
    step_bp: int,
    limit_centi: int,
    schedule: Ints,
) -> None:
    """Let the order in flight reach the exchange and meet the book after a row."""
    flight = orders[FLIGHT]
    side, price = flight[Order.SIDE], flight[Order.PRICE]
    resting, opposite = orders[side], orders[1 - side]
    bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
    if opposite[Order.PRICE] > 0 and (
        price >= opposite[Order.PRICE] if side == BUY else price <= opposite[Order.PRICE]
    ):
        end_order(account, opposite, fill_rate)
    if flight[Order.POST_ONLY] == 1 and resting[Order.PRICE] == price:
        flight[:] = 0
        return
    account[Account.ORDERS] += 1
    if resting[Order.PRICE] > 0:
        end_order(account, resting, fill_rate)
    if flight[Order.POST_ONLY] == 0:
        if meets(side, price, bid, ask):
            touch = ask if side == BUY else bid
            take_touch(
                tape, row, side, touch, False, account, orders, ladder, consumed, fill_rate,
                step_bp, limit_centi, schedule,
            )  # fmt: skip
        if flight[Order.PRICE] > 0:
            end_order(account, flight, fill_rate)
        return
    if meets(side, price, bid, ask):
        end_order(account, flight, fill_rate)
        return
    resting[:] = flight
    flight[:] = 0
    resting[Order.ROW] = row
    resting[Order.SINCE_MS] = tape.time_ms[row]
    resting[Order.AHEAD] = displayed_centi(account, ladder, side, price, step_bp)
    held = account[Account.POSITION] if side == BUY else -account[Account.POSITION]
    beyond = held + resting[Order.SIZE] > limit_centi
    if beyond or available_micro(account, orders, schedule) < 0:
        end_order(account, resting, fill_rate)


@njit(cache=True)
def meets(side: int, price_bp: int, bid_bp: int, ask_bp: int) -> bool:
    """Whether an order at this price crosses the opposite quote."""
    if side == BUY:
        return ask_bp < BP_PER_DOLLAR and ask_bp <= price_bp
    return bid_bp > 0 and bid_bp >= price_bp


@njit(cache=True)
def displayed_centi(account: Ints, ladder: Ints, side: int, price_bp: int, step_bp: int) -> int:
    """Size others show at a price on an order's own side."""
    if account[Account.BOOK_EMPTY] == 1:
        return 0
    own_scale = price_bp if side == BUY else BP_PER_DOLLAR - price_bp
    return ladder[side, own_scale // step_bp]


@njit(cache=True)
def take_touch(
    tape: Tape,
    row: int,
    side: int,
    price_bp: int,
    maker: bool,
    account: Ints,
    orders: Ints,
    ladder: Ints,
    consumed: Ints,
    fill_rate: Floats,
    step_bp: int,
    limit_centi: int,
    schedule: Ints,
) -> None:
    """Fill an order against the opposite touch after a row, and remember what it consumed."""
    opposite = 1 - side
    own_scale = int(tape.bid_bp[row]) if side == SELL else BP_PER_DOLLAR - int(tape.ask_bp[row])
    index = own_scale // step_bp
    slot = side if maker else FLIGHT
    shown = ladder[opposite, index] - consumed[opposite, index]
    size = min(orders[slot, Order.REMAINING], shown)
    filled = execute(
        account, orders, slot, price_bp, size, maker, limit_centi, schedule,
        int(tape.time_ms[row]), fill_rate,
    )  # fmt: skip
    if filled > 0:
        consumed[opposite, index] += filled
        account[Account.CONSUMED] = 1


@njit(cache=True)
def execute(
    account: Ints,
    orders: Ints,
    slot: int,
    price_bp: int,
    size_centi: int,
    maker: bool,
    limit_centi: int,
    schedule: Ints,
    time_ms: int,
    fill_rate: Floats,
) -> int:
    """Fill up to `size_centi` of an order, as far as the account can carry it.

    What cannot be carried, now or as a resting remainder, is cancelled.

    Returns:
        The size filled.
    """
    if size_centi <= 0:
        return 0
    order = orders[slot]
    rate = schedule[1] if maker else schedule[0]
    size = affordable_centi(
        account, orders, order, price_bp, size_centi, limit_centi, rate, schedule
    )
    if size > 0:
        book_fill(account, order, price_bp, size, rate, schedule, time_ms)
        account[Account.MAKER_FILLS if maker else Account.TAKER_FILLS] += 1
    if (
        size < size_centi
        or order[Order.REMAINING] == 0
        or available_micro(account, orders, schedule) < 0
    ):
        end_order(account, order, fill_rate)
    return size
