"""The trading simulator: N episodes, one compiled call a step.

An episode is one market segment. The agent sees a step, acts, and the messages up to the next step
are replayed one by one:

1. a message changes the book, and with it the level's `consumed` size is forgotten;
2. resting orders that arrived on earlier messages may fill (`fills`);
3. the order in flight arrives, if the message's time is at least decision time + latency. It always
   is a later message than the one the agent saw. One order is in flight at a time; while it is,
   only HOLD is valid. An invalid action is a counted no-op.

After the last step the episode ends: `terminated` with each YES contract at 0 or 1 dollar where the
market's result is known, else `truncated` at the liquidation value of the last book that had a bid
or an ask. The result never is part of an observation, also not of the last one. Orders still alive
are cancelled. The reward is the change of liquidation equity in dollars (of equity at mid with
`mark = "mid"`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR, MICRO_PER_DOLLAR, TradingConfig
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH, TENSOR_WIDTH
from kalshi_pipeline.market.fees import NO_FEES
from kalshi_pipeline.trading.actions import (
    ACTIONS,
    BUY,
    SELL,
    Action,
    limit_price_bp,
    side_of,
    takes,
)
from kalshi_pipeline.trading.fills import arrive, end_order, fill_resting
from kalshi_pipeline.trading.observation import write_mask, write_orders, write_portfolio
from kalshi_pipeline.trading.portfolio import (
    FLIGHT,
    SLOTS,
    Account,
    Order,
    available_micro,
    invested_micro,
    liquidation_micro,
)
from kalshi_pipeline.trading.replay import apply_row
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Tape, Universe

Ints = NDArray[np.int64]

# Larger sizes would let an exact fee or a basis overflow 64 bits.
MAX_POSITION_CENTI = 10**6


class Rules(NamedTuple):
    """`TradingConfig` as the kernels read it."""

    start_micro: int
    size_centi: int
    limit_centi: int
    latency_ms: int
    at_mid: int


class Lanes(NamedTuple):
    """State and outputs of N lanes; W is the longest ladder of the universe."""

    account: Ints  # [N, len(Account)]
    orders: Ints  # [N, 3, len(Order)]
    ladder: Ints  # [N, 2, W]
    consumed: Ints  # [N, 2, W]
    fill_rate: NDArray[np.float64]  # [N, 1]
    action_counts: Ints  # [N, 7]
    observation: NDArray[np.float32]  # [N, 52]
    mask: NDArray[np.bool_]  # [N, 7]
    reward: NDArray[np.float64]  # [N] dollars
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    time_ms: Ints  # [N]
    equity_micro: Ints  # [N] liquidation
    equity_mid_micro: Ints  # [N]


class Simulator:
    """N lanes over one universe.

    Args:
        universe: the episodes.
        lanes: how many episodes run side by side.
        config: rules of the account, the orders and the reward.

    Attributes:
        observation: `[N, 52]` float32, of the current step of each lane.
        mask: `[N, 7]` True = valid action.
        reward: `[N]` dollars, of the last step.
        terminated, truncated: `[N]`; such a lane stays as it is until reset.
        time_ms: `[N]` market time of the current step.
        equity_micro: `[N]` liquidation equity.
        equity_mid_micro: `[N]` equity with the position at mid.

    All are updated in place: copy what must outlive the next call. Lanes are finished until their
    first reset.
    """

    def __init__(self, universe: Universe, lanes: int, config: TradingConfig) -> None:
        _check(config)
        self.universe = universe
        self.config = config
        self.lanes = lanes
        self.tape = _with_fees(universe.tape, enabled=config.fees)
        self.rules = Rules(
            config.cash_start_micro,
            config.order_size_centi,
            config.position_limit_centi,
            config.latency_ms,
            int(config.mark == "mid"),
        )
        self.state = _new_lanes(lanes, _longest_ladder(universe.tape))
        self.observation = self.state.observation
        self.mask = self.state.mask
        self.reward = self.state.reward
        self.terminated = self.state.terminated
        self.truncated = self.state.truncated
        self.time_ms = self.state.time_ms
        self.equity_micro = self.state.equity_micro
        self.equity_mid_micro = self.state.equity_mid_micro

    def reset(self, lanes: Ints, episodes: Ints) -> None:
        """Start episodes in lanes.

        Args:
            lanes: `[K]` which lanes.
            episodes: `[K]` which episodes.

        Raises:
            IndexError: no such lane or episode.
        """
        lanes = np.asarray(lanes, dtype=np.int64)
        episodes = np.asarray(episodes, dtype=np.int64)
        _check_indices("lane", lanes, self.lanes)
        _check_indices("episode", episodes, len(self.universe))
        if len(lanes) != len(episodes):
            raise IndexError(f"each lane needs one episode, were {len(lanes)}, {len(episodes)}")
        reset_lanes(self.tape, self.state, self.rules, lanes, episodes)

    def step(self, actions: Ints) -> None:
        """Advance every lane that is not finished by one step.

        Args:
            actions: `[N]` values of `Action`; those of finished lanes are ignored.

        Raises:
            ValueError: an action that is none of the seven.
        """
        if step_lanes(self.tape, self.state, self.rules, actions):
            raise ValueError(f"actions are 0 to {ACTIONS - 1}, were {np.unique(actions)}")

    def summary(self, lane: int) -> EpisodeSummary:
        """What happened in a lane's episode so far; final once it is finished."""
        return EpisodeSummary.of_lane(
            self.state.account[lane],
            self.state.action_counts[lane],
            self.tape,
            cash_start_micro=self.config.cash_start_micro,
            terminated=bool(self.terminated[lane]),
        )


