"""Rows of the book table, compiled: what came, and the book after it."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.market.ladder import (
    BEST,
    COUNT,
    NEAR,
    SECOND,
    SIDE_WIDTH,
    TOTAL,
    proceeds_of,
)
from kalshi_pipeline.market.replay_state import MARKET, N_ROWS, NO, ROW_BASE, YES
from kalshi_pipeline.market.replay_tables import Counters, MarketColumn, Narrow, Tiny, Wide

u = np.uint64  # an index that is known not to be negative costs the compiler no test

N_LEVELS = int(Counters.LADDER_LEVELS)
STEP, LEVELS = int(MarketColumn.STEP_BP), int(MarketColumn.LEVELS)
# columns as plain integers, for the compiler
_W_POSITION, _W_SEQ, _W_RECV, _W_SIZE, _W_TIME = range(5)
_W_BID_SIZE, _W_ASK_SIZE, _W_BID_NEAR, _W_ASK_NEAR = range(5, 9)
_W_BID_TOTAL, _W_ASK_TOTAL, _W_COST, _W_VALUE = range(9, len(Wide))
N_SUB, N_SEGMENT, _N_PRICE, _N_BID, _N_ASK = range(5)
_N_BID_LEVELS, _N_ASK_LEVELS, _N_BID_SECOND, _N_ASK_SECOND, N_MARKET = range(5, len(Narrow))
T_KIND, _T_SIDE = range(len(Tiny))


@kernel
def write_row(r, frame, kind, segment, time_ms, market, rules, state, ladder, out):  # type: ignore[no-untyped-def]
    """Write an applied message and the book after it as row r."""
    wide, narrow, tiny = out.wide, out.narrow, out.tiny
    narrow[N_SUB, u(r)] = frame["subscription"]
    narrow[N_SEGMENT, u(r)] = segment
    narrow[N_MARKET, u(r)] = state[MARKET]
    tiny[T_KIND, u(r)] = kind
    write_message(r, frame, time_ms, wide, narrow, tiny)
    write_touch(r, market[STEP], market[LEVELS], state, ladder, wide, narrow)
    write_depth(r, market[STEP], rules.cost_size_centi, state, wide, narrow)


@part
def write_message(r, frame, time_ms, wide, narrow, tiny):  # type: ignore[no-untyped-def]
    """Write the columns of row r that say what came; those of its segment are filled in runs."""
    i = u(r)
    wide[_W_POSITION, i] = frame["position"]
    wide[_W_SEQ, i] = frame["seq"]
    wide[_W_RECV, i] = frame["time_ms"]
    wide[_W_SIZE, i] = frame["size_centi"]
    wide[_W_TIME, i] = time_ms
    narrow[_N_PRICE, i] = frame["price_bp"]
    tiny[_T_SIDE, i] = frame["side"]


@part
def write_touch(r, step, levels, state, ladder, wide, narrow):  # type: ignore[no-untyped-def]
    """Write the best prices and sizes of row r."""
    i = u(r)
    bid, ask = state[YES + BEST], state[NO + BEST]
    narrow[_N_BID, i] = bid * step
    narrow[_N_ASK, i] = 10_000 - ask * step
    wide[_W_BID_SIZE, i] = ladder[u(bid)]
    wide[_W_ASK_SIZE, i] = ladder[u(levels + ask)]


@part
def write_depth(r, step, k, state, wide, narrow):  # type: ignore[no-untyped-def]
    """Write what lies behind the touch of row r."""
    i = u(r)
    wide[_W_BID_NEAR, i] = state[YES + NEAR]
    wide[_W_ASK_NEAR, i] = state[NO + NEAR]
    wide[_W_BID_TOTAL, i] = state[YES + TOTAL]
    wide[_W_ASK_TOTAL, i] = state[NO + TOTAL]
    narrow[_N_BID_LEVELS, i] = state[YES + COUNT]
    narrow[_N_ASK_LEVELS, i] = state[NO + COUNT]
    narrow[_N_BID_SECOND, i] = state[YES + SECOND] * step
    narrow[_N_ASK_SECOND, i] = 10_000 - state[NO + SECOND] * step
    # buying YES at a is selling the mirror: cost = k dollars - value of k on the NO ladder
    wide[_W_COST, i] = k * 10_000 - proceeds_of(state, NO, k) * step
    wide[_W_VALUE, i] = proceeds_of(state, YES, k) * step


@kernel
def keep_ladder(market, state, ladder, out, counters):  # type: ignore[no-untyped-def]
    """Keep both ladders as they are after the last row."""
    n, kept = counters[N_LEVELS], out.ladders
    row, levels = counters[ROW_BASE] + counters[N_ROWS] - 1, market[LEVELS]
    for side in range(2):
        start = side * levels
        for place in range(state[u(YES + side * SIDE_WIDTH + BEST)] + 1):
            if ladder[u(start + place)] > 0:
                kept[u(n), 0] = row
                kept[u(n), 1] = side
                kept[u(n), 2] = place * market[STEP]
                kept[u(n), 3] = ladder[u(start + place)]
                n += 1
    counters[N_LEVELS] = n
