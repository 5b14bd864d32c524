"""The control of a round trip: the same lot, from the same price and time, held to the end.

It knows nothing of when to get out. Whoever buys at 95 cents wins 95 times of 100 without skill,
and so does this control: what a policy's win rate is above it, its exits have earned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.evaluation.trades.lots import Lots
from kalshi_pipeline.market.fees import NO_FEES, fee_product, fees_of, up_to_cent_micro
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.record import Fills
from kalshi_pipeline.trading.tape import Tape

Ints = NDArray[np.int64]


def held_to_the_end(tape: Tape, episodes: Ints, fills: Fills, lots: Lots, *, fees: bool) -> Ints:
    """What each lot would have gained alone, held to settlement or to the last book.

    It is sold at the last book's best price whatever that shows, for the taker fee of an order of
    its size, and to nobody, for nothing, where there is none.

    Args:
        tape: of the universe.
        episodes: `[K]` of each job.
        fills: of K jobs.
        lots: of those fills.
        fees: whether they are charged.

    Returns:
        `[L]` micro-dollars after fees.
    """
    schedule = tape.fee_schedule
    if not fees:
        schedule = np.tile(np.array(NO_FEES, np.int64), (len(schedule), 1))
    gain = np.zeros(len(lots.job), np.int64)
    _hold(
        episodes[lots.job], fills.side[lots.opened_by], fills.price_bp[lots.opened_by],
        lots.size_centi, lots.entry_fee_micro, tape.first_row, tape.end_row, tape.bid_bp,
        tape.ask_bp, tape.settlement_bp, schedule, gain,
    )  # fmt: skip
    return gain


@kernel
def _hold(
    episode: Ints,
    side: Ints,
    price: Ints,
    size: Ints,
    entry_fee: Ints,
    first_row: Ints,
    end_row: Ints,
    bid_bp: NDArray[np.int32],
    ask_bp: NDArray[np.int32],
    settlement_bp: NDArray[np.int32],
    schedule: Ints,
    gain: Ints,
) -> None:
    for lot in range(len(gain)):
        of = episode[lot]
        row = end_row[of] - 1
        while row > first_row[of] and bid_bp[row] <= 0 and ask_bp[row] >= BP_PER_DOLLAR:
            row -= 1
        bought = side[lot] == BUY
        # in the scale of what is held: YES where it was bought, NO where it was sold
        paid = price[lot] if bought else BP_PER_DOLLAR - price[lot]
        if settlement_bp[of] >= 0:
            worth = int(settlement_bp[of] if bought else BP_PER_DOLLAR - settlement_bp[of])
            value = size[lot] * worth
        else:
            best = int(bid_bp[row] if bought else BP_PER_DOLLAR - ask_bp[row])
            fees = fees_of(schedule[of])
            product = fee_product(fees.taker_rate_bp, fees.multiplier_pct, size[lot], best)
            value = max(size[lot] * best - up_to_cent_micro(product), 0)
        gain[lot] = value - size[lot] * paid - entry_fee[lot]
