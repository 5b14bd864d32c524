"""The 35 features of up to `STEPS` steps at once, compiled.

What the rows left of each step lies in slots, `STEPS` numbers a slot. Every loop goes over many
steps of few slots, mostly in single precision and without a branch, so that the compiler works on
several steps at a time; at the end the columns are turned into rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_part
from kalshi_pipeline.elementary import log32, quarters
from kalshi_pipeline.feature_table import (
    CHANGE_GAINS,
    COLUMN,
    DAY_S,
    FLOW_TAUS_S,
    MAX_CENTS,
    MAX_CONTRACTS,
    MAX_LEVELS,
    MAX_RATE_HZ,
    MAX_TICKS,
    RATE_TAUS_S,
    TENSOR_WIDTH,
    VOLATILITY_GAINS,
    VOLATILITY_TAUS_S,
    YEAR_S,
)

STEPS = 128
# loops go on to a multiple of this, whatever lies there: nobody reads it
AT_ONCE = 8
# where the slots of doubles begin: what the rows left of each step
_EXACT = [np.uint64(STEPS * slot) for slot in range(16)]
RATE_10, RATE_60, RATE_600, CHANGE_10, CHANGE_60, CHANGE_600, SQUARES_60, SQUARES_600 = _EXACT[:8]
FLOW_10, FLOW_60, STRENGTH_10, STRENGTH_60, SINCE, _TIME, _BUY, _SELL = _EXACT[8:]
EXACT_WIDTH = STEPS * len(_EXACT)
# where the slots of floats begin: the columns of the tensor, and the tick at the bid
_REAL = {name: np.uint64(STEPS * slot) for name, slot in COLUMN.items() if slot < TENSOR_WIDTH}
_BID, _ASK, _MID = _REAL["best_bid"], _REAL["best_ask"], _REAL["mid"]
_MICROPRICE, _SPREAD = _REAL["microprice_offset"], _REAL["spread"]
_TOUCH_BID, _TOUCH_ASK = _REAL["touch_size_bid"], _REAL["touch_size_ask"]
_NEAR_BID, _NEAR_ASK = _REAL["near_size_bid"], _REAL["near_size_ask"]
_TOTAL_BID, _TOTAL_ASK = _REAL["total_size_bid"], _REAL["total_size_ask"]
_IMBALANCE_TOUCH, _IMBALANCE_NEAR = _REAL["imbalance_touch"], _REAL["imbalance_near"]
_IMBALANCE_TOTAL, _BOOK_STATE = _REAL["imbalance_total"], _REAL["book_state"]
_GAP_BID, _GAP_ASK = _REAL["gap_bid"], _REAL["gap_ask"]
_LEVELS_BID, _LEVELS_ASK = _REAL["levels_bid"], _REAL["levels_ask"]
_TO_BUY, _TO_SELL = _REAL["cost_to_buy"], _REAL["cost_to_sell"]
_SINCE_UPDATE, _TO_CLOSE = _REAL["seconds_since_update"], _REAL["seconds_to_close"]
_RATES = tuple(_REAL[f"update_rate_{tau:.0f}s"] for tau in RATE_TAUS_S)
_CHANGES = tuple(_REAL[f"mid_change_{tau:.0f}s"] for tau in RATE_TAUS_S)
_MOVES = tuple(_REAL[f"volatility_{tau:.0f}s"] for tau in VOLATILITY_TAUS_S)
_FLOWS = tuple(_REAL[f"order_flow_imbalance_{tau:.0f}s"] for tau in FLOW_TAUS_S)
_SINE, _COSINE = _REAL["time_of_day_sin"], _REAL["time_of_day_cos"]
_TICK = np.uint64(STEPS * TENSOR_WIDTH)
REAL_WIDTH = STEPS * (TENSOR_WIDTH + 1)
# columns on a logarithmic scale, and where each scale ends
_SCALES = {
    _SPREAD: MAX_TICKS,
    **dict.fromkeys(
        (_TOUCH_BID, _TOUCH_ASK, _NEAR_BID, _NEAR_ASK, _TOTAL_BID, _TOTAL_ASK), MAX_CONTRACTS
    ),
    **dict.fromkeys((_GAP_BID, _GAP_ASK, _TO_BUY, _TO_SELL), MAX_CENTS),
    **dict.fromkeys((_LEVELS_BID, _LEVELS_ASK), MAX_LEVELS),
    _SINCE_UPDATE: DAY_S,
    **dict.fromkeys(_RATES, MAX_RATE_HZ),
    _TO_CLOSE: YEAR_S,
}
_LOG_COLUMNS = np.array(list(_SCALES))
_LOG_SHARES = np.array([1 / math.log1p(most) for most in _SCALES.values()], dtype=np.float32)
_PRICES = (_BID, _ASK, _GAP_BID, _GAP_ASK, _LEVELS_BID, _LEVELS_ASK)
_RATE_SUMS, _CHANGE_SUMS = tuple(_EXACT[0:3]), tuple(_EXACT[3:6])
_SQUARE_SUMS, _FLOW_SUMS, _STRENGTH_SUMS = (
    tuple(_EXACT[6:8]),
    tuple(_EXACT[8:10]),
    tuple(_EXACT[10:12]),
)
_PER_RATE = tuple(1 / tau for tau in RATE_TAUS_S)
# changes of the mid are counted in half basis points
_PER_CHANGE = tuple(gain / 20_000 for gain in CHANGE_GAINS)
_PER_MOVE = tuple(np.float32(gain / 20_000) for gain in VOLATILITY_GAINS)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_DOLLAR, _TWO_DOLLARS = np.float32(10_000.0), np.float32(20_000.0)
_HUNDREDTH, _OFFSET = np.float32(0.01), np.float32(0.001)
_BEYOND = np.float32(1e9)  # its logarithm is above every scale
_PER_QUARTER = 4 / 86_400_000
# an order flow decayed below this is forgotten
_NO_FLOW = 1e-200
# what is smaller would be denormal in single precision, and is nothing there
_NOTHING = 1e-30


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


@lane_part
def emit(
    book: BookColumns,
    rows: NDArray[np.int64],
    count: int,
    tick_up_bp: NDArray[np.int32],
    close_ms: int,
    cost_size_centi: int,
    exact: NDArray[np.float64],
    real: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the features of some steps, in the order of the feature table.

    Args:
        book: book columns.
        rows: `[STEPS]` the row of each step.
        count: how many steps, at least 1.
        tick_up_bp: `[10001]` tick table of the market's grid.
        close_ms: known closing time; -1 = unknown.
        cost_size_centi: k of the marginal costs.
        exact: `[EXACT_WIDTH]` what the rows left.
        real: `[REAL_WIDTH]` scratch.
        out: `[T, 35]`, filled from its first row on.
    """
    _load(book, rows, count, exact, real)
    _load_ticks(book.bid_bp, rows, count, tick_up_bp, real)
    wide = np.uint64(-(-count // AT_ONCE) * AT_ONCE)
    _costs(wide, cost_size_centi, exact, real)
    for bids, asks, imbalance in (
        (_TOUCH_BID, _TOUCH_ASK, _IMBALANCE_TOUCH),
        (_NEAR_BID, _NEAR_ASK, _IMBALANCE_NEAR),
        (_TOTAL_BID, _TOTAL_ASK, _IMBALANCE_TOTAL),
    ):
        _sizes(wide, bids, asks, imbalance, real)
    _prices(wide, real)
    _past(wide, exact, real)
    _clock(wide, close_ms, exact, real)
    for k in range(np.uint64(len(_LOG_COLUMNS))):
        column, share = _LOG_COLUMNS[k], _LOG_SHARES[k]
        for lane in range(wide):
            real[column + lane] = min(_ONE, log32(real[column + lane]) * share)
    if close_ms < 0:
        for lane in range(wide):
            real[_TO_CLOSE + lane] = -_ONE
    for lane in range(np.uint64(count)):
        for column in range(np.uint64(TENSOR_WIDTH)):
            out[lane, column] = real[column * np.uint64(STEPS) + lane]


@lane_part
def _load(book, rows, count, exact, real):  # type: ignore[no-untyped-def]
    sizes = (
        book.bid_size_centi, book.ask_size_centi, book.bid_near_centi, book.ask_near_centi,
        book.bid_total_centi, book.ask_total_centi,
    )  # fmt: skip
    for k in range(6):
        _column(sizes[k], rows, count, real, _TOUCH_BID + np.uint64(k * STEPS))
    prices = (
        book.bid_bp, book.ask_bp, book.bid_second_bp, book.ask_second_bp, book.bid_levels,
        book.ask_levels,
    )  # fmt: skip
    for k in range(6):
        _column(prices[k], rows, count, real, _PRICES[k])
    times = (book.time_ms, book.buy_cost_micro, book.sell_value_micro)
    for k in range(3):
        _column(times[k], rows, count, exact, _TIME + np.uint64(k * STEPS))


@lane_part
def _column(column, rows, count, into, slot):  # type: ignore[no-untyped-def]
    first = np.uint64(rows[0])
    if rows[count - 1] - rows[0] == count - 1:
        for lane in range(np.uint64(count)):
            into[slot + lane] = column[first + lane]
    else:
        for lane in range(np.uint64(count)):
            into[slot + lane] = column[np.uint64(rows[lane])]


@lane_part
def _load_ticks(bid_bp, rows, count, tick_up_bp, real):  # type: ignore[no-untyped-def]
    for lane in range(np.uint64(count)):
        bid = bid_bp[np.uint64(rows[lane])]
        tick = tick_up_bp[np.uint64(bid)]
        real[_TICK + lane] = tick if tick > 0 else 10_000 - bid


@lane_part
def _costs(wide, cost_size_centi, exact, real):  # type: ignore[no-untyped-def]
    # the argument of the logarithm, here and below: 1 + what the scale is of
    k = np.float64(cost_size_centi)
    per_cent = 1.0 / (100.0 * k)
    for lane in range(wide):
        buy_at_ask = np.float64(real[_ASK + lane]) * k
        sell_at_bid = np.float64(real[_BID + lane]) * k
        real[_TO_BUY + lane] = 1.0 + (exact[_BUY + lane] - buy_at_ask) * per_cent
        real[_TO_SELL + lane] = 1.0 + (sell_at_bid - exact[_SELL + lane]) * per_cent


@lane_part
def _sizes(wide, bid_column, ask_column, imbalance_column, real):  # type: ignore[no-untyped-def]
    for lane in range(wide):
        bids, asks = real[bid_column + lane], real[ask_column + lane]
        real[imbalance_column + lane] = (bids - asks) / max(_ONE, bids + asks)
        real[bid_column + lane] = _ONE + bids * _HUNDREDTH
        real[ask_column + lane] = _ONE + asks * _HUNDREDTH


@lane_part
def _prices(wide, real):  # type: ignore[no-untyped-def]
    for lane in range(wide):
        bid, ask = real[_BID + lane], real[_ASK + lane]
        has_bid, has_ask = bid > _ZERO, ask < _DOLLAR
        # the microprice lies half the spread times the imbalance from the mid: 20 times that
        offset = (ask - bid) * real[_IMBALANCE_TOUCH + lane] * _OFFSET
        one_sided = _HALF if has_bid else -_HALF if has_ask else _ZERO
        real[_MICROPRICE + lane] = _clip(offset) if has_bid & has_ask else _ZERO
        real[_BOOK_STATE + lane] = _ONE if has_bid & has_ask else one_sided
        real[_SPREAD + lane] = _ONE + max(_ZERO, ask - bid) / real[_TICK + lane]
        second_bid, second_ask = real[_GAP_BID + lane], real[_GAP_ASK + lane]
        bid_gap, ask_gap = (bid - second_bid) * _HUNDREDTH, (second_ask - ask) * _HUNDREDTH
        real[_GAP_BID + lane] = _ONE + bid_gap if second_bid > _ZERO else _BEYOND
        real[_GAP_ASK + lane] = _ONE + ask_gap if second_ask < _DOLLAR else _BEYOND
        real[_LEVELS_BID + lane] += _ONE
        real[_LEVELS_ASK + lane] += _ONE
        real[_MID + lane] = (bid + ask) / _TWO_DOLLARS
        real[_BID + lane] = bid / _DOLLAR
        real[_ASK + lane] = ask / _DOLLAR


@lane_part
def _past(wide, exact, real):  # type: ignore[no-untyped-def]
    for lane in range(wide):
        real[_SINCE_UPDATE + lane] = 1.0 + exact[SINCE + lane] * 0.001
    for i in range(3):
        for lane in range(wide):
            real[_RATES[i] + lane] = 1.0 + exact[_RATE_SUMS[i] + lane] * _PER_RATE[i]
        for lane in range(wide):
            change = exact[_CHANGE_SUMS[i] + lane]
            scaled = min(1.0, max(-1.0, change * _PER_CHANGE[i]))
            real[_CHANGES[i] + lane] = scaled if abs(change) > _NOTHING else 0.0
    for i in range(2):
        for lane in range(wide):
            squares = exact[_SQUARE_SUMS[i] + lane]
            moved = np.float32(math.sqrt(np.float32(squares if squares > _NOTHING else 0.0)))
            real[_MOVES[i] + lane] = min(_ONE, moved * _PER_MOVE[i])
        for lane in range(wide):
            strength = exact[_STRENGTH_SUMS[i] + lane]
            share = exact[_FLOW_SUMS[i] + lane] / max(strength, _NO_FLOW)
            real[_FLOWS[i] + lane] = share if strength > _NO_FLOW else 0.0


@lane_part
def _clock(wide, close_ms, exact, real):  # type: ignore[no-untyped-def]
    for lane in range(wide):
        sine, cosine = quarters(exact[_TIME + lane] * _PER_QUARTER)
        real[_SINE + lane] = sine
        real[_COSINE + lane] = cosine
    for lane in range(wide):
        left_ms = np.float64(close_ms) - exact[_TIME + lane]
        real[_TO_CLOSE + lane] = 1.0 + max(0.0, left_ms) * 0.001


@lane_part
def _clip(value):  # type: ignore[no-untyped-def]
    return min(_ONE, max(-_ONE, value))
