"""Markets made to be learned from: one with an edge in plain sight, one with none at all."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.trading.tape import Universe
from tests.tapes import Message, delta, snapshot, universe_from_messages

STEP_MS = 500  # twice the latency of an order
TICK_BP = 100
MOVE_BP = 3 * TICK_BP
THICK, THIN, MORE = 90_000, 10_000, 100  # contracts/100 at the touch


def planted_edge(rng: np.random.Generator, episodes: int, moves: int = 15) -> Universe:
    """The thick side of the touch pushes the price 3 cents every second step, for 20 moves or so.

    Between two moves the book stands still for a step, so that an order sent on seeing a move
    arrives before the next. A taker pays a tick of spread, and up to 2 cents of fee each way: 5
    cents in all, so that following the imbalance pays from the second move on. Both directions are
    equally likely: nothing that does not look at the book lives off it.
    """
    return _universe(rng, episodes, moves, persistence=0.95)


def martingale(rng: np.random.Generator, episodes: int, moves: int = 15) -> Universe:
    """As large moves, each as likely up as down whatever came before; the imbalance says nothing.

    A price that reaches the edge of the band stays there: a stopped martingale is one.
    """
    return _universe(rng, episodes, moves, persistence=None)


def _universe(
    rng: np.random.Generator, episodes: int, moves: int, persistence: float | None
) -> Universe:
    return universe_from_messages([_market(rng, moves, persistence) for _ in range(episodes)])


def _market(rng: np.random.Generator, moves: int, persistence: float | None) -> list[Message]:
    now = int(rng.integers(1_765_000_000_000, 1_766_000_000_000))
    bid, push = 5_000 + int(rng.integers(-10, 11)) * TICK_BP, int(rng.choice((-1, 1)))
    messages: list[Message] = []
    ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for _ in range(moves):
        for more in (0, MORE):  # the step at which nothing moves needs a message as well
            sizes = (THICK, THIN) if push > 0 else (THIN, THICK)
            ask = BP_PER_DOLLAR - bid - TICK_BP
            wanted = ({bid: sizes[0] + more}, {ask: sizes[1] + more})
            messages += _moved(now, ladders, wanted) if messages else [snapshot(now, *wanted)]
            ladders, now = wanted, now + STEP_MS
        if persistence is None:
            bid += int(rng.choice((-1, 1))) * MOVE_BP if 1_000 < bid < 8_900 else 0
            push = int(rng.choice((-1, 1)))
        else:
            bid += push * MOVE_BP
            push = push if rng.random() < persistence else -push
            push = 1 if bid <= 1_000 else -1 if bid >= 8_900 else push
    return messages


def _moved(
    now: int,
    old: tuple[dict[int, int], dict[int, int]],
    new: tuple[dict[int, int], dict[int, int]],
) -> list[Message]:
    """Deltas from one book to another; the side that retreats goes first, so that none crosses."""
    falls = max(new[0]) < max(old[0])
    messages = []
    for side in (0, 1) if falls else (1, 0):
        for price in sorted({*old[side], *new[side]}, reverse=True):
            change = new[side].get(price, 0) - old[side].get(price, 0)
            if change:
                messages.append(delta(now, side, price, change))
    return messages