@njit(cache=True)
def reset_lanes(tape: Tape, lanes: Lanes, rules: Rules, which: Ints, episodes: Ints) -> None:
    """Start `episodes[k]` in lane `which[k]`."""
    for k in range(len(which)):
        lane, episode = which[k], episodes[k]
        account = lanes.account[lane]
        account[:] = 0
        account[Account.EPISODE] = episode
        account[Account.STEP] = tape.first_step[episode]
        account[Account.CASH] = rules.start_micro
        account[Account.TRIP_CASH] = rules.start_micro
        account[Account.PEAK] = rules.start_micro
        account[Account.MID2] = -1
        lanes.orders[lane] = 0
        lanes.ladder[lane] = 0
        lanes.consumed[lane] = 0
        lanes.fill_rate[lane] = 0.0
        lanes.action_counts[lane] = 0
        lanes.reward[lane] = 0.0
        lanes.terminated[lane] = False
        lanes.truncated[lane] = False
        step_bp = int(tape.grid_step_bp[tape.grid[episode]])
        for row in range(tape.first_row[episode], tape.step_row[tape.first_step[episode]] + 1):
            apply_row(tape, row, account, lanes.ladder[lane], lanes.consumed[lane], step_bp)
        observe(tape, lanes, rules, lane)


@njit(cache=True)
def step_lanes(tape: Tape, lanes: Lanes, rules: Rules, actions: Ints) -> bool:
    """Advance every unfinished lane by one step; True, and nothing done, if an action is none."""
    for lane in range(len(actions)):
        if actions[lane] < 0 or actions[lane] >= ACTIONS:
            return True
    for lane in range(len(actions)):
        if lanes.terminated[lane] or lanes.truncated[lane]:
            lanes.reward[lane] = 0.0
            continue
        mark = lanes.equity_mid_micro if rules.at_mid == 1 else lanes.equity_micro
        before = mark[lane]
        account = lanes.account[lane]
        submit(tape, lanes, rules, lane, actions[lane])
        advance(tape, lanes, rules, lane)
        observe(tape, lanes, rules, lane)
        if account[Account.STEP] == tape.end_step[account[Account.EPISODE]] - 1:
            finish(tape, lanes, lane)
        lanes.reward[lane] = (mark[lane] - before) / MICRO_PER_DOLLAR
    return False


