"""What is known about the market being replayed, compiled: its trusted stretch and its clock.

A market's book is trusted from a snapshot to whatever first speaks against it, and not again before
the next snapshot.
"""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.market.ladder import BEST, SIDE_WIDTH, begin_side
from kalshi_pipeline.market.replay_tables import AccusationColumn, Counters

u = np.uint64  # an index that is known not to be negative costs the compiler no test

# columns of the state: times in ms; of a crossed book since when and how many messages
STATUS, SUB, SEGMENT, TIME, EXCHANGE, ACCUSED = range(6)
CROSSED_SINCE, CROSSED_COUNT, FIRST_ROW, START, UNTIL_KEPT, MARKET, UPDATED = range(6, 13)
YES, NO = 13, 13 + SIDE_WIDTH  # figures of the two ladders
STATE_WIDTH = NO + SIDE_WIDTH
# values of STATUS
NO_BOOK, OPEN, BROKEN, OVER = range(4)
EVERY = -1  # in place of a subscription
# counters and columns as plain integers, for the compiler
N_ROWS, N_SEGMENTS, ROW_BASE = (
    int(Counters.ROWS), int(Counters.SEGMENTS), int(Counters.ROW_BASE)
)  # fmt: skip
_N_CROSSED, _MS_CROSSED = int(Counters.CROSSED_STATES), int(Counters.CROSSED_MS)
_N_BACK, _N_UPDATED = int(Counters.CLOCK_BACK), int(Counters.UPDATED_MARKETS)
_POSITION, _AGAINST = int(AccusationColumn.POSITION), int(AccusationColumn.SUBSCRIPTION)
_WHY = int(AccusationColumn.WHY)


@kernel
def begin_market(market, state, ladder, places):  # type: ignore[no-untyped-def]
    """Forget the market before."""
    for place in range(places):
        ladder[u(place)] = 0
    for column in range(YES):
        state[u(column)] = 0
    begin_side(state, YES)
    begin_side(state, NO)
    state[SUB] = state[EXCHANGE] = state[CROSSED_SINCE] = -1
    state[MARKET] = market


@kernel
def end_segment(state, why, out, counters):  # type: ignore[no-untyped-def]
    """Close the open segment, if there is one: no trust until the next snapshot."""
    if state[STATUS] != OPEN:
        return
    state[STATUS] = BROKEN
    n, ended = counters[N_SEGMENTS], out.segments
    ended[u(n), 0] = state[MARKET]
    ended[u(n), 1] = state[FIRST_ROW]
    ended[u(n), 2] = counters[ROW_BASE] + counters[N_ROWS]
    ended[u(n), 3] = state[START]
    ended[u(n), 4] = state[TIME]
    ended[u(n), 5] = why
    counters[N_SEGMENTS] = n + 1


@kernel
def accuse(position, accusations, state, out, counters):  # type: ignore[no-untyped-def]
    """Hold against the book what was said of its subscription up to a position."""
    a = state[ACCUSED]
    while a < len(accusations) and accusations[u(a), _POSITION] <= position:
        against = accusations[u(a), _AGAINST]
        if against == EVERY or against == state[SUB]:
            end_segment(state, accusations[u(a), _WHY], out, counters)
        a += 1
    state[ACCUSED] = a


@kernel
def count_time(received_ms, rules, state, counters):  # type: ignore[no-untyped-def]
    """Count what the time since the segment's last frame says."""
    if received_ms < state[TIME] - rules.clock_back_ms:
        counters[_N_BACK] += 1
    if state[CROSSED_SINCE] >= 0:
        counters[_MS_CROSSED] += max(received_ms, state[TIME]) - state[TIME]


@kernel
def count_update(state, counters):  # type: ignore[no-untyped-def]
    """Count the market, once, among those with an applied delta."""
    counters[_N_UPDATED] += 1 - state[UPDATED]
    state[UPDATED] = 1


@kernel
def outlasts_tolerance(frame, levels, rules, state, counters):  # type: ignore[no-untyped-def]
    """Whether the book has been crossed for longer, and more messages, than is borne."""
    if state[YES + BEST] + state[NO + BEST] <= levels - 1:
        state[CROSSED_SINCE], state[CROSSED_COUNT] = -1, 0
        return False
    time_ms = max(frame["time_ms"], state[TIME])
    counters[_N_CROSSED] += 1
    state[CROSSED_COUNT] += 1
    if state[CROSSED_SINCE] < 0:
        state[CROSSED_SINCE] = time_ms
    return (
        time_ms - state[CROSSED_SINCE] > rules.crossed_tolerance_ms
        and state[CROSSED_COUNT] > rules.crossed_tolerance_messages
    )
