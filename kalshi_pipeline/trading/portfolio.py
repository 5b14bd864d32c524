"""The account of one episode, in exact integers.

With x the signed position and L the running sum of linear cash flows (buy n at p: -n p; sell n at
p: +n p; fees: -fee) on top of the starting cash,

    available cash before reservations   A = L - 1 dollar * max(-x, 0)
    value of the position at v           V = x v if x >= 0 else |x| (1 - v)
    equity                               E = A + V = L + x v.

Selling when flat buys NO and costs 1 - p; opposite holdings net to 1 dollar. Money is price_bp *
size_centi, 1e-6 dollar. Source: Kalshi API documentation, "order direction" and "positions".
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.market.fees import (
    Fees,
    fee_product,
    fill_fee_micro,
    up_to_cent_micro,
    worst_fee_micro,
)
from kalshi_pipeline.trading.actions import BUY, SELL

Ints = NDArray[np.int64]


class Account(IntEnum):
    """Columns of an episode's account, int64."""

    EPISODE = 0
    STEP = 1  # of the tape
    POSITION = 2  # x, signed centi
    CASH = 3  # L, micro
    BASIS = 4  # sum of price x size of the open position, YES scale, >= 0
    REALISED = 5  # profit of closed contracts before fees
    FEES = 6
    TRADED = 7  # centi
    OPENED_MS = 8  # when x last left 0
    TRIP_CASH = 9  # L when x last was 0
    TRIPS = 10  # flat to flat
    WINS = 11  # trips that gained after fees
    TAKER_FILLS = 12
    MAKER_FILLS = 13
    ORDERS = 14  # that reached the exchange or died on the way
    CANCELS = 15  # orders that ended before they were filled
    INVALID = 16  # actions
    EQUITY = 17  # liquidation, micro
    EQUITY_MID = 18
    PEAK = 19  # of EQUITY
    DRAWDOWN = 20  # largest PEAK - EQUITY
    CAPITAL = 21  # largest cost of position + reservations
    MID2 = 22  # twice the mark's mid, see `replay`; -1 before any book
    BOOK_EMPTY = 23  # the last row left neither bid nor ask
    CONSUMED = 24  # whether own fills consumed displayed size somewhere
    FILL_RATE = 25  # weighted share of own orders that filled, 1e-9
    ROW = 26  # of the tape, the last applied
    DAY = 27  # this and the next two: see `loss_limit`
    DAY_EQUITY = 28
    STOPPED = 29
    BID = 30  # best quotes of the last book with a bid or an ask
    ASK = 31
    JOURNALLED = 32  # entries of the journal, lost ones included
    VALUE = 33  # of the position at this step, liquidation, micro
    AVAILABLE = 34  # cash free for new orders at this step


class Order(IntEnum):
    """Columns of an order slot; slots are BUY, SELL (resting) and FLIGHT."""

    PRICE = 0  # YES scale, 0 = no order
    REMAINING = 1
    SIZE = 2
    SIDE = 3
    POST_ONLY = 4
    SINCE_MS = 5  # resting: arrival; in flight: when it reaches the exchange
    ROW = 6  # resting: the row after which it arrived
    AHEAD = 7  # resting: displayed size before it in the queue
    FEE_PRODUCT = 8  # exact fees of its fills so far
    FEE_CARRIED = 9  # see `fees.fill_fee_micro`
    SHOWN = 10  # this and the next: see `queue`
    UNMATCHED = 11
    PRESUMED = 12
    STEP = 13  # of the tape, at which it was decided


class FillModel(IntEnum):
    """When a resting order fills, worst to best; what each is, `fills` says."""

    CROSS = 0
    QUEUE = 1
    TOUCH = 2


FLIGHT = 2
SLOTS = 3
REDUCE_ONLY = 0  # as a position limit


class Lane(NamedTuple):
    """One episode in play: its state and the constants of its market.

    `ladder` and `consumed` are `[2, levels]`, the YES and the NO bids, by price_bp / grid_step_bp
    in each ladder's own scale: the size shown, and how much of it own fills took since a message
    last changed the level.
    """

    account: Ints  # [len(Account)]
    orders: Ints  # [3, len(Order)]
    ladder: Ints
    consumed: Ints
    fees: Fees
    grid_step_bp: int
    limit_centi: int
    fill_model: int  # FillModel
    alpha_pct: int  # of FillModel.QUEUE
    journal: Ints  # [capacity, len(Entry)]


