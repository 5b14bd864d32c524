"""The feature kernels, compiled: one book state at a time over a small state.

The formulas are those of `feature_table.py`; the twin that the tests hold against these kernels is
`tests/oracle/features.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel
from kalshi_pipeline.feature_table import (
    CHANGE_GAINS,
    DAY_S,
    MAX_CENTS,
    MAX_CONTRACTS,
    MAX_LEVELS,
    MAX_RATE_HZ,
    MAX_TICKS,
    VOLATILITY_GAINS,
    YEAR_S,
)
from kalshi_pipeline.market.replay_tables import RowKind

_TRADE = int(RowKind.TRADE)
_LOG_TICKS, _LOG_CONTRACTS = math.log1p(MAX_TICKS), math.log1p(MAX_CONTRACTS)
_LOG_LEVELS, _LOG_CENTS = math.log1p(MAX_LEVELS), math.log1p(MAX_CENTS)
_LOG_RATE, _LOG_DAY, _LOG_YEAR = math.log1p(MAX_RATE_HZ), math.log1p(DAY_S), math.log1p(YEAR_S)

# columns of the streaming state
_STARTED, _NOW, _BEFORE, _MID, _HAS_MID = 0, 1, 2, 3, 4  # times in ms
_BID, _ASK, _BID_SIZE, _ASK_SIZE = 5, 6, 7, 8
_RATE, _AVERAGE, _SQUARES, _FLOW, _ABS_FLOW = 9, 12, 15, 17, 19
STATE_WIDTH = 21
# an order flow decayed below this is forgotten, before its quotient is one of denormal numbers
_NO_FLOW = 1e-200


class BookColumns(NamedTuple):
    """Columns of the book table the features are made of, `[R]` each."""

    time_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    bid_bp: NDArray[np.int32]
    ask_bp: NDArray[np.int32]
    bid_size_centi: NDArray[np.int64]
    ask_size_centi: NDArray[np.int64]
    bid_near_centi: NDArray[np.int64]
    ask_near_centi: NDArray[np.int64]
    bid_total_centi: NDArray[np.int64]
    ask_total_centi: NDArray[np.int64]
    bid_levels: NDArray[np.int32]
    ask_levels: NDArray[np.int32]
    bid_second_bp: NDArray[np.int32]
    ask_second_bp: NDArray[np.int32]
    buy_cost_micro: NDArray[np.int64]
    sell_value_micro: NDArray[np.int64]


@kernel
def mark_steps(
    book: BookColumns, first: int, end: int, min_step_ms: int, is_step: NDArray[np.bool_]
) -> None:
    """Mark the rows of one segment after which the agent may act.

    A step comes at the last row of a receive millisecond in which the book changed and is not
    crossed, at least `min_step_ms` after the step before; and at the segment's last row, where the
    episode ends.
    """
    last_ms = np.int64(-1)
    changed = False
    for row in range(first, end):
        changed = changed or book.kind[row] != _TRADE
        if row + 1 < end and book.time_ms[row + 1] == book.time_ms[row]:
            continue
        due = last_ms < 0 or book.time_ms[row] - last_ms >= min_step_ms
        if row == end - 1 or (changed and due and book.bid_bp[row] <= book.ask_bp[row]):
            is_step[row] = True
            last_ms = book.time_ms[row]
        changed = False


@numba.njit(cache=True)
def segment_features(
    book: BookColumns,
    first: int,
    end: int,
    first_step: int,
    is_step: NDArray[np.bool_],
    tick_up_bp: NDArray[np.int32],
    close_ms: int,
    cost_size_centi: int,
    out: NDArray[np.float32],
) -> None:
    """Features of one segment's steps, written into `out[first_step:]`.

    Args:
        book: book columns.
        first: first row of the segment.
        end: end row, exclusive.
        first_step: where in `out` the segment's steps begin.
        is_step: `[R]` rows after which the agent acts.
        tick_up_bp: `[10001]` tick table of the market's grid.
        close_ms: known closing time; -1 = unknown.
        cost_size_centi: k of the marginal costs.
        out: `[T, 35]`.
    """
    state = np.zeros(2 * STATE_WIDTH)
    step = first_step
    for row in range(first, end):
        advance(state, book, row)
        if is_step[row]:
            emit(state, book, row, tick_up_bp, close_ms, cost_size_centi, out, step)
            step += 1


@kernel
def advance(state: NDArray[np.float64], book: BookColumns, row: int) -> None:
    """Take one row into the streaming state; trades leave it as it is."""
    if book.kind[row] == _TRADE:
        return
    now = np.float64(book.time_ms[row])
    bid, ask = np.float64(book.bid_bp[row]), np.float64(book.ask_bp[row])
    bid_size = book.bid_size_centi[row] / 100.0
    ask_size = book.ask_size_centi[row] / 100.0
    if state[_STARTED] == 0.0:
        state[_STARTED] = 1.0
        state[_NOW] = now
        state[_BEFORE] = now
    else:
        _decay(state, (now - state[_NOW]) / 1000.0)
        if now > state[_NOW]:
            state[_BEFORE] = state[_NOW]
            state[_NOW] = now
        _add_flow(state, bid, ask, bid_size, ask_size)
    for i in range(3):
        state[_RATE + i] += 1.0
    if bid > 0.0 and ask < 10_000.0:
        _add_mid(state, (bid + ask) / 20_000.0)
    state[_BID] = bid
    state[_ASK] = ask
    state[_BID_SIZE] = bid_size
    state[_ASK_SIZE] = ask_size


@kernel
def _decay(state, seconds):  # type: ignore[no-untyped-def]
    # carry every average over an interval in which nothing happened
    if seconds <= 0.0:
        return
    d10, d60, d600 = (
        math.exp(-seconds / 10.0),
        math.exp(-seconds / 60.0),
        math.exp(-seconds / 600.0),
    )
    for i, kept in enumerate((d10, d60, d600)):
        state[_RATE + i] *= kept
        state[_AVERAGE + i] = state[_MID] + (state[_AVERAGE + i] - state[_MID]) * kept
    for i, kept in enumerate((d60, d600)):
        state[_SQUARES + i] *= kept
    for i, kept in enumerate((d10, d60)):
        state[_FLOW + i] *= kept
        state[_ABS_FLOW + i] *= kept


@kernel
def _add_flow(state, bid, ask, bid_size, ask_size):  # type: ignore[no-untyped-def]
    # contribution of one update at the touch (Cont, Kukanov, Stoikov 2014, section 2.1)
    flow = 0.0
    if bid >= state[_BID]:
        flow += bid_size
    if bid <= state[_BID]:
        flow -= state[_BID_SIZE]
    if ask <= state[_ASK]:
        flow -= ask_size
    if ask >= state[_ASK]:
        flow += state[_ASK_SIZE]
    for i in range(2):
        state[_FLOW + i] += flow
        state[_ABS_FLOW + i] += abs(flow)


@kernel
def _add_mid(state, mid):  # type: ignore[no-untyped-def]
    if state[_HAS_MID] == 0.0:
        state[_HAS_MID] = 1.0
        for i in range(3):
            state[_AVERAGE + i] = mid
    else:
        change = mid - state[_MID]
        for i in range(2):
            state[_SQUARES + i] += change * change
    state[_MID] = mid


@kernel
def emit(
    state: NDArray[np.float64],
    book: BookColumns,
    row: int,
    tick_up_bp: NDArray[np.int32],
    close_ms: int,
    cost_size_centi: int,
    out: NDArray[np.float32],
    step: int,
) -> None:
    """Write the 35 features as of a row into `out[step]`, in the order of the feature table."""
    _emit_market(book, row, tick_up_bp, cost_size_centi, out[step])
    _emit_temporal(state, book.time_ms[row], close_ms, out[step])


@kernel
def _emit_market(book, row, tick_up_bp, cost_size_centi, out):  # type: ignore[no-untyped-def]
    bid, ask = book.bid_bp[row], book.ask_bp[row]
    has_bid, has_ask = bid > 0, ask < 10_000
    bid_size, ask_size = book.bid_size_centi[row] / 100.0, book.ask_size_centi[row] / 100.0
    mid = (bid + ask) / 20_000.0
    out[0] = bid / 10_000.0
    out[1] = ask / 10_000.0
    out[2] = mid
    if has_bid and has_ask:
        micro = (bid * ask_size + ask * bid_size) / (bid_size + ask_size) / 10_000.0
        out[3] = _clip(20.0 * (micro - mid))
    tick = tick_up_bp[bid] if tick_up_bp[bid] > 0 else 10_000 - bid
    out[4] = _log_share(max(0.0, (ask - bid) / tick), _LOG_TICKS)
    out[5] = _log_share(bid_size, _LOG_CONTRACTS)
    out[6] = _log_share(ask_size, _LOG_CONTRACTS)
    out[7] = _log_share(book.bid_near_centi[row] / 100.0, _LOG_CONTRACTS)
    out[8] = _log_share(book.ask_near_centi[row] / 100.0, _LOG_CONTRACTS)
    out[9] = _log_share(book.bid_total_centi[row] / 100.0, _LOG_CONTRACTS)
    out[10] = _log_share(book.ask_total_centi[row] / 100.0, _LOG_CONTRACTS)
    out[11] = _imbalance(bid_size, ask_size)
    out[12] = _imbalance(book.bid_near_centi[row] / 100.0, book.ask_near_centi[row] / 100.0)
    out[13] = _imbalance(book.bid_total_centi[row] / 100.0, book.ask_total_centi[row] / 100.0)
    second_bid, second_ask = book.bid_second_bp[row], book.ask_second_bp[row]
    out[14] = _log_share((bid - second_bid) / 100.0, _LOG_CENTS) if second_bid > 0 else 1.0
    out[15] = _log_share((second_ask - ask) / 100.0, _LOG_CENTS) if second_ask < 10_000 else 1.0
    out[16] = _log_share(np.float64(book.bid_levels[row]), _LOG_LEVELS)
    out[17] = _log_share(np.float64(book.ask_levels[row]), _LOG_LEVELS)
    average_buy = book.buy_cost_micro[row] / cost_size_centi
    average_sell = book.sell_value_micro[row] / cost_size_centi
    out[18] = _log_share((average_buy - ask) / 100.0, _LOG_CENTS)
    out[19] = _log_share((bid - average_sell) / 100.0, _LOG_CENTS)
    out[20] = 1.0 if has_bid and has_ask else 0.5 if has_bid else -0.5 if has_ask else 0.0


@kernel
def _emit_temporal(state, time_ms, close_ms, out):  # type: ignore[no-untyped-def]
    # a trade may have come after the last book change: carry the averages to now
    now = state[STATE_WIDTH:]  # scratch behind the state
    for column in range(STATE_WIDTH):
        now[column] = state[column]
    _decay(now, (time_ms - state[_NOW]) / 1000.0)
    previous_ms = state[_NOW] if time_ms > state[_NOW] else state[_BEFORE]
    out[21] = _log_share((time_ms - previous_ms) / 1000.0, _LOG_DAY)
    out[22] = _log_share(now[_RATE] / 10.0, _LOG_RATE)
    out[23] = _log_share(now[_RATE + 1] / 60.0, _LOG_RATE)
    out[24] = _log_share(now[_RATE + 2] / 600.0, _LOG_RATE)
    for i in range(3):
        out[25 + i] = _clip(CHANGE_GAINS[i] * (now[_MID] - now[_AVERAGE + i]))
    for i in range(2):
        out[28 + i] = _clip(VOLATILITY_GAINS[i] * math.sqrt(now[_SQUARES + i]))
        strength = now[_ABS_FLOW + i]
        out[30 + i] = now[_FLOW + i] / strength if strength > _NO_FLOW else 0.0
    angle = 2.0 * math.pi * (time_ms % 86_400_000) / 86_400_000.0
    out[32] = math.sin(angle)
    out[33] = math.cos(angle)
    if close_ms >= 0:
        out[34] = _log_share(max(0, close_ms - time_ms) / 1000.0, _LOG_YEAR)
    else:
        out[34] = -1.0


@kernel
def _clip(value):  # type: ignore[no-untyped-def]
    return min(1.0, max(-1.0, value))


@kernel
def _log_share(value, log_of_most):  # type: ignore[no-untyped-def]
    return min(1.0, math.log1p(value) / log_of_most)


@kernel
def _imbalance(bids, asks):  # type: ignore[no-untyped-def]
    return (bids - asks) / (bids + asks) if bids + asks > 0.0 else 0.0
