"""How the book of a generated market behaves: every parameter of the order flow, and its source.

Two families. *Long-dated* markets and their settling short-dated cousins are the training plan's:
most of them hardly trade, their spreads differ by two orders of magnitude. *Intraday* markets live
a quarter of an hour and change tens of times a second. docs/GENERATOR.md sets what comes out beside
what was recorded; `python -m docs.calibration` makes it.

Source: recordings 101-105 (KXBTC15M), 111-113 (KXGOLD15M, with trades), 141 (cross-section of 860
ordinary markets), and domain notes on the plan's sessions where no recording speaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class FlowStyle(NamedTuple):
    """One market's order flow, as the compiled kernel takes it.

    Prices in 1/1,000,000 dollar, sizes in 1/100 contract.
    """

    half_spread_micro: float  # where orders at the touch compete, from the fair value
    depth_micro: float  # mean distance of the orders behind them
    near_share: float  # of orders: at the touch ...
    improve_share: float  # of the others while the spread is wide: at the touch as well
    far_share: float  # ... and anywhere in the ladder; the others are behind the touch
    levels: int  # a side the book tends to
    total_centi: float  # size a side it tends to
    size_centi: float  # median order
    size_spread: float  # log-logistic: the quartiles are 3^spread apart from the median
    round_share: float  # of orders, of one significant digit
    fractional_share: float  # of orders, with hundredths of a contract
    trade_share: float  # of events on a book at peace: an uninformed trade
    trade_size: float  # its median, in median orders
    fair_trade_share: float  # of stale quotes that are traded; makers cancel the others in time
    replace_share: float  # of cancels: the same size is quoted again at once, elsewhere
    whole_cancel_share: float  # of cancels: the whole level; the others an order of it
    near_cancel_share: float  # of cancels: close to the touch; the others anywhere
    cancel_scale: float  # levels from the touch, mean of the close ones


class Clock(NamedTuple):
    """When a market's book changes.

    Bursts of changes, log-normal gaps within; or, where `burst` is 0, one burst as long as the
    market's life: gaps log-normal throughout, scaled to fill it.
    """

    burst: float  # mean changes in a burst
    gap_median_ms: float  # within a burst; a market too busy for that has shorter ones
    gap_sigma: float  # of the logarithm


@dataclass(frozen=True)
class Intraday:
    """A series of quarter-hour markets.

    Args:
        series: Kalshi's name.
        structure: of its ticks.
        rate: mean changes a second over a market's life.
        rate_sigma: of the logarithm of one market's rate.
        closed_ms: from its close to the empty book that says so: least, most.
        flow: its order flow.
        clock: when the book changes.
    """

    series: str
    structure: str
    rate: float
    rate_sigma: float
    closed_ms: tuple[int, int]
    flow: FlowStyle
    clock: Clock


# Recordings 101-105: 34 to 155 changes a second, spread 1 tick for 4 of 5 changes, 100 levels a
# side, a third of the changes a cancel and its replacement, a quarter at tenths of a cent.
BITCOIN = Intraday(
    series="KXBTC15M",
    structure="tapered_deci_cent",
    rate=96.0,
    rate_sigma=0.45,
    closed_ms=(5_700, 7_500),
    flow=FlowStyle(
        half_spread_micro=300.0,
        depth_micro=24_000.0,
        near_share=0.1,
        improve_share=0.75,
        far_share=0.22,
        levels=160,
        total_centi=500_000.0,
        size_centi=16_000.0,
        size_spread=1.15,
        round_share=0.5,
        fractional_share=0.09,
        trade_share=0.025,
        trade_size=0.4,
        fair_trade_share=0.3,
        replace_share=0.62,
        whole_cancel_share=0.15,
        near_cancel_share=0.95,
        cancel_scale=4.5,
    ),
    clock=Clock(burst=0.0, gap_median_ms=0.0, gap_sigma=2.1),
)

# Recordings 111-113: 26 to 70 changes a second, spread 1 or 2 ticks, 30 levels a side, a trade for
# every 33 changes.
GOLD = Intraday(
    series="KXGOLD15M",
    structure="linear_cent",
    rate=55.0,
    rate_sigma=0.3,
    closed_ms=(100, 1_500),
    flow=FlowStyle(
        half_spread_micro=800.0,
        depth_micro=36_000.0,
        near_share=0.1,
        improve_share=0.65,
        far_share=0.11,
        levels=34,
        total_centi=400_000.0,
        size_centi=3_400.0,
        size_spread=0.9,
        round_share=0.45,
        fractional_share=0.18,
        trade_share=0.035,
        trade_size=0.4,
        fair_trade_share=0.3,
        replace_share=0.45,
        whole_cancel_share=0.0,
        near_cancel_share=0.87,
        cancel_scale=4.5,
    ),
    clock=Clock(burst=0.0, gap_median_ms=0.0, gap_sigma=2.3),
)

INTRADAY = {style.series: style for style in (BITCOIN, GOLD)}

# Inside a burst the plan's sessions show medians of 60 to 280 ms, and 60 to 120 s at the 95th
# percentile over all gaps.
BURSTS = Clock(burst=10.0, gap_median_ms=130.0, gap_sigma=2.0)


def ordinary(
    rng: np.random.Generator, quiet: float, *, short_dated: bool, fractional: bool
) -> FlowStyle:
    """The order flow of one market of the plan's universe.

    Spreads after the cross-section of recording 141: a tick for every third market, 4 cents in the
    middle, and one market of five that nobody makes, with tens of cents. Sizes: tens of contracts
    to thousands, where a market maker quotes a distant event.

    Args:
        rng: the market's own.
        quiet: 0 for the busiest of its pool .. 1 for the quietest.
        short_dated: it settles within two days.
        fractional: sizes of a hundredth of a contract exist.
    """
    spread_cents = 0.9 * math.exp(2.7 * quiet + rng.normal(0.0, 0.8))
    if rng.random() < 0.6 * quiet:
        spread_cents = rng.uniform(20.0, 90.0)
    size_centi = 100 * math.exp(math.log(20.0 if short_dated else 60.0) + rng.normal(0.0, 1.4))
    levels = int(rng.integers(8, 16) + 12 * (1.0 - quiet))
    return FlowStyle(
        half_spread_micro=spread_cents / 2 * 10_000,
        depth_micro=max(50_000.0, spread_cents / 2 * 10_000),
        near_share=0.35,
        improve_share=0.0,
        far_share=0.0,
        levels=levels,
        total_centi=4.0 * levels * size_centi,
        size_centi=size_centi,
        size_spread=0.6,
        round_share=0.5,
        fractional_share=0.15 if fractional else 0.0,
        trade_share=(0.03 if short_dated else 0.005) + 0.015 * (1.0 - quiet),
        trade_size=0.2,
        fair_trade_share=0.65,
        replace_share=0.15,
        whole_cancel_share=0.3,
        near_cancel_share=0.5,
        cancel_scale=1.0,
    )