@part
def held_centi(account: Ints, side: int) -> int:
    """The position in the direction of a side."""
    return int(account[Account.POSITION] if side == BUY else -account[Account.POSITION])


@part
def fits(limit_centi: int, held: int, size_centi: int) -> bool:
    """Whether the position limit lets an order on top of what is held in its direction be sent."""
    return held < 0 if limit_centi == REDUCE_ONLY else held + size_centi <= limit_centi


@part
def opening_centi(side: int, size_centi: int, position_centi: int) -> int:
    """The part of an order that does not close what is held."""
    held = -position_centi if side == BUY else position_centi
    return size_centi - min(size_centi, max(held, 0))


@part
def cost_micro(
    side: int, price_bp: int, size_centi: int, position_centi: int, rate_bp: int, fees: Fees
) -> int:
    """Cash an order needs at worst: its opening part and fees; closing costs nothing.

    It is taken at the limit, since price paid plus fee rises with the price paid.
    """
    opening = opening_centi(side, size_centi, position_centi)
    if opening == 0:
        return 0
    unit = price_bp if side == BUY else BP_PER_DOLLAR - price_bp
    product = fee_product(rate_bp, fees.multiplier_pct, size_centi, price_bp)
    return opening * unit + worst_fee_micro(fees.rule, product)


@part
def reserved_micro(orders: Ints, side: int, position_centi: int, fees: Fees) -> int:
    """Cash set aside for the resting order of a side."""
    order = orders[side]
    if order[Order.PRICE] == 0:
        return 0
    return cost_micro(
        side, order[Order.PRICE], order[Order.REMAINING], position_centi, fees.maker_rate_bp, fees
    )


@part
def available_micro(account: Ints, orders: Ints, fees: Fees) -> int:
    """Cash free for new orders: A less what resting orders reserve."""
    position = int(account[Account.POSITION])
    return (
        int(account[Account.CASH])
        - BP_PER_DOLLAR * max(-position, 0)
        - reserved_micro(orders, BUY, position, fees)
        - reserved_micro(orders, SELL, position, fees)
    )


@part
def invested_micro(account: Ints) -> int:
    """Cash the open position cost: p a contract when long, 1 - p when short."""
    position, basis = int(account[Account.POSITION]), int(account[Account.BASIS])
    return basis if position >= 0 else -position * BP_PER_DOLLAR - basis


@part
def liquidation_micro(
    account: Ints, ladder: Ints, consumed: Ints, grid_step_bp: int, fees: Fees
) -> int:
    """What the position brings if sold into the last book with a bid or an ask, at least 0.

    Long walks the YES bids from the best downwards, short the NO bids; less the taker fee of that
    one order up to the cent; 0 for what finds no bid.

    Args:
        account: columns of `Account`.
        ladder: as in `Lane`.
        consumed: as in `Lane`.
        grid_step_bp: price spacing of the ladder.
        fees: the schedule in force.
    """
    position = account[Account.POSITION]
    side = 0 if position > 0 else 1
    wanted = abs(position)
    proceeds = 0
    product = 0
    best_bp = account[Account.BID] if position > 0 else BP_PER_DOLLAR - account[Account.ASK]
    index = best_bp // grid_step_bp
    while wanted > 0 and index > 0:
        taken = min(wanted, ladder[side, index] - consumed[side, index])
        if taken > 0:
            price = index * grid_step_bp
            proceeds += taken * price
            product += fee_product(fees.taker_rate_bp, fees.multiplier_pct, taken, price)
            wanted -= taken
        index -= 1
    return max(proceeds - up_to_cent_micro(product), 0)


@part
def fill_outcome(
    account: Ints, order: Ints, price_bp: int, size_centi: int, rate_bp: int, fees: Fees
) -> tuple[int, int, int]:
    """What filling part of an order would do.

    Returns:
        Linear cash and position after it, and the order's `FEE_CARRIED` after it.
    """
    signed = size_centi if order[Order.SIDE] == BUY else -size_centi
    product = fee_product(rate_bp, fees.multiplier_pct, size_centi, price_bp)
    fee, carried = fill_fee_micro(
        fees.rule,
        product,
        -signed * price_bp,
        order[Order.FEE_PRODUCT],
        order[Order.FEE_CARRIED],
    )
    cash = account[Account.CASH] - signed * price_bp - fee
    return cash, account[Account.POSITION] + signed, carried


