"""Features: rows of the tensor a second, from books that are replayed already."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import CONFIG, Material
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.books import Market
from kalshi_pipeline.feature_kernel import BookColumns, mark_steps, segment_features
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.features import FeatureStream, book_columns
from kalshi_pipeline.trading.tape import RowKind

UNIT = "rows/s"
FLOOR = "fill the same rows"
STREAMED_ROWS = 2_000
TWIN_ROWS = 100


def measure(material: Material, effort: Effort) -> list[Row]:
    """The tensor of the session, and the same kernels fed one message at a time from Python."""
    books, index = material.books, material.tensors.index
    columns = book_columns(books.rows)
    by_ticker = {market.ticker: market for market in books.markets}
    out = np.zeros((len(material.tensors.step_row), TENSOR_WIDTH), np.float32)
    is_step = np.zeros(len(columns.time_ms), np.bool_)
    cost = CONFIG.book.cost_size_centi
    segments = [
        (entry["first_row"], entry["end_row"], entry["first_step"], by_ticker[entry["market"]])
        for entry in index.to_pylist()
    ]
    for first, end, _, _ in segments:
        mark_steps(columns, first, end, CONFIG.step.min_step_ms, is_step)

    def tensor(_: None) -> int:
        for first, end, step, market in segments:
            close = -1 if market.close_ms is None else market.close_ms
            ticks = market.grid.tick_up_bp
            segment_features(columns, first, end, step, is_step, ticks, close, cost, out)
        return len(out)

    def filled(_: None) -> int:
        fill_rows(out, np.float32(0.5))
        return len(out)

    first, end, _, market = max(segments, key=lambda segment: segment[1] - segment[0])

    def live(_: None) -> int:
        stream = FeatureStream(market.grid.tick_up_bp, market.close_ms, cost)
        last = min(end, first + STREAMED_ROWS)
        for index_row in range(first, last):
            stream.advance(columns, index_row)
            stream.features(columns, index_row)
        return int(last - first)

    contestants = {
        "segment_features": Contestant(tensor),
        "FeatureStream, one message a call": Contestant(live),
        FLOOR: Contestant(filled),
    }
    twin = _slow_twin(columns, range(first, min(end, first + TWIN_ROWS)), market)
    if twin:
        contestants[f"slow twin of the tests, first {TWIN_ROWS} rows"] = twin
    return [row("features, 35 a row", UNIT, contestants, effort, FLOOR)]


def _slow_twin(columns: BookColumns, rows: range, market: Market) -> Contestant | None:
    # looks at the whole history for every row, to be right and not to be fast
    try:
        from tests.oracle.features import Moment, features
    except ImportError:
        return None
    k = CONFIG.book.cost_size_centi
    history = [
        Moment(
            book["time_ms"], book["kind"] != RowKind.TRADE, book["bid_bp"], book["ask_bp"],
            (book["bid_size_centi"] / 100, book["ask_size_centi"] / 100),
            (book["bid_near_centi"] / 100, book["ask_near_centi"] / 100),
            (book["bid_total_centi"] / 100, book["ask_total_centi"] / 100),
            (book["bid_levels"], book["ask_levels"]),
            (book["bid_second_bp"] or None, book["ask_second_bp"] % 10_000 or None),
            book["buy_cost_micro"] / k, book["sell_value_micro"] / k,
        )
        for row in rows
        for book in [{name: int(getattr(columns, name)[row]) for name in BookColumns._fields}]
    ]  # fmt: skip

    def run(_: None) -> int:
        for known in range(1, len(history) + 1):
            features(history[:known], market.grid.ranges, market.close_ms)
        return len(history)

    return Contestant(run)


@numba.njit(cache=True)
def fill_rows(out: NDArray[np.float32], value: np.float32) -> None:
    """Write every cell once."""
    for step in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[step, column] = value
