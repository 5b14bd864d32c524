"""The trading simulator, slowly: one episode, dictionaries, fractions, holdings instead of a sign.

Written from the rules (docstrings of `kalshi_pipeline.trading`, the feature table, the fee pages
of the exchange), not from the kernel. It keeps real cash and real holdings, YES or NO, nets pairs
for a dollar, and computes fees with fractions.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fractions import Fraction

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.tape import Universe

DOLLAR_BP = 10_000
CENT = 10_000  # micro
HOLD, BUY_BEST, BUY_IMPROVE, BUY_PASSIVE, SELL_BEST, SELL_IMPROVE, SELL_PASSIVE = range(7)
SNAPSHOT, DELTA, TRADE = range(3)


@dataclass
class Book:
    """Bid ladders and what own fills took of each level."""

    bids: dict[str, dict[int, int]] = field(default_factory=lambda: {"yes": {}, "no": {}})
    taken: dict[tuple[str, int], int] = field(default_factory=dict)

    def best(self, ladder: str) -> int:
        return max(self.bids[ladder], default=0)

    @property
    def bid(self) -> int:
        return self.best("yes")

    @property
    def ask(self) -> int:
        return DOLLAR_BP - self.best("no")

    @property
    def empty(self) -> bool:
        return not self.bids["yes"] and not self.bids["no"]

    def left(self, ladder: str, price: int) -> int:
        return self.bids[ladder].get(price, 0) - self.taken.get((ladder, price), 0)

    def set_level(self, ladder: str, price: int, size: int) -> None:
        self.taken.pop((ladder, price), None)
        self.bids[ladder].pop(price, None)
        if size:
            self.bids[ladder][price] = size


@dataclass
class SlowOrder:
    side: str  # buy, sell
    price: int
    size: int
    post_only: bool
    due_ms: int
    remaining: int = 0
    since_ms: int = 0
    since_row: int = 0
    ahead: int = 0
    entry: int = 0  # shown at the price on arrival; then sums since: printed, fallen, and of the
    printed: int = 0  # unexplained falls those that count as traded
    fallen: int = 0
    presumed: int = 0
    shown: int = 0
    exact_fees: Fraction = Fraction(0)
    fees_paid: int = 0
    rounding: int = 0


class SlowEpisode:
    """One lane. `step(action)` returns the reward in micro dollars."""

    def __init__(self, universe: Universe, episode: int, config: TradingConfig) -> None:
        self.tape, self.episode, self.config = universe.tape, episode, config
        self.step_index = int(self.tape.first_step[episode])
        self.cash = config.cash_start_micro
        self.held = {"yes": 0, "no": 0}
        self.cost = 0  # what the holding cost, in its own terms
        self.realised = self.fees = self.traded = 0
        self.opened_ms = 0
        self.resting: dict[str, SlowOrder] = {}
        self.flight: SlowOrder | None = None
        self.book, self.last_book = Book(), Book()
        self.mark_mid: Fraction | None = None
        self.fill_rate = 0.0
        self.counts = dict.fromkeys(
            ("taker_fills", "maker_fills", "orders", "cancels", "invalid", "trips", "wins"), 0
        )
        self.trip_cash = config.cash_start_micro
        self.peak = self.equity = self.day_equity = config.cash_start_micro
        self.day: date | None = None
        self.stopped = False
        self.drawdown = self.capital = 0
        self.fills: list[tuple[int, str, int, int]] = []  # row, side, price, size
        self.terminated = self.truncated = False
        for row in range(int(self.tape.first_row[episode]), self.row + 1):
            self._apply(row)
        self._look()

    # ---- the market -------------------------------------------------------------------------

    @property
    def row(self) -> int:
        return int(self.tape.step_row[self.step_index])

    @property
    def now_ms(self) -> int:
        return int(self.tape.time_ms[self.row])

    def _apply(self, row: int) -> None:
        tape, kind = self.tape, int(self.tape.kind[row])
        if kind == SNAPSHOT:
            self.book = Book()
            shot = int(tape.change_centi[row])
            for level in range(int(tape.snapshot_first[shot]), int(tape.snapshot_first[shot + 1])):
                ladder = ("yes", "no")[int(tape.level_side[level])]
                price = int(tape.level_price_bp[level])
                self.book.bids[ladder][price] = int(tape.level_size_centi[level])
        elif kind == DELTA:
            ladder, price = ("yes", "no")[int(tape.side[row])], int(tape.price_bp[row])
            size = self.book.bids[ladder].get(price, 0) + int(tape.change_centi[row])
            self.book.set_level(ladder, price, size)
        assert self.book.bid == tape.bid_bp[row]
        assert self.book.ask == tape.ask_bp[row]
        if not self.book.empty:
            bid, ask = self.book.bid, self.book.ask
            if (bid > 0 and ask < DOLLAR_BP) or self.mark_mid is None:
                self.mark_mid = Fraction(bid + ask, 2)
            self.mark_mid = min(max(self.mark_mid, Fraction(bid)), Fraction(ask))

    def _replay(self, row: int) -> None:
        tape = self.tape
        self._apply(row)
        for side in ("buy", "sell"):
            order = self.resting.get(side)
            if order is None:
                continue
            if self.config.fill_model == "touch":
                self._execute(order, order.price, order.remaining, row, maker=True)
                continue
            if tape.kind[row] == TRADE:
                printed = int(tape.price_bp[row])
                if printed < order.price if side == "buy" else printed > order.price:
                    size = min(order.remaining, int(tape.change_centi[row]))
                    self._execute(order, order.price, size, row, maker=True)
            if self.config.fill_model == "queue" and self.resting.get(side) is order:
                size = min(order.remaining, self._pass_queue(order, row))
                self._execute(order, order.price, size, row, maker=True)
            if self.resting.get(side) is order and self._crosses(order):
                self._meet_touch(order, order.price, row, maker=True)
            if self.resting.get(side) is order:
                order.ahead = min(order.ahead, self._shown(order))
        if self.flight is not None and int(tape.time_ms[row]) >= self.flight.due_ms:
            self._arrive(row)
        if not self.book.empty:
            self.last_book = copy.deepcopy(self.book)

    # ---- orders -----------------------------------------------------------------------------

    def _crosses(self, order: SlowOrder) -> bool:
        if order.side == "buy":
            return bool(self.book.bids["no"]) and self.book.ask <= order.price
        return bool(self.book.bids["yes"]) and self.book.bid >= order.price

    def _shown(self, order: SlowOrder) -> int:
        if order.side == "buy":
            return self.book.bids["yes"].get(order.price, 0)
        return self.book.bids["no"].get(DOLLAR_BP - order.price, 0)

    def _pass_queue(self, order: SlowOrder, row: int) -> int:
        """How much more of what is traded at the price lies behind the queue, from the sums."""
        tape = self.tape
        taker = "yes" if tape.side[row] == 0 else "no"
        passed_before = max(order.printed + order.presumed - order.entry, 0)
        unexplained_before = max(order.fallen - order.printed, 0)
        if (
            tape.kind[row] == TRADE
            and int(tape.price_bp[row]) == order.price
            and taker == ("no" if order.side == "buy" else "yes")
        ):
            order.printed += int(tape.change_centi[row])
        shown = self._shown(order)
        order.fallen += max(order.shown - shown, 0)
        order.shown = shown
        unexplained = max(order.fallen - order.printed, 0)
        order.presumed -= max(unexplained_before - unexplained, 0)
        share = Fraction(str(self.config.queue_alpha))
        order.presumed = max(order.presumed, math.floor(share * unexplained))
        order.ahead = max(order.entry - order.printed - order.presumed, 0)
        if order.ahead > shown:
            order.presumed += order.ahead - shown
        assert order.presumed <= unexplained
        return max(order.printed + order.presumed - order.entry, 0) - passed_before

    def _arrive(self, row: int) -> None:
        order, self.flight = self.flight, None
        assert order is not None
        other = self.resting.get("sell" if order.side == "buy" else "buy")
        if other is not None and (
            other.price <= order.price if order.side == "buy" else other.price >= order.price
        ):
            self._end(other)
        old = self.resting.get(order.side)
        if order.post_only and old is not None and old.price == order.price:
            return
        self.counts["orders"] += 1
        if old is not None:
            self._end(old)
        if not order.post_only:
            if self._crosses(order):
                touch = self.book.ask if order.side == "buy" else self.book.bid
                self._meet_touch(order, touch, row, maker=False)
            if order.remaining:
                self._end(order)
            return
        if self._crosses(order):
            self._end(order)
            return
        order.since_ms, order.since_row = int(self.tape.time_ms[row]), row
        order.ahead = order.entry = order.shown = self._shown(order)
        self.resting[order.side] = order
        if not self._fits(order.side, order.size) or self.available < 0:
            self._end(order)

    def _fits(self, side: str, size: int) -> bool:
        if self.stopped:
            return self.held["no" if side == "buy" else "yes"] > 0
        signed = self.position if side == "buy" else -self.position
        return signed + size <= self.config.position_limit_centi

    def _watch_day(self, before: int) -> None:
        today = datetime.fromtimestamp(self.now_ms // 1000, UTC).date()
        if today != self.day:
            self.day, self.day_equity, self.stopped = today, before, False
        if self.equity <= self.day_equity - self.config.daily_loss_limit_micro:
            self.stopped = True
        for side, order in list(self.resting.items()):
            if self.stopped and not self.held["no" if side == "buy" else "yes"]:
                self._end(order)

    def _end(self, order: SlowOrder) -> None:
        if order.remaining:
            self.counts["cancels"] += 1
        share = (order.size - order.remaining) / order.size
        self.fill_rate = 0.9 * self.fill_rate + 0.1 * share
        order.remaining = 0
        if self.resting.get(order.side) is order:
            del self.resting[order.side]

    def _meet_touch(self, order: SlowOrder, price: int, row: int, *, maker: bool) -> None:
        ladder = "no" if order.side == "buy" else "yes"
        best = self.book.best(ladder)
        size = min(order.remaining, self.book.left(ladder, best))
        filled = self._execute(order, price, size, row, maker=maker)
        if filled:
            self.book.taken[ladder, best] = self.book.taken.get((ladder, best), 0) + filled

    def _execute(self, order: SlowOrder, price: int, size: int, row: int, *, maker: bool) -> int:
        """Largest part of the fill after which cash is not negative and the limit holds."""
        if size <= 0:
            return 0
        limit = 0 if self.stopped else self.config.position_limit_centi
        signed = self.position if order.side == "buy" else -self.position
        fitting = next(
            (
                n
                for n in range(min(size, limit - signed), 0, -1)
                if self._carries(order, price, n, maker)
            ),
            0,
        )
        if fitting:
            self._book(order, price, fitting, maker, int(self.tape.time_ms[row]))
            self.counts["maker_fills" if maker else "taker_fills"] += 1
            self.fills.append((row, order.side, price, fitting))
        if fitting < size or not order.remaining or self.available < 0:
            self._end(order)
        return fitting

    def _carries(self, order: SlowOrder, price: int, size: int, maker: bool) -> bool:
        trial = copy.copy(self)
        trial.held, trial.counts = dict(self.held), dict(self.counts)
        trial.resting = {s: o for s, o in self.resting.items() if s != order.side}
        trial._book(copy.copy(order), price, size, maker, 0)
        return trial.available >= 0

    # ---- the account ------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self.held["yes"] - self.held["no"]

    @property
    def linear_cash(self) -> int:
        """Cash as if a NO contract were a YES sold short."""
        return self.cash + DOLLAR_BP * self.held["no"]

    def _book(self, order: SlowOrder, price: int, size: int, maker: bool, time_ms: int) -> None:
        gets, gives = ("yes", "no") if order.side == "buy" else ("no", "yes")
        unit = price if gets == "yes" else DOLLAR_BP - price  # what one of `gets` costs
        closing = min(size, self.held[gives])
        opening = size - closing
        change = -unit * size + DOLLAR_BP * closing  # each netted pair pays a dollar
        fee = self._fee(order, price, size, maker, change)
        was_flat = self.position == 0
        if closing:
            # The released share of the cost, rounded towards a lower entry price of YES.
            share = Fraction(self.cost * closing, self.held[gives])
            released = math.floor(share) if gives == "yes" else math.ceil(share)
            self.realised += (DOLLAR_BP - unit) * closing - released
            self.cost -= released
            self.held[gives] -= closing
            if self.position == 0:
                flat = self.cash + (DOLLAR_BP - unit) * closing - fee
                self.counts["trips"] += 1
                self.counts["wins"] += flat > self.trip_cash
                self.trip_cash = flat
                was_flat = True
        if opening:
            self.held[gets] += opening
            self.cost += unit * opening
            if was_flat:
                self.opened_ms = time_ms
        self.cash += change - fee
        self.fees += fee
        self.traded += size
        order.remaining -= size

    def _fee(self, order: SlowOrder, price: int, size: int, maker: bool, change: int) -> int:
        taker_rate, maker_rate, multiplier, rule = self._schedule()
        exact = _exact_fee(maker_rate if maker else taker_rate, multiplier, size, price)
        if rule == 0:
            order.exact_fees += exact
            fee = math.ceil(order.exact_fees * 100) * CENT - order.fees_paid
            order.fees_paid += fee
            return fee
        trade_fee = math.ceil(exact * 10_000) * 100
        floored = math.floor(Fraction(change - trade_fee, CENT)) * CENT
        fee = change - floored
        order.rounding += fee - trade_fee
        if order.rounding > CENT and fee >= CENT:
            order.rounding -= CENT
            fee -= CENT
        return fee

    def _schedule(self) -> tuple[int, int, int, int]:
        if not self.config.fees:
            return 0, 0, 100, 0
        a, b, c, d = (int(value) for value in self.tape.fee_schedule[self.episode])
        return a, b, c, d

    def _worst_fee(self, rate: int, size: int, price: int) -> int:
        _, _, multiplier, rule = self._schedule()
        exact = _exact_fee(rate, multiplier, size, price)
        if rule == 0:
            return math.ceil(exact * 100) * CENT
        return math.ceil(exact * 10_000) * 100 + CENT

    def _cost(self, side: str, price: int, size: int, rate: int) -> int:
        opposite = self.held["no" if side == "buy" else "yes"]
        opening = max(size - opposite, 0)
        if not opening:
            return 0
        unit = price if side == "buy" else DOLLAR_BP - price
        return opening * unit + self._worst_fee(rate, size, price)

    @property
    def reserved(self) -> int:
        maker_rate = self._schedule()[1]
        return sum(
            self._cost(side, order.price, order.remaining, maker_rate)
            for side, order in self.resting.items()
        )

    @property
    def available(self) -> int:
        return self.cash - self.reserved

    def value(self, book: Book) -> int:
        """Liquidation of the holding into a book."""
        ladder = "yes" if self.held["yes"] else "no"
        wanted, proceeds, exact = self.held[ladder], 0, Fraction(0)
        taker_rate, _, multiplier, _ = self._schedule()
        for price in sorted(book.bids[ladder], reverse=True):
            size = min(wanted, book.left(ladder, price))
            proceeds += size * price
            exact += _exact_fee(taker_rate, multiplier, size, price)
            wanted -= size
        return max(0, proceeds - math.ceil(exact * 100) * CENT)

    # ---- what the agent sees ----------------------------------------------------------------

    def _look(self) -> None:
        self.position_value = 0 if self.book.empty else self.value(self.book)
        before = self.equity
        self._mark(self.cash + self.position_value)
        if self.config.daily_loss_limit_micro:
            self._watch_day(before)
        self.capital = max(self.capital, self.cost + self.reserved)

    def _mark(self, equity: int) -> None:
        self.equity = equity
        mid = self.mark_mid if self.mark_mid is not None else Fraction(0)
        self.equity_mid = math.floor(self.linear_cash + (self.position * mid))
        self.peak = max(self.peak, equity)
        self.drawdown = max(self.drawdown, self.peak - equity)

    def price_of(self, action: int) -> int | None:
        """Limit price on the book the agent sees, None where there is none."""
        bid = self.book.bid or None
        ask = self.book.ask if self.book.bids["no"] else None
        grid = int(self.tape.grid[self.episode])
        if action in (BUY_BEST, SELL_PASSIVE):
            return ask
        if action in (SELL_BEST, BUY_PASSIVE):
            return bid
        if action == BUY_IMPROVE:
            down = int(self.tape.tick_down_bp[grid, ask]) if ask is not None else 0
            return ask - down if ask is not None and down else None
        up = int(self.tape.tick_up_bp[grid, bid]) if bid is not None else 0
        return bid + up if bid is not None and up else None

    def mask(self) -> list[bool]:
        """Which actions are valid."""
        allowed = [True]
        taker_rate, maker_rate, _, _ = self._schedule()
        size = self.config.order_size_centi
        for action in range(1, 7):
            price = self.price_of(action)
            side = "buy" if action <= BUY_PASSIVE else "sell"
            waiting = self.resting[side].remaining if side in self.resting else 0
            allowed.append(
                self.flight is None
                and price is not None
                and 0 < price < DOLLAR_BP
                and self._fits(side, waiting + size)
                and self._cost(
                    side, price, size, taker_rate if action in (BUY_BEST, SELL_BEST) else maker_rate
                )
                <= self.available
            )
        return allowed

    def features(self) -> list[float]:
        """The 17 agent features, in the order of the table."""
        config, start = self.config, self.config.cash_start_micro
        mid = (self.book.bid + self.book.ask) / 2 / DOLLAR_BP
        x = self.position / 100
        entry = gain_mid = gain_liquidation = held = 0.0
        if x:
            own_cost = self.cost / abs(self.position) / DOLLAR_BP
            average = own_cost if x > 0 else 1 - own_cost
            entry = _c(10 * (average - mid))
            gain_mid = _c((x * mid - x * average) / 10)
            gain_liquidation = _c((self.position_value - self.cost) / 1e6 / 10)
            held = _l((self.now_ms - self.opened_ms) / 1000)
        queue = age = 0.0
        if self.resting:
            older = min(self.resting.values(), key=lambda order: order.since_row)
            queue = older.ahead / (older.ahead + older.remaining)
            age = _l((self.now_ms - older.since_ms) / 1000)
        near = [
            min(1.0, 2 * abs(mid - self.resting[side].price / DOLLAR_BP))
            if side in self.resting
            else -1.0
            for side in ("buy", "sell")
        ]
        return [
            min(2.0, self.available / start),
            self.position / config.position_limit_centi,
            float(x > 0),
            float(x < 0),
            entry,
            gain_mid,
            gain_liquidation,
            _c(self.realised / 1e6 / 10),
            min(1.0, self.fees / 1e6 / 10),
            _c(10 * (self.equity / start - 1)),
            min(1.0, 10 * (self.peak - self.equity) / start),
            held,
            *near,
            queue,
            age,
            self.fill_rate,
        ]

    # ---- one step ---------------------------------------------------------------------------

    def step(self, action: int) -> int:
        before, before_mid = self.equity, self.equity_mid
        if action != HOLD:
            if self.mask()[action]:
                price = self.price_of(action)
                assert price is not None
                self.flight = SlowOrder(
                    side="buy" if action <= BUY_PASSIVE else "sell",
                    price=price,
                    size=self.config.order_size_centi,
                    remaining=self.config.order_size_centi,
                    post_only=action not in (BUY_BEST, SELL_BEST),
                    due_ms=self.now_ms + self.config.latency_ms,
                )
            else:
                self.counts["invalid"] += 1
        first = self.row + 1
        self.step_index += 1
        for row in range(first, self.row + 1):
            self._replay(row)
        self._look()
        if self.step_index == self.tape.end_step[self.episode] - 1:
            self.last_features, self.last_mask = self.features(), self.mask()
            self._finish()
        return self.equity_mid - before_mid if self.config.mark == "mid" else self.equity - before

    def _finish(self) -> None:
        for order in list(self.resting.values()):
            self._end(order)
        if self.flight is not None:
            self.counts["orders"] += 1
            self._end(self.flight)
            self.flight = None
        settlement = int(self.tape.settlement_bp[self.episode])
        if settlement >= 0:
            worth = {"yes": settlement, "no": DOLLAR_BP - settlement}
            self._mark(self.cash + sum(size * worth[name] for name, size in self.held.items()))
            self.equity_mid = self.equity
            self.terminated = True
        else:
            self._mark(self.cash + self.value(self.last_book))
            self.truncated = True
        if self.position:
            self.counts["trips"] += 1
            self.counts["wins"] += self.equity > self.trip_cash


def _exact_fee(rate: int, multiplier: int, size: int, price: int) -> Fraction:
    """In dollars."""
    p = Fraction(price, DOLLAR_BP)
    return Fraction(rate, 10_000) * Fraction(multiplier, 100) * Fraction(size, 100) * p * (1 - p)


def _c(value: float) -> float:
    return max(-1.0, min(1.0, value))


def _l(seconds: float) -> float:
    return min(1.0, math.log(1 + seconds) / math.log(1 + 86_400))