@njit(cache=True)
def submit(tape: Tape, lanes: Lanes, rules: Rules, lane: int, action: int) -> None:
    """Send the order an action stands for, if the mask allows it."""
    account = lanes.account[lane]
    lanes.action_counts[lane, action] += 1
    if action == Action.HOLD:
        return
    if not lanes.mask[lane, action]:
        account[Account.INVALID] += 1
        return
    row = tape.step_row[account[Account.STEP]]
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


@njit(cache=True)
def advance(tape: Tape, lanes: Lanes, rules: Rules, lane: int) -> None:
    """Replay the messages up to the next step."""
    account, orders = lanes.account[lane], lanes.orders[lane]
    ladder, consumed = lanes.ladder[lane], lanes.consumed[lane]
    fill_rate = lanes.fill_rate[lane]
    episode = account[Account.EPISODE]
    step_bp = int(tape.grid_step_bp[tape.grid[episode]])
    schedule = tape.fee_schedule[episode]
    first = tape.step_row[account[Account.STEP]] + 1
    account[Account.STEP] += 1
    last = tape.step_row[account[Account.STEP]]
    for row in range(first, last + 1):
        apply_row(tape, row, account, ladder, consumed, step_bp)
        for side in (BUY, SELL):
            if orders[side, Order.PRICE] > 0:
                fill_resting(
                    tape, row, side, account, orders, ladder, consumed, fill_rate,
                    step_bp, rules.limit_centi, schedule,
                )  # fmt: skip
        if orders[FLIGHT, Order.PRICE] > 0 and tape.time_ms[row] >= orders[FLIGHT, Order.SINCE_MS]:
            arrive(
                tape, row, account, orders, ladder, consumed, fill_rate,
                step_bp, rules.limit_centi, schedule,
            )  # fmt: skip


@njit(cache=True)
def observe(tape: Tape, lanes: Lanes, rules: Rules, lane: int) -> None:
    """Mark the account and write observation and mask of the current step."""
    account, orders = lanes.account[lane], lanes.orders[lane]
    episode, step = account[Account.EPISODE], account[Account.STEP]
    row, grid = tape.step_row[step], tape.grid[episode]
    bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
    now = int(tape.time_ms[row])
    schedule = tape.fee_schedule[episode]
    position = account[Account.POSITION]
    value = 0
    if position != 0 and account[Account.BOOK_EMPTY] == 0:
        value = liquidation_micro(
            lanes.ladder[lane], lanes.consumed[lane], position,
            int(tape.grid_step_bp[grid]), schedule,
        )  # fmt: skip
    mark(lanes, lane, value)
    available = available_micro(account, orders, schedule)
    reserved = account[Account.CASH] - BP_PER_DOLLAR * max(-position, 0) - available
    account[Account.CAPITAL] = max(account[Account.CAPITAL], invested_micro(account) + reserved)
    lanes.time_ms[lane] = now
    observation = lanes.observation[lane]
    for column in range(TENSOR_WIDTH):
        observation[column] = tape.features[step, column]
    mid = (bid + ask) / 2.0
    write_portfolio(
        observation, account, available, value, mid, now, rules.start_micro, rules.limit_centi
    )
    write_orders(observation, orders, lanes.fill_rate[lane, 0], mid, now)
    quotes = (bid, ask, int(tape.tick_up_bp[grid, bid]), int(tape.tick_down_bp[grid, ask]))
    write_mask(
        lanes.mask[lane], account, orders, schedule, available, quotes,
        rules.size_centi, rules.limit_centi,
    )  # fmt: skip


@njit(cache=True)
def mark(lanes: Lanes, lane: int, value_micro: int) -> None:
    """Set both equities, peak and drawdown from the position's liquidation value."""
    account = lanes.account[lane]
    position, cash = account[Account.POSITION], account[Account.CASH]
    equity = cash - BP_PER_DOLLAR * max(-position, 0) + value_micro
    equity_mid = cash + position * account[Account.MID2] // 2
    set_equity(lanes, lane, equity, equity_mid)


