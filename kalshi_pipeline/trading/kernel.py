"""One compiled call a step for N lanes: send orders, replay messages, observe, end episodes.

Each stage loops over all lanes itself: handing the tape to a function once a lane would cost more
in reference counts than the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import MICRO_PER_DOLLAR
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.market.fees import fees_of
from kalshi_pipeline.trading.actions import (
    ACTIONS,
    BUY,
    SELL,
    Action,
    limit_price_bp,
    side_of,
    takes,
)
from kalshi_pipeline.trading.fills import arrive, cancel_all, concerns, fill_resting
from kalshi_pipeline.trading.loss_limit import limit_in_force, watch_day
from kalshi_pipeline.trading.observation import write_mask, write_orders, write_portfolio
from kalshi_pipeline.trading.portfolio import (
    FLIGHT,
    Account,
    Lane,
    Order,
    available_micro,
    close_trip,
    liquidation_micro,
    mark,
    mark_to_book,
    record_capital,
)
from kalshi_pipeline.trading.replay import Message, apply_message
from kalshi_pipeline.trading.tape import RowKind, Tape

Ints = NDArray[np.int64]


class Rules(NamedTuple):
    """`TradingConfig` as the kernels read it."""

    start_micro: int
    size_centi: int
    limit_centi: int
    latency_ms: int
    loss_limit_micro: int  # of a day, 0 = none
    fill_model: int  # FillModel
    alpha_pct: int  # of FillModel.QUEUE
    at_mid: int  # 1: the reward is the change of equity at mid


class Lanes(NamedTuple):
    """State and outputs of N lanes; W is the length of the universe's longest ladder."""

    account: Ints  # [N, len(Account)]
    orders: Ints  # [N, 3, len(Order)]
    ladder: Ints  # [N, 2, W]
    consumed: Ints  # [N, 2, W]
    action_counts: Ints  # [N, 7]
    observation: NDArray[np.float32]  # [N, 52]
    mask: NDArray[np.bool_]  # [N, 7]
    reward: NDArray[np.float64]  # [N] dollars
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    time_ms: Ints  # [N]
    equity_micro: Ints  # [N] liquidation
    equity_mid_micro: Ints  # [N]


@kernel
def reset_lanes(tape: Tape, lanes: Lanes, rules: Rules, which: Ints, episodes: Ints) -> None:
    """Start `episodes[k]` in lane `which[k]`."""
    for k in range(len(which)):
        lane, episode = which[k], episodes[k]
        account = lanes.account[lane]
        account[:] = 0
        account[Account.EPISODE] = episode
        account[Account.STEP] = tape.first_step[episode]
        account[Account.ROW] = tape.first_row[episode] - 1
        account[Account.CASH] = rules.start_micro
        account[Account.TRIP_CASH] = rules.start_micro
        account[Account.PEAK] = rules.start_micro
        account[Account.EQUITY] = rules.start_micro
        account[Account.DAY] = -1
        account[Account.MID2] = -1
        lanes.orders[lane] = 0
        lanes.ladder[lane] = 0
        lanes.consumed[lane] = 0
        lanes.action_counts[lane] = 0
        lanes.terminated[lane] = False
        lanes.truncated[lane] = False
    advance(tape, lanes, rules, which)
    observe(tape, lanes, rules, which)
    for lane in which:
        lanes.equity_micro[lane] = lanes.account[lane, Account.EQUITY]
        lanes.equity_mid_micro[lane] = lanes.account[lane, Account.EQUITY_MID]
        lanes.reward[lane] = 0.0


@kernel
def step_lanes(tape: Tape, lanes: Lanes, rules: Rules, which: Ints, actions: Ints) -> bool:
    """Advance every unfinished lane by one step; True, and nothing done, if an action is none."""
    for lane in which:
        if actions[lane] < 0 or actions[lane] >= ACTIONS:
            return True
    submit(tape, lanes, rules, which, actions)
    advance(tape, lanes, rules, which)
    observe(tape, lanes, rules, which)
    finish(tape, lanes, rules, which)
    return False


@kernel
def submit(tape: Tape, lanes: Lanes, rules: Rules, which: Ints, actions: Ints) -> None:
    """Send the order each action stands for, if the mask allows it, and move to the next step."""
    for lane in which:
        if lanes.terminated[lane] or lanes.truncated[lane]:
            continue
        account, action = lanes.account[lane], actions[lane]
        row = tape.step_row[account[Account.STEP]]
        account[Account.STEP] += 1
        lanes.action_counts[lane, action] += 1
        if action == Action.HOLD:
            continue
        if not lanes.mask[lane, action]:
            account[Account.INVALID] += 1
            continue
        grid = tape.grid[account[Account.EPISODE]]
        bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
        flight = lanes.orders[lane, FLIGHT]
        flight[Order.PRICE] = limit_price_bp(
            action, bid, ask, int(tape.tick_up_bp[grid, bid]), int(tape.tick_down_bp[grid, ask])
        )
        flight[Order.SIZE] = rules.size_centi
        flight[Order.REMAINING] = rules.size_centi
        flight[Order.SIDE] = side_of(action)
        flight[Order.POST_ONLY] = 0 if takes(action) else 1
        flight[Order.SINCE_MS] = tape.time_ms[row] + rules.latency_ms


