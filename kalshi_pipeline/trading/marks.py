"""The mid at which positions are marked, message by message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR


@part
def next_mid2(mid2: int, bid_bp: int, ask_bp: int) -> int:
    """Twice the mark's mid after a message that left these quotes, not both missing.

    It is bid + ask of the last two-sided book, bounded by the quote that remains where one side is
    empty; before the first two-sided book a missing bid counts as 0, a missing ask as 1 dollar.

    Args:
        mid2: before the message; -1 before any book.
        bid_bp: 0 = none.
        ask_bp: 10,000 = none.
    """
    if (bid_bp > 0 and ask_bp < BP_PER_DOLLAR) or mid2 < 0:
        return bid_bp + ask_bp
    return min(max(mid2, 2 * bid_bp), 2 * ask_bp)


@kernel
def mark_mids(
    first_row: NDArray[np.int64],
    end_row: NDArray[np.int64],
    bid_bp: NDArray[np.int32],
    ask_bp: NDArray[np.int32],
    mid2: NDArray[np.int64],
) -> None:
    """Twice the mark's mid after every message of every episode; 0 before any book.

    Args:
        first_row: `[E]`.
        end_row: `[E]` exclusive.
        bid_bp: `[R]` after the message.
        ask_bp: `[R]`.
        mid2: `[R]`, written.
    """
    for episode in range(len(first_row)):
        last = -1
        for row in range(first_row[episode], end_row[episode]):
            bid, ask = int(bid_bp[row]), int(ask_bp[row])
            if bid > 0 or ask < BP_PER_DOLLAR:
                last = next_mid2(last, bid, ask)
            mid2[row] = max(last, 0)
