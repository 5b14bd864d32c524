"""What a fill costs: the quadratic fee, its schedules with their dates, its two rounding rules.

A fee is rate x multiplier x C x P x (1 - P) for C contracts at P dollars; it is the same for YES at
P and NO at 1 - P. Everything is exact: a `product` below is the fee in 1e-16 dollar, an integer, so
that 0.07 x 100 x 0.25 cannot become 1.76 dollars.

Source: Kalshi fee schedule of July 2026; Kalshi API documentation, "fee rounding".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import part
from kalshi_pipeline.config import BP_PER_DOLLAR, MICRO_PER_CENT

PER_ORDER, PER_FILL = 0, 1  # rounding rules
PER_FILL_FROM_MS = 1_779_926_400_000  # 28 May 2026 UTC


PRODUCT_PER_CENT = 10**14
CENTICENT_MICRO = 100  # $0.0001, what a trade fee is rounded up to since 28 May 2026
PRODUCT_PER_CENTICENT = 10**12
_LARGEST = np.iinfo(np.int64).max - PRODUCT_PER_CENT  # rounding up adds less than a cent


class Fees(NamedTuple):
    """A row of `Tape.fee_schedule`."""

    taker_rate_bp: int  # 1/10,000
    maker_rate_bp: int  # 1/10,000
    multiplier_pct: int  # 1/100
    rule: int  # PER_ORDER or PER_FILL


NO_FEES = Fees(0, 0, 100, PER_ORDER)


@dataclass(frozen=True)
class FeeSchedule:
    """What one series charges from a date on.

    Args:
        series: series ticker, "" for every series without a schedule of its own.
        from_ms: first moment it holds.
        taker_rate_bp: 1/10,000; 700 = 0.07.
        maker_rate_bp: 1/10,000; 0 = makers pay nothing, 175 where they pay.
        multiplier_pct: the series' multiplier in 1/100; 0 = a fee holiday.
    """

    series: str = ""
    from_ms: int = 0
    taker_rate_bp: int = 700
    maker_rate_bp: int = 0
    multiplier_pct: int = 100

    def __post_init__(self) -> None:
        largest = max(self.taker_rate_bp, self.maker_rate_bp)
        if min(self.taker_rate_bp, self.maker_rate_bp, self.multiplier_pct) < 0:
            raise ValueError(f"fees are never negative, were {self}")
        if largest * self.multiplier_pct > 4 * BP_PER_DOLLAR * 100:
            raise ValueError(f"no contract costs more in fees than it pays, was {self}")


SCHEDULES: tuple[FeeSchedule, ...] = (FeeSchedule(),)


def schedule_for(series: str, at_ms: int, schedules: Sequence[FeeSchedule] = SCHEDULES) -> Fees:
    """The fee schedule in force, as a row of `Tape.fee_schedule`.

    Args:
        series: series ticker ("KXBTC15M").
        at_ms: the moment of trading.
        schedules: known schedules; a series' own wins over the general one, a later over an
            earlier.
    """
    known = [s for s in schedules if s.series in ("", series) and s.from_ms <= at_ms]
    chosen = max(known, key=lambda s: (s.series != "", s.from_ms), default=FeeSchedule())
    rule = PER_FILL if at_ms >= PER_FILL_FROM_MS else PER_ORDER
    return Fees(chosen.taker_rate_bp, chosen.maker_rate_bp, chosen.multiplier_pct, rule)


def largest_size_centi(fees: Fees) -> int:
    """The size up to which exact fees at these rates fit 64 bits, added up over an order."""
    rate = max(fees.taker_rate_bp, fees.maker_rate_bp) * fees.multiplier_pct
    return _LARGEST // max(rate * (BP_PER_DOLLAR // 2) ** 2, 1)


@part
def fees_of(row: NDArray[np.int64]) -> Fees:
    """A `[4]` row of `Tape.fee_schedule` with its names."""
    return Fees(row[0], row[1], row[2], row[3])


@part
def fee_product(rate_bp: int, multiplier_pct: int, size_centi: int, price_bp: int) -> int:
    """The exact fee in 1e-16 dollar; fits 64 bits up to 50,000 contracts at 0.07."""
    return rate_bp * multiplier_pct * size_centi * price_bp * (BP_PER_DOLLAR - price_bp)


@part
def up_to_cent_micro(product: int) -> int:
    """An exact fee rounded up to the next cent."""
    return -(-product // PRODUCT_PER_CENT) * MICRO_PER_CENT


@part
def fill_fee_micro(
    rule: int, product: int, revenue_micro: int, order_product: int, carried_micro: int
) -> tuple[int, int]:
    """The fee of one fill of an order.

    PER_ORDER: the order's exact fees so far, rounded up to the cent, less what it has paid.
    PER_FILL: the exact fee up to $0.0001, then the change of the balance is floored to the cent;
    what flooring took accumulates, and a cent of it is given back on the first fill after it
    exceeds a cent whose own fee covers it (a net fee is never negative).

    Args:
        rule: PER_ORDER or PER_FILL.
        product: exact fee of this fill.
        revenue_micro: change of cash before fees, negative for a buy.
        order_product: exact fees of the order's earlier fills.
        carried_micro: PER_ORDER: fees paid by its earlier fills; PER_FILL: the accumulator.

    Returns:
        Fee of this fill and the new `carried_micro`.
    """
    if rule == PER_ORDER:
        total = up_to_cent_micro(order_product + product)
        return total - carried_micro, total
    trade_fee = -(-product // PRODUCT_PER_CENTICENT) * CENTICENT_MICRO
    rounding = (revenue_micro - trade_fee) % MICRO_PER_CENT
    fee = trade_fee + rounding
    carried = carried_micro + rounding
    if carried > MICRO_PER_CENT and fee >= MICRO_PER_CENT:
        return fee - MICRO_PER_CENT, carried - MICRO_PER_CENT
    return fee, carried


@part
def worst_fee_micro(rule: int, product: int) -> int:
    """What an order with this exact fee may have to pay: rounding never costs a cent more."""
    if rule == PER_ORDER:
        return up_to_cent_micro(product)
    return -(-product // PRODUCT_PER_CENTICENT) * CENTICENT_MICRO + MICRO_PER_CENT