@part
def affordable_centi(
    lane: Lane, order: Ints, price_bp: int, wanted_centi: int, rate_bp: int
) -> int:
    """The largest part of a fill the account can carry.

    Afterwards available cash is not negative, the order's own remainder left out, and the position
    is within its limit.
    """
    account = lane.account
    side, held, free = order[Order.SIDE], account[Account.POSITION], account[Account.CASH]
    size = int(min(wanted_centi, lane.limit_centi - (held if side == BUY else -held)))
    unit = price_bp if side == BUY else BP_PER_DOLLAR - price_bp
    while size > 0:
        cash, position, _ = fill_outcome(account, order, price_bp, size, rate_bp, lane.fees)
        reserved = reserved_micro(lane.orders, 1 - side, position, lane.fees)
        missing = reserved + BP_PER_DOLLAR * max(-position, 0) - cash
        if missing <= 0:
            return size
        # One less saves at most its price, all of them at most the fee besides.
        fee = free - cash - (position - held) * price_bp
        size -= max(1, (missing - fee) // unit)
    return 0


@part
def book_fill(
    account: Ints,
    order: Ints,
    price_bp: int,
    size_centi: int,
    rate_bp: int,
    fees: Fees,
    time_ms: int,
) -> None:
    """Book a fill on the account and its order.

    A fill that goes through zero ends one round trip, which bears its fee, and starts another.
    """
    before = account[Account.POSITION]
    cash, after, carried = fill_outcome(account, order, price_bp, size_centi, rate_bp, fees)
    signed = after - before
    fee = account[Account.CASH] - signed * price_bp - cash
    closing = size_centi - opening_centi(order[Order.SIDE], size_centi, before)
    if closing > 0:
        released = account[Account.BASIS] * closing // abs(before)
        gain = closing * price_bp - released
        account[Account.REALISED] += gain if before > 0 else -gain
        account[Account.BASIS] -= released
    if closing > 0 and closing == abs(before):
        flat_cash = cash + (signed - (closing if signed > 0 else -closing)) * price_bp
        account[Account.TRIPS] += 1
        account[Account.WINS] += 1 if flat_cash > account[Account.TRIP_CASH] else 0
        account[Account.TRIP_CASH] = flat_cash
    if closing < size_centi:
        account[Account.BASIS] += (size_centi - closing) * price_bp
        if closing == abs(before):  # x was 0, or passed through it
            account[Account.OPENED_MS] = time_ms
    account[Account.POSITION] = after
    account[Account.CASH] = cash
    account[Account.FEES] += fee
    account[Account.TRADED] += size_centi
    order[Order.FEE_PRODUCT] += fee_product(rate_bp, fees.multiplier_pct, size_centi, price_bp)
    order[Order.FEE_CARRIED] = carried
    order[Order.REMAINING] -= size_centi


@part
def mark_to_book(account: Ints, value_micro: int) -> None:
    """Mark the account, its position at this liquidation value, and at mid beside it."""
    position, cash = account[Account.POSITION], account[Account.CASH]
    equity = cash - BP_PER_DOLLAR * max(-position, 0) + value_micro
    mark(account, equity, cash + position * account[Account.MID2] // 2)


@part
def mark(account: Ints, equity_micro: int, equity_mid_micro: int) -> None:
    """Set both equities; peak and drawdown follow the first."""
    account[Account.EQUITY] = equity_micro
    account[Account.EQUITY_MID] = equity_mid_micro
    account[Account.PEAK] = max(account[Account.PEAK], equity_micro)
    fall = account[Account.PEAK] - equity_micro
    account[Account.DRAWDOWN] = max(account[Account.DRAWDOWN], fall)


@part
def tied_micro(account: Ints, available_micro: int) -> int:
    """What the position cost and orders reserve."""
    free = account[Account.CASH] - BP_PER_DOLLAR * max(-account[Account.POSITION], 0)
    return int(invested_micro(account) + free - available_micro)


@part
def record_capital(account: Ints, available_micro: int) -> None:
    """Remember the largest sum of what the position cost and what orders reserve."""
    tied = tied_micro(account, available_micro)
    account[Account.CAPITAL] = max(account[Account.CAPITAL], tied)


@kernel
def close_trip(account: Ints) -> None:
    """Count the round trip that an open position at the end of the episode closes."""
    if account[Account.POSITION] != 0:
        account[Account.TRIPS] += 1
        account[Account.WINS] += 1 if account[Account.EQUITY] > account[Account.TRIP_CASH] else 0