@kernel
def advance(tape: Tape, lanes: Lanes, rules: Rules, which: Ints) -> None:
    """Replay the messages up to the step each lane stands at."""
    for index in which:
        if lanes.terminated[index] or lanes.truncated[index]:
            continue
        account, orders = lanes.account[index], lanes.orders[index]
        ladder, consumed = lanes.ladder[index], lanes.consumed[index]
        episode = account[Account.EPISODE]
        grid_step_bp = int(tape.grid_step_bp[tape.grid[episode]])
        fees = fees_of(tape.fee_schedule[episode])
        model, alpha_pct = rules.fill_model, rules.alpha_pct
        limit_centi = limit_in_force(account, rules.limit_centi)
        lane = Lane(
            account, orders, ladder, consumed, fees, grid_step_bp, limit_centi, model, alpha_pct
        )  # fmt: skip
        last = tape.step_row[account[Account.STEP]]
        for row in range(account[Account.ROW] + 1, last + 1):
            message = Message(
                row,
                int(tape.time_ms[row]),
                int(tape.kind[row]),
                int(tape.side[row]),
                int(tape.price_bp[row]),
                int(tape.change_centi[row]),
                int(tape.bid_bp[row]),
                int(tape.ask_bp[row]),
            )
            apply_message(message, account, ladder, consumed, grid_step_bp)
            if message.kind == RowKind.SNAPSHOT and account[Account.BOOK_EMPTY] == 0:
                shot = message.change_centi
                for level in range(tape.snapshot_first[shot], tape.snapshot_first[shot + 1]):
                    place = int(tape.level_price_bp[level]) // grid_step_bp
                    ladder[int(tape.level_side[level]), place] = tape.level_size_centi[level]
            if concerns(BUY, orders[BUY, Order.PRICE], message, model):
                fill_resting(lane, BUY, message)
            if concerns(SELL, orders[SELL, Order.PRICE], message, model):
                fill_resting(lane, SELL, message)
            in_flight = orders[FLIGHT, Order.PRICE] > 0
            if in_flight and message.time_ms >= orders[FLIGHT, Order.SINCE_MS]:
                arrive(lane, message)
        account[Account.ROW] = last


@kernel
def observe(tape: Tape, lanes: Lanes, rules: Rules, which: Ints) -> None:
    """Mark the accounts, write observations and masks of the step each lane stands at."""
    for lane in which:
        if lanes.terminated[lane] or lanes.truncated[lane]:
            continue
        account, orders = lanes.account[lane], lanes.orders[lane]
        episode, step = account[Account.EPISODE], account[Account.STEP]
        row, grid = tape.step_row[step], tape.grid[episode]
        bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
        now = int(tape.time_ms[row])
        fees = fees_of(tape.fee_schedule[episode])
        position = account[Account.POSITION]
        value = 0
        if position != 0 and account[Account.BOOK_EMPTY] == 0:
            grid_step_bp = int(tape.grid_step_bp[grid])
            ladder, consumed = lanes.ladder[lane], lanes.consumed[lane]
            value = liquidation_micro(ladder, consumed, position, grid_step_bp, fees)
        before = account[Account.EQUITY]
        mark_to_book(account, value)
        if rules.loss_limit_micro > 0:
            watch_day(account, orders, rules.loss_limit_micro, before, now)
        available = available_micro(account, orders, fees)
        record_capital(account, available)
        lanes.time_ms[lane] = now
        observation = lanes.observation[lane]
        for column in range(TENSOR_WIDTH):
            observation[column] = tape.features[step, column]
        mid = (bid + ask) / 2.0
        write_portfolio(
            observation, account, available, value, mid, now, rules.start_micro, rules.limit_centi
        )
        write_orders(observation, account, orders, mid, now)
        quotes = (bid, ask, int(tape.tick_up_bp[grid, bid]), int(tape.tick_down_bp[grid, ask]))
        write_mask(
            lanes.mask[lane], account, orders, fees, available, quotes,
            rules.size_centi, limit_in_force(account, rules.limit_centi),
        )  # fmt: skip


@kernel
def finish(tape: Tape, lanes: Lanes, rules: Rules, which: Ints) -> None:
    """End the episodes that stand at their last step; write rewards and equities.

    An ending episode settles, or is marked at the last book that was not empty.
    """
    for lane in which:
        if lanes.terminated[lane] or lanes.truncated[lane]:
            lanes.reward[lane] = 0.0
            continue
        account = lanes.account[lane]
        episode = account[Account.EPISODE]
        if account[Account.STEP] == tape.end_step[episode] - 1:
            cancel_all(account, lanes.orders[lane])
            settlement = int(tape.settlement_bp[episode])
            if settlement >= 0:
                equity = account[Account.CASH] + account[Account.POSITION] * settlement
                mark(account, equity, equity)
                lanes.terminated[lane] = True
            else:
                fees = fees_of(tape.fee_schedule[episode])
                grid_step_bp = int(tape.grid_step_bp[tape.grid[episode]])
                ladder, consumed = lanes.ladder[lane], lanes.consumed[lane]
                position = account[Account.POSITION]
                value = liquidation_micro(ladder, consumed, position, grid_step_bp, fees)
                mark_to_book(account, value)
                lanes.truncated[lane] = True
            close_trip(account)
        gain = account[Account.EQUITY] - lanes.equity_micro[lane]
        gain_mid = account[Account.EQUITY_MID] - lanes.equity_mid_micro[lane]
        lanes.reward[lane] = (gain_mid if rules.at_mid == 1 else gain) / MICRO_PER_DOLLAR
        lanes.equity_micro[lane] = account[Account.EQUITY]
        lanes.equity_mid_micro[lane] = account[Account.EQUITY_MID]
