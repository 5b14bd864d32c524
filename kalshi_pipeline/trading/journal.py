"""What happens to a lane's orders, entry by entry, where somebody asked for it.

A lane's journal is an array `[capacity, len(Entry)]`; with no capacity nothing is written. Entries
beyond the capacity are counted and lost, so the caller sees that it was too small.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.trading.portfolio import Account, Order

Ints = NDArray[np.int64]


class Entry(IntEnum):
    """Columns of a journal, int64."""

    KIND = 0  # EntryKind
    ORDER = 1  # the step of the tape it was decided at: one order a step
    TIME_MS = 2
    SIDE = 3
    PRICE = 4  # SENT: limit; FILLED: of the fill
    SIZE = 5  # SENT, FILLED; ENDED: what did not fill
    FEE = 6  # FILLED, micro
    DETAIL = 7  # SENT: 1 = post-only; FILLED: 1 = as a taker; ENDED: EndReason
    ROW = 8  # FILLED: of the tape, the message it filled on; else -1


class EntryKind(IntEnum):
    """What an entry says of its order."""

    SENT = 0
    RESTED = 1  # reached the exchange and rests
    FILLED = 2
    ENDED = 3


class EndReason(IntEnum):
    """Why an order is no more."""

    FILLED = 0
    REPLACED = 1  # by the next order of its side
    MET_OWN = 2  # the arriving order would have met it
    WOULD_CROSS = 3  # post-only
    NOT_FILLED = 4  # immediate-or-cancel, at the touch it met
    NOT_CARRIED = 5  # by cash or the position limit
    LOSS_LIMIT = 6
    EPISODE_OVER = 7
    UNCHANGED = 8  # an order at this price rested already and keeps its place; counts as no order


@kernel
def write_entry(
    account: Ints,
    journal: Ints,
    order: Ints,
    kind: int,
    time_ms: int,
    price_bp: int,
    size_centi: int,
    fee_micro: int,
    detail: int,
    row: int,
) -> None:
    """Add an entry, if there is a journal."""
    if len(journal) == 0:
        return
    place = account[Account.JOURNALLED]
    account[Account.JOURNALLED] += 1
    if place >= len(journal):
        return
    entry = journal[place]
    entry[Entry.KIND] = kind
    entry[Entry.ORDER] = order[Order.STEP]
    entry[Entry.TIME_MS] = time_ms
    entry[Entry.SIDE] = order[Order.SIDE]
    entry[Entry.PRICE] = price_bp
    entry[Entry.SIZE] = size_centi
    entry[Entry.FEE] = fee_micro
    entry[Entry.DETAIL] = detail
    entry[Entry.ROW] = row


@kernel
def write_end(account: Ints, journal: Ints, order: Ints, time_ms: int, reason: int) -> None:
    """Say that an order ends, FILLED where nothing of it is left."""
    left = order[Order.REMAINING]
    why = reason if left > 0 else EndReason.FILLED
    price = order[Order.PRICE]
    write_entry(account, journal, order, EntryKind.ENDED, time_ms, price, left, 0, why, -1)