@njit(cache=True)
def set_equity(lanes: Lanes, lane: int, equity_micro: int, equity_mid_micro: int) -> None:
    """Record both equities; peak and drawdown follow the first."""
    account = lanes.account[lane]
    account[Account.EQUITY] = equity_micro
    account[Account.EQUITY_MID] = equity_mid_micro
    account[Account.PEAK] = max(account[Account.PEAK], equity_micro)
    account[Account.DRAWDOWN] = max(account[Account.DRAWDOWN], account[Account.PEAK] - equity_micro)
    lanes.equity_micro[lane] = equity_micro
    lanes.equity_mid_micro[lane] = equity_mid_micro


@njit(cache=True)
def finish(tape: Tape, lanes: Lanes, lane: int) -> None:
    """End the episode: settle it, or mark it at the last book that was not empty."""
    account, orders = lanes.account[lane], lanes.orders[lane]
    episode = account[Account.EPISODE]
    if orders[FLIGHT, Order.PRICE] > 0:
        account[Account.ORDERS] += 1
    for slot in range(SLOTS):
        if orders[slot, Order.PRICE] > 0:
            end_order(account, orders[slot], lanes.fill_rate[lane])
    settlement = int(tape.settlement_bp[episode])
    position = account[Account.POSITION]
    if settlement >= 0:
        equity = account[Account.CASH] + position * settlement
        set_equity(lanes, lane, equity, equity)
        lanes.terminated[lane] = True
    else:
        step_bp = int(tape.grid_step_bp[tape.grid[episode]])
        value = 0
        if position != 0:
            value = liquidation_micro(
                lanes.ladder[lane], lanes.consumed[lane], position, step_bp,
                tape.fee_schedule[episode],
            )  # fmt: skip
        mark(lanes, lane, value)
        lanes.truncated[lane] = True
    if position != 0:
        account[Account.TRIPS] += 1
        account[Account.WINS] += 1 if account[Account.EQUITY] > account[Account.TRIP_CASH] else 0


def _check(config: TradingConfig) -> None:
    largest = max(config.position_limit_centi, config.order_size_centi)
    if not 0 < largest <= MAX_POSITION_CENTI or config.order_size_centi <= 0:
        raise ValueError(f"sizes are 1 to {MAX_POSITION_CENTI} centi, was {largest}")
    if config.cash_start_micro <= 0 or config.latency_ms < 0:
        raise ValueError("starting cash must be positive and latency not negative")


def _check_indices(name: str, indices: Ints, length: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f"{name} must be 0 to {length - 1}, was {indices}")


def _with_fees(tape: Tape, *, enabled: bool) -> Tape:
    if enabled:
        return tape
    return tape._replace(fee_schedule=np.tile(np.array(NO_FEES, np.int64), (len(tape.grid), 1)))


def _longest_ladder(tape: Tape) -> int:
    return BP_PER_DOLLAR // int(tape.grid_step_bp.min(initial=BP_PER_DOLLAR)) + 1


def _new_lanes(lanes: int, levels: int) -> Lanes:
    return Lanes(
        account=np.zeros((lanes, len(Account)), np.int64),
        orders=np.zeros((lanes, SLOTS, len(Order)), np.int64),
        ladder=np.zeros((lanes, 2, levels), np.int64),
        consumed=np.zeros((lanes, 2, levels), np.int64),
        fill_rate=np.zeros((lanes, 1)),
        action_counts=np.zeros((lanes, ACTIONS), np.int64),
        observation=np.zeros((lanes, OBSERVATION_WIDTH), np.float32),
        mask=np.zeros((lanes, ACTIONS), np.bool_),
        reward=np.zeros(lanes),
        terminated=np.zeros(lanes, np.bool_),
        truncated=np.ones(lanes, np.bool_),
        time_ms=np.zeros(lanes, np.int64),
        equity_micro=np.zeros(lanes, np.int64),
        equity_mid_micro=np.zeros(lanes, np.int64),
    )
