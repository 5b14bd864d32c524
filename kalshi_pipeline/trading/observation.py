"""What the agent sees of itself: 12 portfolio and 5 order features, and the mask of valid actions.

Formulas are those of `kalshi_pipeline.feature_table`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import part
from kalshi_pipeline.config import BP_PER_DOLLAR, MICRO_PER_DOLLAR
from kalshi_pipeline.elementary import log32
from kalshi_pipeline.feature_table import COLUMN, DAY_S
from kalshi_pipeline.market.fees import Fees, fee_product, worst_fee_micro
from kalshi_pipeline.trading.actions import (
    ACTIONS,
    BUY,
    SELL,
    Action,
    limit_price_bp,
    side_of,
    takes,
)
from kalshi_pipeline.trading.fills import FILL_RATE_UNIT
from kalshi_pipeline.trading.portfolio import (
    FLIGHT,
    Account,
    Order,
    cost_micro,
    fits,
    invested_micro,
)

Ints = NDArray[np.int64]

LOG_DAY = math.log1p(DAY_S)
TEN_DOLLARS_MICRO = 10.0 * MICRO_PER_DOLLAR

AVAILABLE_CASH = COLUMN["available_cash"]
INVENTORY = COLUMN["inventory"]
IS_LONG = COLUMN["is_long"]
IS_SHORT = COLUMN["is_short"]
ENTRY_OFFSET = COLUMN["entry_offset"]
UNREALISED_MID = COLUMN["unrealised_mid"]
UNREALISED_LIQUIDATION = COLUMN["unrealised_liquidation"]
REALISED = COLUMN["realised"]
FEES_PAID = COLUMN["fees_paid"]
EQUITY_CHANGE = COLUMN["equity_change"]
DRAWDOWN = COLUMN["drawdown"]
SECONDS_IN_POSITION = COLUMN["seconds_in_position"]
BUY_DISTANCE = COLUMN["buy_distance"]
SELL_DISTANCE = COLUMN["sell_distance"]
QUEUE_AHEAD = COLUMN["queue_ahead"]
ORDER_AGE = COLUMN["order_age"]
FILL_RATE = COLUMN["fill_rate"]


@part
def write_portfolio(
    observation: NDArray[np.float32],
    account: Ints,
    available_micro: int,
    value_micro: int,
    mid_bp: float,
    now_ms: int,
    start_micro: int,
    limit_centi: int,
) -> None:
    """Write the 12 portfolio features.

    Args:
        observation: `[52]`, written in place.
        account: columns of `Account`, its equity and peak already those of this step.
        available_micro: cash free for new orders.
        value_micro: liquidation value of the position.
        mid_bp: (bid + ask) / 2, empty sides at 0 and 1 dollar.
        now_ms: market time.
        start_micro: starting cash.
        limit_centi: position limit.
    """
    position = account[Account.POSITION]
    equity = account[Account.EQUITY]
    observation[AVAILABLE_CASH] = min(2.0, available_micro / start_micro)
    observation[INVENTORY] = position / limit_centi
    observation[IS_LONG] = 1.0 if position > 0 else 0.0
    observation[IS_SHORT] = 1.0 if position < 0 else 0.0
    observation[ENTRY_OFFSET] = 0.0
    observation[UNREALISED_MID] = 0.0
    observation[UNREALISED_LIQUIDATION] = 0.0
    observation[SECONDS_IN_POSITION] = 0.0
    if position != 0:
        size = abs(position)
        entry = account[Account.BASIS] / size
        gain = (mid_bp - entry) * position
        held_s = (now_ms - account[Account.OPENED_MS]) / 1000.0
        observation[ENTRY_OFFSET] = clip(10.0 * (entry - mid_bp) / BP_PER_DOLLAR)
        observation[UNREALISED_MID] = clip(gain / TEN_DOLLARS_MICRO)
        observation[UNREALISED_LIQUIDATION] = clip(
            (value_micro - invested_micro(account)) / TEN_DOLLARS_MICRO
        )
        observation[SECONDS_IN_POSITION] = log_day(held_s)
    observation[REALISED] = clip(account[Account.REALISED] / TEN_DOLLARS_MICRO)
    observation[FEES_PAID] = min(1.0, account[Account.FEES] / TEN_DOLLARS_MICRO)
    observation[EQUITY_CHANGE] = clip(10.0 * (equity / start_micro - 1.0))
    observation[DRAWDOWN] = clip(10.0 * (account[Account.PEAK] - equity) / start_micro)


@part
def write_orders(
    observation: NDArray[np.float32], account: Ints, orders: Ints, mid_bp: float, now_ms: int
) -> None:
    """Write the 5 order features; arguments as in `write_portfolio`."""
    buy, sell = orders[BUY], orders[SELL]
    observation[BUY_DISTANCE] = distance(buy[Order.PRICE], mid_bp)
    observation[SELL_DISTANCE] = distance(sell[Order.PRICE], mid_bp)
    observation[QUEUE_AHEAD] = 0.0
    observation[ORDER_AGE] = 0.0
    observation[FILL_RATE] = account[Account.FILL_RATE] / FILL_RATE_UNIT
    if buy[Order.PRICE] == 0 and sell[Order.PRICE] == 0:
        return
    sell_is_older = sell[Order.PRICE] > 0 and (
        buy[Order.PRICE] == 0 or sell[Order.ROW] < buy[Order.ROW]
    )
    older = sell if sell_is_older else buy
    ahead = older[Order.AHEAD]
    observation[QUEUE_AHEAD] = ahead / (ahead + older[Order.REMAINING])
    observation[ORDER_AGE] = log_day((now_ms - older[Order.SINCE_MS]) / 1000.0)


@part
def write_mask(
    mask: NDArray[np.bool_],
    account: Ints,
    orders: Ints,
    fees: Fees,
    available_micro: int,
    quotes: tuple[int, int, int, int],
    size_centi: int,
    limit_centi: int,
) -> None:
    """Write which actions are valid.

    HOLD always is. Another is invalid while an order is in flight, where its quote is missing or
    its price would be 0 or 1 dollar, where position, resting order of that side and the new order
    together exceed the limit (REDUCE_ONLY: where nothing is held on the other side), or where its
    worst-case cost exceeds available cash.

    Args:
        mask: `[7]`, written in place.
        account: columns of `Account`.
        orders: the slots.
        fees: the schedule in force.
        available_micro: cash free for new orders.
        quotes: bid, ask, tick up from the bid, tick down from the ask.
        size_centi: order size.
        limit_centi: position limit.
    """
    mask[:] = False
    mask[Action.HOLD] = True
    if orders[FLIGHT, Order.PRICE] > 0:
        return
    position = account[Account.POSITION]
    buy_fits = fits(limit_centi, position, orders[BUY, Order.REMAINING] + size_centi)
    sell_fits = fits(limit_centi, -position, orders[SELL, Order.REMAINING] + size_centi)
    # No order of this size can cost more than this: one dollar a contract and the fee at 50 cents.
    dearest = fee_product(
        max(fees.taker_rate_bp, fees.maker_rate_bp),
        fees.multiplier_pct,
        size_centi,
        BP_PER_DOLLAR // 2,
    )
    rich = available_micro >= size_centi * BP_PER_DOLLAR + worst_fee_micro(fees.rule, dearest)
    for action in range(1, ACTIONS):
        side = side_of(action)
        if not (buy_fits if side == BUY else sell_fits):
            continue
        price = limit_price_bp(action, quotes[0], quotes[1], quotes[2], quotes[3])
        if price == 0:
            continue
        rate = fees.taker_rate_bp if takes(action) else fees.maker_rate_bp
        mask[action] = rich or available_micro >= cost_micro(
            side, price, size_centi, position, rate, fees
        )


@part
def clip(value: float) -> float:
    """`value` within [-1, 1]."""
    return min(1.0, max(-1.0, value))


@part
def log_day(seconds: float) -> float:
    """L(seconds; 86400), the same bits on every machine."""
    return min(1.0, float(log32(np.float32(1.0 + seconds))) / LOG_DAY)


@part
def distance(price_bp: int, mid_bp: float) -> float:
    """How far a resting order is from the mid, in 50 cents; -1 without one."""
    if price_bp == 0:
        return -1.0
    return min(1.0, 2.0 * abs(mid_bp - price_bp) / BP_PER_DOLLAR)
