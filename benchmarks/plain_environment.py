"""The environment a careful user writes in plain Python: the peer of the compiled one.

Same rules (cross fills, latency, partial fills, reservations, exact fees, liquidation mark), same
52 floats, same rewards to the last digit: `assert_same_rewards` plays both before anything is
timed. Tapes are unpacked into lists once, prices index dense ladders, the touch is read, not
searched.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from benchmarks.plain_account import BUY, DOLLAR_BP, SELL, SHARE, Account, Order, Schedule
from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.environment import action_space, observation_space
from kalshi_pipeline.trading.sampler import Sampler
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe

HOLD, BUY_BEST, BUY_IMPROVE, BUY_PASSIVE, SELL_BEST, SELL_IMPROVE, SELL_PASSIVE = range(7)
SNAPSHOT, DELTA, TRADE = range(3)
LOG_DAY = math.log1p(86_400)
TEN_DOLLARS = 1e7  # micro


class Lists:
    """A tape as Python lists, shared by all environments over it."""

    def __init__(self, universe: Universe) -> None:
        tape = universe.tape
        self.episodes = len(universe)
        self.features = tape.features
        names = ("time_ms", "kind", "side", "price_bp", "change_centi", "bid_bp", "ask_bp")
        self.rows = list(zip(*(getattr(tape, name).tolist() for name in names), strict=True))
        self.levels = [
            list(zip(*(c[first:end].tolist() for c in columns), strict=True))
            for columns in [(tape.level_side, tape.level_price_bp, tape.level_size_centi)]
            for first, end in zip(tape.snapshot_first[:-1], tape.snapshot_first[1:], strict=True)
        ]
        self.step_row = tape.step_row.tolist()
        self.first_row = tape.first_row.tolist()
        self.first_step, self.end_step = tape.first_step.tolist(), tape.end_step.tolist()
        self.settlement = tape.settlement_bp.tolist()
        self.grid, self.fees = tape.grid.tolist(), tape.fee_schedule.tolist()
        self.grid_step = tape.grid_step_bp.tolist()
        self.tick_up, self.tick_down = tape.tick_up_bp.tolist(), tape.tick_down_bp.tolist()


class PlainKalshiEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """One market segment at a time; the sampler chooses it, or `options={"episode": i}`."""

    def __init__(self, lists: Lists, config: TradingConfig, sampler: Sampler | None = None) -> None:
        self.observation_space = observation_space()  # type: ignore[assignment]
        self.action_space = action_space()
        self.lists, self.config, self.sampler = lists, config, sampler

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        lists, config = self.lists, self.config
        e = self._next_episode(options)
        fees = Schedule(*lists.fees[e]) if config.fees else Schedule(0, 0, 100, 0)
        self.account = Account(config.cash_start_micro, config.position_limit_centi, fees)
        self.episode, self.step_index = e, lists.first_step[e]
        self.tick_up, self.tick_down = lists.tick_up[lists.grid[e]], lists.tick_down[lists.grid[e]]
        self.spacing = lists.grid_step[lists.grid[e]]
        self.width = DOLLAR_BP // self.spacing + 1
        self.flight: Order | None = None
        self.empty = False
        self.mid2 = -1
        self._clear()
        self.row = lists.first_row[e] - 1
        self._replay()
        return self._observe(), {}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Send the order the action stands for, replay to the next step, look."""
        account, lists = self.account, self.lists
        before = self._marked()
        if action != HOLD and (price := self._allowed_price(int(action))):
            side = BUY if action <= BUY_PASSIVE else SELL
            due_ms = lists.rows[self.row][0] + self.config.latency_ms
            post_only = action not in (BUY_BEST, SELL_BEST)
            self.flight = Order(
                side, price, self.config.order_size_centi, due_ms, post_only=post_only
            )
        self.step_index += 1
        self._replay()
        observation = self._observe()
        terminated = truncated = False
        if self.step_index == lists.end_step[self.episode] - 1:
            settlement = lists.settlement[self.episode]
            terminated, truncated = settlement >= 0, settlement < 0
            if terminated:
                account.equity = account.cash + account.position * settlement
                self.equity_mid = account.equity
            else:
                self._mark(self._liquidation())
        reward = (self._marked() - before) / 1e6
        return observation, reward, terminated, truncated, {}

    def _next_episode(self, options: dict[str, Any] | None) -> int:
        if options and "episode" in options:
            return int(options["episode"])
        if self.sampler is not None:
            return int(self.sampler.draw(1)[0])
        return int(self.np_random.integers(self.lists.episodes))

    # ---- the market -------------------------------------------------------------------------

    def _clear(self) -> None:
        self.ladders = ([0] * self.width, [0] * self.width)
        self.consumed: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.bid, self.ask = 0, DOLLAR_BP

    def _replay(self) -> None:
        lists, resting = self.lists, self.account.resting
        last = lists.step_row[self.step_index]
        for row in range(self.row + 1, last + 1):
            message = lists.rows[row]
            self._apply(message)
            if buy := resting[BUY]:
                self._fill_resting(buy, message)
            if sell := resting[SELL]:
                self._fill_resting(sell, message)
            if self.flight is not None and message[0] >= self.flight.since_ms:
                self._arrive(row, message)
        self.row = last

    def _apply(self, message: tuple[int, ...]) -> None:
        _, kind, side, price, change, bid, ask = message
        if bid <= 0 and ask >= DOLLAR_BP:
            self.empty = True  # the last book that was not empty stays: it marks the end
            return
        if (bid > 0 and ask < DOLLAR_BP) or self.mid2 < 0:
            self.mid2 = bid + ask
        else:
            self.mid2 = min(max(self.mid2, 2 * bid), 2 * ask)
        if kind != TRADE:
            if kind == SNAPSHOT or self.empty:
                self._clear()
                self.empty = False
            if kind == DELTA:
                place = price // self.spacing
                self.ladders[side][place] += change
                self.consumed[side].pop(place, None)
            else:
                for level_side, level_price, size in self.lists.levels[change]:
                    self.ladders[level_side][level_price // self.spacing] = size
            self.bid, self.ask = bid, ask

    def _fill_resting(self, order: Order, message: tuple[int, ...]) -> None:
        time_ms, kind, _, trade_price, size, _, _ = message
        side, price = order.side, order.price
        if kind == TRADE and (trade_price < price if side == BUY else trade_price > price):
            self.account.fill(order, price, min(order.remaining, size), time_ms, taking=False)
        if order.remaining and self._meets(side, price, message):
            self._take_touch(order, price, message, taking=False)
        if order.remaining:
            order.ahead = min(order.ahead, self._displayed(side, price))

    def _arrive(self, row: int, message: tuple[int, ...]) -> None:
        account, order = self.account, self.flight
        assert order is not None
        self.flight = None
        side, price = order.side, order.price
        other, old = account.resting[1 - side], account.resting[side]
        if other and (price >= other.price if side == BUY else price <= other.price):
            account.end(other)
        if order.post_only and old and old.price == price:
            return
        if old:
            account.end(old)
        crosses = self._meets(side, price, message)
        if order.post_only:
            if crosses:
                account.end(order)
            else:
                self._rest(order, row, message[0])
            return
        if crosses:
            touch = message[6] if side == BUY else message[5]
            self._take_touch(order, touch, message, taking=True)
        if order.remaining:
            account.end(order)

    def _rest(self, order: Order, row: int, time_ms: int) -> None:
        account = self.account
        account.resting[order.side] = order
        order.row, order.since_ms = row, time_ms
        order.ahead = self._displayed(order.side, order.price)
        held = account.position if order.side == BUY else -account.position
        if held + order.size > account.limit or account.available < 0:
            account.end(order)

    def _take_touch(
        self, order: Order, price: int, message: tuple[int, ...], *, taking: bool
    ) -> None:
        ladder = 1 - order.side
        place = (message[5] if ladder == 0 else DOLLAR_BP - message[6]) // self.spacing
        taken = self.consumed[ladder].get(place, 0)
        shown = self.ladders[ladder][place] - taken
        size = min(order.remaining, shown)
        filled = self.account.fill(order, price, size, message[0], taking=taking)
        if filled:
            self.consumed[ladder][place] = taken + filled

    @staticmethod
    def _meets(side: int, price: int, message: tuple[int, ...]) -> bool:
        if side == BUY:
            return message[6] < DOLLAR_BP and message[6] <= price
        return message[5] > 0 and message[5] >= price

    def _displayed(self, side: int, price: int) -> int:
        if self.empty:
            return 0
        own_scale = price if side == BUY else DOLLAR_BP - price
        shown: int = self.ladders[side][own_scale // self.spacing]
        return shown

    def _liquidation(self) -> int:
        # long walks the YES bids from the best down, short the NO bids; at least 0
        account = self.account
        wanted = abs(account.position)
        if not wanted:
            return 0
        side = 0 if account.position > 0 else 1
        ladder, consumed = self.ladders[side], self.consumed[side]
        best = self.bid if side == 0 else DOLLAR_BP - self.ask
        proceeds = product = 0
        for place in range(best // self.spacing, 0, -1):
            taken = min(wanted, ladder[place] - consumed.get(place, 0))
            if taken > 0:
                price = place * self.spacing
                proceeds += taken * price
                product += taken * price * (DOLLAR_BP - price)
                wanted -= taken
                if not wanted:
                    break
        fee = product * account.fees.taker_rate_bp * account.fees.multiplier_pct
        return max(proceeds + (-fee // 10**14) * 10_000, 0)

    # ---- the agent --------------------------------------------------------------------------

    def _marked(self) -> int:
        return self.equity_mid if self.config.mark == "mid" else self.account.equity

    def _mark(self, value: int) -> None:
        account = self.account
        account.equity = account.cash - DOLLAR_BP * max(-account.position, 0) + value
        self.equity_mid = account.cash + account.position * self.mid2 // 2
        account.peak = max(account.peak, account.equity)

    def _allowed_price(self, action: int) -> int:
        # 0 where the action is invalid
        account, size = self.account, self.config.order_size_centi
        side = BUY if action <= BUY_PASSIVE else SELL
        held = account.position if side == BUY else -account.position
        order = account.resting[side]
        waiting = order.remaining if order else 0
        if self.flight is not None or held + waiting + size > account.limit:
            return 0
        bid, ask = self.lists.rows[self.row][5:7]
        quotes_ask = action in (BUY_BEST, BUY_IMPROVE, SELL_PASSIVE)
        if ask >= DOLLAR_BP if quotes_ask else bid <= 0:
            return 0
        price = ask if quotes_ask else bid
        if action == BUY_IMPROVE:
            down = self.tick_down[ask]
            price = ask - down if down else 0
        elif action == SELL_IMPROVE:
            up = self.tick_up[bid]
            price = bid + up if up else 0
        if not price:
            return 0
        takes = action in (BUY_BEST, SELL_BEST)
        rate = account.fees.taker_rate_bp if takes else account.fees.maker_rate_bp
        cost = account.cost(side, price, size, rate, account.position)
        return price if account.available >= cost else 0

    def _observe(self) -> NDArray[np.float32]:
        account, config = self.account, self.config
        now_ms, _, _, _, _, bid, ask = self.lists.rows[self.row]
        mid = (bid + ask) / 2
        value = 0 if self.empty else self._liquidation()
        self._mark(value)
        position, start = account.position, config.cash_start_micro
        entry = gain_mid = gain_now = held = 0.0
        if position:
            average = account.basis / abs(position)
            invested = account.basis if position > 0 else -position * DOLLAR_BP - account.basis
            entry = _clip(10 * (average - mid) / DOLLAR_BP)
            gain_mid = _clip((mid - average) * position / TEN_DOLLARS)
            gain_now = _clip((value - invested) / TEN_DOLLARS)
            held = _log_day(now_ms - account.opened_ms)
        buy, sell = account.resting
        queue = age = 0.0
        older = sell if sell and (buy is None or sell.row < buy.row) else buy
        if older:
            queue = older.ahead / (older.ahead + older.remaining)
            age = _log_day(now_ms - older.since_ms)
        observation = np.empty(52, np.float32)
        observation[:35] = self.lists.features[self.step_index]
        observation[35:] = (
            min(2.0, account.available / start),
            position / config.position_limit_centi,
            position > 0,
            position < 0,
            entry,
            gain_mid,
            gain_now,
            _clip(account.realised / TEN_DOLLARS),
            min(1.0, account.fees_paid / TEN_DOLLARS),
            _clip(10 * (account.equity / start - 1)),
            _clip(10 * (account.peak - account.equity) / start),
            held,
            -1.0 if buy is None else min(1.0, 2 * abs(mid - buy.price) / DOLLAR_BP),
            -1.0 if sell is None else min(1.0, 2 * abs(mid - sell.price) / DOLLAR_BP),
            queue,
            age,
            account.fill_rate / SHARE,
        )
        return observation


def assert_same_rewards(
    universe: Universe, config: TradingConfig, episodes: NDArray[np.int64], seed: int
) -> None:
    """Play episodes with random actions in both environments.

    Raises:
        AssertionError: a reward, an end or an observation differs.
    """
    rng = np.random.default_rng(seed)
    plain, compiled = PlainKalshiEnv(Lists(universe), config), Simulator(universe, 1, config)
    for episode in episodes:
        compiled.reset(np.zeros(1, np.int64), np.array([episode]))
        observation, _ = plain.reset(options={"episode": int(episode)})
        over = False
        while not over:
            _assert_close(observation, compiled.observation[0], episode)
            action = rng.integers(0, 7, 1)
            compiled.step(action)
            observation, reward, terminated, truncated, _ = plain.step(int(action[0]))
            theirs = (reward, terminated, truncated)
            ours = (compiled.reward[0], compiled.terminated[0], compiled.truncated[0])
            if theirs != ours:
                raise AssertionError(f"episode {episode}: plain {theirs}, compiled {ours}")
            over = terminated or truncated


def _assert_close(one: NDArray[np.float32], other: NDArray[np.float32], episode: int) -> None:
    if not np.allclose(one, other, rtol=0, atol=1e-6):
        columns = np.flatnonzero(np.abs(one - other) > 1e-6)
        raise AssertionError(f"episode {episode}: columns {columns} differ")


def _clip(value: float) -> float:
    return min(1.0, max(-1.0, value))


def _log_day(milliseconds: int) -> float:
    return min(1.0, math.log1p(milliseconds / 1000) / LOG_DAY)
