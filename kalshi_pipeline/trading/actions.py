"""The seven actions, and the limit price each stands for on the book the agent sees."""

from __future__ import annotations

from enum import IntEnum

from kalshi_pipeline.compiled import part
from kalshi_pipeline.config import BP_PER_DOLLAR

BUY, SELL = 0, 1  # of YES; also the ladder a resting order stands in (YES bids, NO bids)


class Action(IntEnum):
    """What an agent can do at a step. Source: training plan, section 2.3."""

    HOLD = 0  # leaves resting orders alone
    BUY_BEST = 1  # takes: limit = best ask, immediate or cancel
    BUY_IMPROVE = 2  # post-only, one tick below the best ask
    BUY_PASSIVE = 3  # post-only, at the best bid
    SELL_BEST = 4
    SELL_IMPROVE = 5  # post-only, one tick above the best bid
    SELL_PASSIVE = 6


ACTIONS = len(Action)


@part
def side_of(action: int) -> int:
    """BUY or SELL (HOLD has no side)."""
    return BUY if action <= Action.BUY_PASSIVE else SELL


@part
def takes(action: int) -> bool:
    """Whether the action takes liquidity; the other orders are post-only."""
    return action == Action.BUY_BEST or action == Action.SELL_BEST


@part
def limit_price_bp(
    action: int, bid_bp: int, ask_bp: int, tick_up_bp: int, tick_down_bp: int
) -> int:
    """The YES price of the order an action stands for.

    Args:
        action: not HOLD.
        bid_bp: best bid, 0 = none.
        ask_bp: best ask, 10,000 = none.
        tick_up_bp: from the best bid to the next valid price above it, 0 = none.
        tick_down_bp: from the best ask to the next valid price below it, 0 = none.

    Returns:
        A price strictly between 0 and 1 dollar, or 0 where the quote it needs is missing or no
        valid price is left.
    """
    quotes_ask = (
        action == Action.BUY_BEST or action == Action.BUY_IMPROVE or action == Action.SELL_PASSIVE
    )
    if ask_bp >= BP_PER_DOLLAR if quotes_ask else bid_bp <= 0:
        return 0
    if action == Action.BUY_IMPROVE:
        return ask_bp - tick_down_bp if tick_down_bp > 0 else 0
    if action == Action.SELL_IMPROVE:
        return bid_bp + tick_up_bp if tick_up_bp > 0 else 0
    return ask_bp if quotes_ask else bid_bp
