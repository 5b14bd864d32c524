"""The account of the plain-Python environment: cash, position, orders and fees in exact integers.

Written from the rules (`docs/ARCHITECTURE.md`, trading; the exchange's fee pages), as a careful
user without a compiler would: attributes, early exits, no objects in loops.
"""

from __future__ import annotations

from typing import NamedTuple

BUY, SELL = 0, 1
DOLLAR_BP = 10_000
CENT_MICRO = 10_000
# an exact fee is an integer in 1e-16 dollar
PRODUCT_PER_CENT, PRODUCT_PER_CENTICENT = 10**14, 10**12
SHARE = 10**9


class Schedule(NamedTuple):
    """Fees of one episode: rates and multiplier, and whether each fill is rounded by itself."""

    taker_rate_bp: int
    maker_rate_bp: int
    multiplier_pct: int
    per_fill: int


class Order:
    """An order in flight or resting."""

    __slots__ = (
        "ahead", "carried", "post_only", "price", "product", "remaining", "row", "side", "since_ms",
        "size",
    )  # fmt: skip

    def __init__(self, side: int, price: int, size: int, since_ms: int, *, post_only: bool) -> None:
        self.side, self.price, self.size, self.remaining = side, price, size, size
        self.since_ms, self.post_only = since_ms, post_only
        self.row = self.ahead = self.product = self.carried = 0


class Account:
    """Cash counts a NO contract as a YES sold short; one dollar for each short is set aside."""

    def __init__(self, cash_micro: int, limit_centi: int, fees: Schedule) -> None:
        self.limit, self.fees = limit_centi, fees
        self.cash = self.peak = self.equity = cash_micro
        self.position = self.basis = self.realised = self.fees_paid = 0
        self.opened_ms = self.fill_rate = 0
        self.resting: list[Order | None] = [None, None]

    def cost(self, side: int, price: int, size: int, rate: int, position: int) -> int:
        """Cash an order needs at worst; what closes a position needs none."""
        held = -position if side == BUY else position
        opening = size - min(size, max(held, 0))
        if not opening:
            return 0
        unit = price if side == BUY else DOLLAR_BP - price
        return opening * unit + self.worst_fee(rate, size, price)

    def worst_fee(self, rate: int, size: int, price: int) -> int:
        """The most that rounding can make of a fee."""
        product = rate * self.fees.multiplier_pct * size * price * (DOLLAR_BP - price)
        if self.fees.per_fill:
            return -(-product // PRODUCT_PER_CENTICENT) * 100 + CENT_MICRO
        return -(-product // PRODUCT_PER_CENT) * CENT_MICRO

    def reserved(self, side: int, position: int) -> int:
        """Cash set aside for the resting order of a side."""
        order = self.resting[side]
        if order is None:
            return 0
        return self.cost(side, order.price, order.remaining, self.fees.maker_rate_bp, position)

    @property
    def available(self) -> int:
        """Cash free for new orders."""
        position = self.position
        return (
            self.cash
            - DOLLAR_BP * max(-position, 0)
            - self.reserved(BUY, position)
            - self.reserved(SELL, position)
        )

    def fill(self, order: Order, price: int, offered: int, time_ms: int, *, taking: bool) -> int:
        """Fill what the account can carry; cancels what it cannot. Returns the size filled."""
        if offered <= 0:
            return 0
        side = order.side
        rate = self.fees.taker_rate_bp if taking else self.fees.maker_rate_bp
        held = self.position if side == BUY else -self.position
        size = min(offered, self.limit - held)
        while size > 0:
            cash, position, carried, product = self._outcome(order, price, size, rate)
            if cash - DOLLAR_BP * max(-position, 0) >= self.reserved(1 - side, position):
                self._book(order, price, size, cash, position, time_ms)
                order.carried = carried
                order.product += product
                break
            size -= 1
        size = max(size, 0)
        if size < offered or not order.remaining or self.available < 0:
            self.end(order)
        return size

    def end(self, order: Order) -> None:
        """Take an order off, filled or not."""
        share = (order.size - order.remaining) * SHARE // order.size
        self.fill_rate = (9 * self.fill_rate + share) // 10
        order.remaining = 0
        if self.resting[order.side] is order:
            self.resting[order.side] = None

    def _outcome(self, order: Order, price: int, size: int, rate: int) -> tuple[int, int, int, int]:
        # cash, position, what the order carries from fee to fee, exact fee
        signed = size if order.side == BUY else -size
        product = rate * self.fees.multiplier_pct * size * price * (DOLLAR_BP - price)
        if self.fees.per_fill:
            trade_fee = -(-product // PRODUCT_PER_CENTICENT) * 100
            rounding = (-signed * price - trade_fee) % CENT_MICRO
            fee, carried = trade_fee + rounding, order.carried + rounding
            if carried > CENT_MICRO and fee >= CENT_MICRO:
                fee, carried = fee - CENT_MICRO, carried - CENT_MICRO
        else:
            carried = -(-(order.product + product) // PRODUCT_PER_CENT) * CENT_MICRO
            fee = carried - order.carried
        return self.cash - signed * price - fee, self.position + signed, carried, product

    def _book(
        self, order: Order, price: int, size: int, cash: int, position: int, time_ms: int
    ) -> None:
        before = self.position
        held = -before if order.side == BUY else before
        closing = min(size, max(held, 0))
        self.fees_paid += self.cash - (position - before) * price - cash
        if closing:
            released = self.basis * closing // abs(before)
            gain = closing * price - released
            self.realised += gain if before > 0 else -gain
            self.basis -= released
        if closing < size:
            self.basis += (size - closing) * price
            if closing == abs(before):
                self.opened_ms = time_ms
        self.cash, self.position = cash, position
        order.remaining -= size
