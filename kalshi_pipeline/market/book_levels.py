"""Levels as frames tell them, compiled: where they lie in the ladders of their market."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.market.ladder import COUNT, SIDE_WIDTH, change_level, clear_side
from kalshi_pipeline.market.replay_state import NO, YES
from kalshi_pipeline.market.replay_tables import MarketColumn

u = np.uint64  # an index that is known not to be negative costs the compiler no test

# columns of the market as plain integers, for the compiler
STEP, LEVELS = int(MarketColumn.STEP_BP), int(MarketColumn.LEVELS)
NEAR_PLACES, INVERSE = int(MarketColumn.NEAR), int(MarketColumn.INVERSE)


@part
def place_of(frame, market):  # type: ignore[no-untyped-def]
    """Place of a frame's price on its ladder, rounded down."""
    return np.int64(frame["price_bp"]) * market[INVERSE] >> 32


@kernel
def on_tick(frame, market, valid):  # type: ignore[no-untyped-def]
    """Whether an order may rest where a delta or level says one does."""
    price, side, place = (
        np.int64(frame["price_bp"]),
        np.int64(frame["side"]),
        place_of(frame, market),
    )
    if side > 1 or price < 0 or price > 10_000 or place * market[STEP] != price:
        return False
    return valid[u(side), u(place)]


@kernel
def set_level(frame, market, rules, state, ladder, after):  # type: ignore[no-untyped-def]
    """Put a size into the ladder of a delta or level."""
    side, place = np.int64(frame["side"]), place_of(frame, market)
    start = side * market[LEVELS]
    before = ladder[u(start + place)]
    ladder[u(start + place)] = after
    change_level(
        state, YES + side * SIDE_WIDTH, ladder, start, place, before, after,
        market[NEAR_PLACES], rules.cost_size_centi, True,
    )  # fmt: skip


@kernel
def load_snapshot(f, last, frames, market, rules, state, ladder):  # type: ignore[no-untyped-def]
    """Put a snapshot in place of the ladders.

    Returns:
        How many levels differ from those replayed: the snapshot does not mention them, or gives
        them another size.
    """
    levels = market[LEVELS]
    differing = state[YES + COUNT] + state[NO + COUNT]
    for v in range(f + 1, last):
        level = frames[u(v)]
        place = np.int64(level["side"]) * levels + place_of(level, market)
        if ladder[u(place)] > 0:
            differing -= 1
        if ladder[u(place)] != level["size_centi"]:
            differing += 1
    clear_side(state, YES, ladder, 0)
    clear_side(state, NO, ladder, levels)
    for v in range(f + 1, last):
        set_level(frames[u(v)], market, rules, state, ladder, frames[u(v)]["size_centi"])
    return differing
