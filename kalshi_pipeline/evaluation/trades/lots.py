"""Round trips: FIFO lots.

A fill that opens opens one lot; opposite fills close the oldest lots first, and what is open in the
end is closed by settlement or by the liquidation the episode is marked at. A lot is one round trip
however many fills close it. Its gain is what its contracts were bought and sold for, less both fees
pro rata; the gains of an episode's lots add up to its P&L to the micro-dollar.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.record import Fills

Ints = NDArray[np.int64]
NONE = -1


class Lots(NamedTuple):
    """L lots, job after job in the order they were opened; F fills."""

    job: Ints  # [L]
    opened_by: Ints  # [L] the fill
    closed_by: Ints  # [L] the last fill that closed of it; -1 where the end of the episode did
    size_centi: Ints  # [L]
    at_end_centi: Ints  # [L] what the end of the episode closed
    entry_fee_micro: Ints  # [L]
    gain_micro: Ints  # [L] after both fees
    flags: Ints  # [L] those of all its fills
    opens: Ints  # [F] the lot a fill opened; -1: none
    closes: Ints  # [F] the first lot it closed of; -1: none


def fifo_lots(fills: Fills, worth_micro: Ints, flags: Ints) -> Lots:
    """Match the fills of each job.

    Args:
        fills: job after job.
        worth_micro: `[K]` what the position left at the end brought, negative where it was short.
        flags: `[F]` bits a lot gathers from its fills.
    """
    count = len(fills.job)

    def column(value: int = 0) -> Ints:
        return np.full(count, value, np.int64)

    lots = Lots(
        job=column(), opened_by=column(), closed_by=column(), size_centi=column(),
        at_end_centi=column(), entry_fee_micro=column(), gain_micro=column(), flags=column(),
        opens=column(NONE), closes=column(NONE),
    )  # fmt: skip
    found = _match(
        fills.job, fills.side, fills.price_bp, fills.size_centi, fills.fee_micro, worth_micro,
        flags, column(), lots,
    )  # fmt: skip
    of_lots = {name: getattr(lots, name)[:found] for name in Lots._fields[:8]}
    return lots._replace(**of_lots)


def trips_of(lots: Lots, jobs: int) -> tuple[Ints, Ints]:
    """`[K]` round trips and those that gained of each job; a gain of nothing is no win."""
    trips = np.bincount(lots.job, minlength=jobs).astype(np.int64)
    wins = np.bincount(lots.job[lots.gain_micro > 0], minlength=jobs).astype(np.int64)
    return trips, wins


@kernel
def _match(
    job: Ints,
    side: Ints,
    price: Ints,
    size: Ints,
    fee: Ints,
    worth: Ints,
    flags: Ints,
    left: Ints,
    lots: Lots,
) -> int:
    # left [F]: open size of each lot; lots head .. end - 1 of the job are open
    head, end, begin = 0, 0, 0
    for fill in range(len(job)):
        if fill > 0 and job[fill] != job[fill - 1]:
            _close_rest(side, price, worth[job[fill - 1]], left, lots, head, end)
            head = begin = end
        remaining, charged = size[fill], 0
        while remaining > 0 and head < end and side[lots.opened_by[head]] != side[fill]:
            part = min(remaining, left[head])
            remaining -= part
            upto = fee[fill] * (size[fill] - remaining) // size[fill]
            entry = price[lots.opened_by[head]]
            gain = price[fill] - entry if side[fill] != BUY else entry - price[fill]
            lots.gain_micro[head] += part * gain - (upto - charged)
            charged = upto
            left[head] -= part
            lots.closed_by[head] = fill
            lots.flags[head] |= flags[fill]
            if lots.closes[fill] < 0:
                lots.closes[fill] = head
            if left[head] == 0:
                head += 1
        if remaining > 0:
            lots.job[end] = job[fill]
            lots.opened_by[end] = fill
            lots.closed_by[end] = NONE
            lots.size_centi[end] = remaining
            lots.entry_fee_micro[end] = fee[fill] - charged
            lots.gain_micro[end] = charged - fee[fill]
            lots.flags[end] = flags[fill]
            left[end] = remaining
            lots.opens[fill] = end
            end += 1
    if end > begin:
        _close_rest(side, price, worth[lots.job[end - 1]], left, lots, head, end)
    return end


@kernel
def _close_rest(
    side: Ints, price: Ints, worth: int, left: Ints, lots: Lots, head: int, end: int
) -> None:
    # the worth of what is left goes to its lots by their sizes
    total, done, given = 0, 0, 0
    for lot in range(head, end):
        total += left[lot]
    for lot in range(head, end):
        done += left[lot]
        upto = worth * done // total
        cost = left[lot] * price[lots.opened_by[lot]]
        lots.gain_micro[lot] += upto - given + (cost if side[lots.opened_by[lot]] != BUY else -cost)
        given = upto
        lots.at_end_centi[lot] = left[lot]
        lots.closed_by[lot] = NONE
