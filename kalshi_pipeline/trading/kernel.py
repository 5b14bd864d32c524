"""One compiled call a step for N lanes: send orders, replay messages, observe, end episodes.

A lane is taken through all four before the next one, and its pieces are compiled into one loop:
handing the reel on to a function would cost more than the work. While one lane moves, the memory
the lanes behind it are going to read is on its way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part, prefetch
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
from kalshi_pipeline.trading.journal import EntryKind, write_entry
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
from kalshi_pipeline.trading.tape import Reel, RowKind

Ints = NDArray[np.int64]

_AHEAD = 4  # lanes between the one that moves and the one whose memory is asked for
_LINE = 16  # float32 of a cache line


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
    elapsed_ms: Ints  # [N] from the step before to this one; a reset leaves it
    equity_micro: Ints  # [N] liquidation
    equity_mid_micro: Ints  # [N]
    journal: Ints  # [N, capacity, len(Entry)]; no capacity unless asked for


@kernel
def reset_lanes(reel: Reel, lanes: Lanes, rules: Rules, which: Ints, episodes: Ints) -> None:
    """Start `episodes[k]` in lane `which[k]`."""
    for k in range(len(which)):
        begin(reel, lanes, rules, which[k], episodes[k])
        show(reel, lanes, rules, which[k])


@kernel
def step_lanes(reel: Reel, lanes: Lanes, rules: Rules, which: Ints, actions: Ints) -> int:
    """Advance every unfinished lane by one step.

    Returns:
        How many episodes ended; -1, and nothing done, if an action is none of the seven.
    """
    for lane in which:
        if actions[lane] < 0 or actions[lane] >= ACTIONS:
            return -1
    ended = 0
    for k in range(len(which)):
        lane = which[k]
        if k + _AHEAD < len(which):
            _fetch(reel, lanes.account[which[k + _AHEAD]])
        if lanes.terminated[lane] or lanes.truncated[lane]:
            lanes.reward[lane] = 0.0
            lanes.elapsed_ms[lane] = 0
            continue
        move(reel, lanes, rules, lane, actions[lane])
        show(reel, lanes, rules, lane)
        ended += finish(reel, lanes, rules, lane)
    return ended


@part
def begin(reel: Reel, lanes: Lanes, rules: Rules, lane: int, episode: int) -> None:
    """Start an episode in a lane, up to its first step."""
    account = lanes.account[lane]
    account[:] = 0
    account[Account.EPISODE] = episode
    account[Account.STEP] = reel.episodes[episode]["first_step"]
    account[Account.ROW] = reel.episodes[episode]["first_row"] - 1
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
    _advance(reel, lanes, rules, lane)
    _value(reel, lanes, rules, lane)
    lanes.equity_micro[lane] = account[Account.EQUITY]
    lanes.equity_mid_micro[lane] = account[Account.EQUITY_MID]
    lanes.reward[lane] = 0.0


@part
def move(reel: Reel, lanes: Lanes, rules: Rules, lane: int, action: int) -> None:
    """Take a lane to its next step: the order sent, the messages replayed, the account marked."""
    before_ms = lanes.time_ms[lane]
    _submit(reel, lanes, rules, lane, action)
    _advance(reel, lanes, rules, lane)
    _value(reel, lanes, rules, lane)
    lanes.elapsed_ms[lane] = lanes.time_ms[lane] - before_ms


@part
def _fetch(reel: Reel, account: Ints) -> None:
    # ask for the message and the features a lane is going to read
    prefetch(reel.rows, account[Account.ROW] + 1)
    features = (account[Account.STEP] + 1) * TENSOR_WIDTH
    prefetch(reel.features, features)
    prefetch(reel.features, features + _LINE)
    prefetch(reel.features, features + TENSOR_WIDTH - 1)


@part
def _submit(reel: Reel, lanes: Lanes, rules: Rules, lane: int, action: int) -> None:
    # send the order an action stands for, if the mask allows it, and move to the next step
    account = lanes.account[lane]
    step = reel.step_row[account[Account.STEP]]
    account[Account.STEP] += 1
    lanes.action_counts[lane, action] += 1
    if action == Action.HOLD:
        return
    if not lanes.mask[lane, action]:
        account[Account.INVALID] += 1
        return
    grid = reel.episodes[account[Account.EPISODE]]["grid"]
    row = reel.rows[step]
    bid, ask = int(row["bid_bp"]), int(row["ask_bp"])
    flight = lanes.orders[lane, FLIGHT]
    flight[Order.PRICE] = limit_price_bp(
        action, bid, ask, int(reel.tick_up_bp[grid, bid]), int(reel.tick_down_bp[grid, ask])
    )
    flight[Order.SIZE] = rules.size_centi
    flight[Order.REMAINING] = rules.size_centi
    flight[Order.SIDE] = side_of(action)
    flight[Order.POST_ONLY] = 0 if takes(action) else 1
    flight[Order.SINCE_MS] = row["time_ms"] + rules.latency_ms
    flight[Order.STEP] = account[Account.STEP] - 1
    write_entry(
        account, lanes.journal[lane], flight, EntryKind.SENT, row["time_ms"],
        flight[Order.PRICE], flight[Order.SIZE], 0, flight[Order.POST_ONLY], -1,
    )  # fmt: skip


@part
def _advance(reel: Reel, lanes: Lanes, rules: Rules, index: int) -> None:
    # replay the messages up to the step a lane stands at
    account, orders = lanes.account[index], lanes.orders[index]
    ladder, consumed = lanes.ladder[index], lanes.consumed[index]
    episode = reel.episodes[account[Account.EPISODE]]
    grid_step_bp, model = int(episode["grid_step_bp"]), rules.fill_model
    limit_centi = limit_in_force(account, rules.limit_centi)
    lane = Lane(
        account, orders, ladder, consumed, fees_of(episode["fees"]), grid_step_bp, limit_centi,
        model, rules.alpha_pct, lanes.journal[index],
    )  # fmt: skip
    last = reel.step_row[account[Account.STEP]]
    for at in range(account[Account.ROW] + 1, last + 1):
        row = reel.rows[at]
        message = Message(
            at,
            int(row["time_ms"]),
            int(row["kind"]),
            int(row["side"]),
            int(row["price_bp"]),
            int(row["change_centi"]),
            int(row["bid_bp"]),
            int(row["ask_bp"]),
        )
        apply_message(message, account, ladder, consumed, grid_step_bp)
        if message.kind == RowKind.SNAPSHOT and account[Account.BOOK_EMPTY] == 0:
            shot = message.change_centi
            for v in range(reel.snapshot_first[shot], reel.snapshot_first[shot + 1]):
                level = reel.levels[v]
                place = int(level["price_bp"]) // grid_step_bp
                ladder[int(level["side"]), place] = level["size_centi"]
        if concerns(BUY, orders[BUY, Order.PRICE], message, model):
            fill_resting(lane, BUY, message)
        if concerns(SELL, orders[SELL, Order.PRICE], message, model):
            fill_resting(lane, SELL, message)
        in_flight = orders[FLIGHT, Order.PRICE] > 0
        if in_flight and message.time_ms >= orders[FLIGHT, Order.SINCE_MS]:
            arrive(lane, message)
    account[Account.ROW] = last


@part
def _value(reel: Reel, lanes: Lanes, rules: Rules, lane: int) -> None:
    # mark the account on the step a lane stands at; what may be sent there
    account, orders = lanes.account[lane], lanes.orders[lane]
    episode, step = reel.episodes[account[Account.EPISODE]], account[Account.STEP]
    row, grid, fees = reel.rows[reel.step_row[step]], episode["grid"], fees_of(episode["fees"])
    bid, ask, now = int(row["bid_bp"]), int(row["ask_bp"]), int(row["time_ms"])
    value = 0
    if account[Account.POSITION] != 0 and account[Account.BOOK_EMPTY] == 0:
        value = liquidation_micro(
            account, lanes.ladder[lane], lanes.consumed[lane], int(episode["grid_step_bp"]), fees
        )
    before = account[Account.EQUITY]
    mark_to_book(account, value)
    if rules.loss_limit_micro > 0:
        watch_day(account, lanes.journal[lane], orders, rules.loss_limit_micro, before, now)
    available = available_micro(account, orders, fees)
    record_capital(account, available)
    account[Account.VALUE] = value
    account[Account.AVAILABLE] = available
    lanes.time_ms[lane] = now
    quotes = (bid, ask, int(reel.tick_up_bp[grid, bid]), int(reel.tick_down_bp[grid, ask]))
    write_mask(
        lanes.mask[lane], account, orders, fees, available, quotes,
        rules.size_centi, limit_in_force(account, rules.limit_centi),
    )  # fmt: skip


@part
def show(reel: Reel, lanes: Lanes, rules: Rules, lane: int) -> None:
    """Write the observation of the step a lane stands at."""
    account, step = lanes.account[lane], lanes.account[lane, Account.STEP]
    row, observation = reel.rows[reel.step_row[step]], lanes.observation[lane]
    mid, now = (int(row["bid_bp"]) + int(row["ask_bp"])) / 2.0, int(row["time_ms"])
    for column in range(TENSOR_WIDTH):
        observation[column] = reel.features[step, column]
    write_portfolio(
        observation, account, account[Account.AVAILABLE], account[Account.VALUE], mid, now,
        rules.start_micro, rules.limit_centi,
    )  # fmt: skip
    write_orders(observation, account, lanes.orders[lane], mid, now)


@part
def finish(reel: Reel, lanes: Lanes, rules: Rules, lane: int) -> int:
    """End an episode that stands at its last step; write reward and equities.

    An ending episode settles, or is marked at the last book that was not empty.

    Returns:
        1 if it ended, else 0.
    """
    account = lanes.account[lane]
    episode = reel.episodes[account[Account.EPISODE]]
    over = account[Account.STEP] == episode["end_step"] - 1
    if over:
        cancel_all(account, lanes.journal[lane], lanes.orders[lane], lanes.time_ms[lane])
        settlement = int(episode["settlement_bp"])
        if settlement >= 0:
            equity = account[Account.CASH] + account[Account.POSITION] * settlement
            mark(account, equity, equity)
            lanes.terminated[lane] = True
        else:
            step_bp, fees = int(episode["grid_step_bp"]), fees_of(episode["fees"])
            value = liquidation_micro(
                account, lanes.ladder[lane], lanes.consumed[lane], step_bp, fees
            )
            mark_to_book(account, value)
            lanes.truncated[lane] = True
        close_trip(account)
    gain = account[Account.EQUITY] - lanes.equity_micro[lane]
    gain_mid = account[Account.EQUITY_MID] - lanes.equity_mid_micro[lane]
    lanes.reward[lane] = (gain_mid if rules.at_mid == 1 else gain) / MICRO_PER_DOLLAR
    lanes.equity_micro[lane] = account[Account.EQUITY]
    lanes.equity_mid_micro[lane] = account[Account.EQUITY_MID]
    return 1 if over else 0
