"""Features: rows of the tensor a second, one a message, with the books' replay and without."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.books import Replay, frames_of
from benchmarks.data import CONFIG, Material
from benchmarks.flow import order_flow
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.books.build import Market
from kalshi_pipeline.books.replay import BLOCK_ROWS
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.features.block import BookColumns
from kalshi_pipeline.features.build import (
    FeatureStream,
    book_columns,
    segment_rows,
    tensor_of_segments,
)
from kalshi_pipeline.features.kernel import SegmentRows
from kalshi_pipeline.trading.tape import RowKind

UNIT = "rows/s"
FLOOR = "fill the same rows"
STREAMED_ROWS = 2_000
TWIN_ROWS = 100
FLOW_DELTAS = 1_000_000


def measure(material: Material, effort: Effort, flow_deltas: int = FLOW_DELTAS) -> list[Row]:
    """Replay and features of a flow with a step at every message; then the features alone."""
    books = material.books
    columns = book_columns(books.rows)
    owners = {market.ticker: market for market in books.markets}
    of_segments = [owners[ticker] for ticker in books.segments["market"].to_pylist()]
    is_step = np.zeros(len(columns.time_ms), np.bool_)
    first_row, end_row = (books.segments[name].to_numpy() for name in ("first_row", "end_row"))
    for first, end in zip(first_row, end_row, strict=True):
        is_step[first:end] = True
    first_step = np.searchsorted(np.flatnonzero(is_step), first_row)
    out = np.zeros((int(is_step.sum()), TENSOR_WIDTH), np.float32)
    segments, ticks = segment_rows(books.segments, of_segments, first_step)

    def features(_: None) -> int:
        tensor_of_segments(columns, segments, ticks, CONFIG.book.cost_size_centi, is_step, out)
        return len(out)

    def filled(_: None) -> int:
        fill_rows(out, np.float32(0.5))
        return len(out)

    longest = int(np.argmax(end_row - first_row))
    start, end, market = int(first_row[longest]), int(end_row[longest]), of_segments[longest]
    peers = {"FeatureStream, one message a call": _live(columns, start, end, market)}
    twin = _slow_twin(columns, range(start, min(end, start + TWIN_ROWS)), market)
    if twin:
        peers[f"slow twin of the tests, first {TWIN_ROWS} rows"] = twin
    floor = {FLOOR: Contestant(filled)}
    both = {"replay and features": _book_and_features(flow_deltas)}
    alone = {"tensor_of_segments": Contestant(features)}
    return [
        row("book_and_features", UNIT, both | peers | floor, effort, FLOOR),
        row("features alone", UNIT, alone | peers | floor, effort, FLOOR),
    ]


def _book_and_features(deltas: int) -> Contestant:
    # block by block: what the replay leaves in its buffers is read while it is in the cache
    frames, begins = frames_of(order_flow(deltas))
    replay = Replay(frames, begins, rows=int(np.diff(begins).max(initial=1)) + BLOCK_ROWS)
    every = np.ones(replay.out.tiny.shape[1], np.bool_)
    out = np.zeros((len(every), TENSOR_WIDTH), np.float32)
    names, k = BookColumns._fields, CONFIG.book.cost_size_centi
    ticks = np.array([replay.market.grid.tick_up_bp], np.int32)

    def run(_: None) -> int:
        done = 0
        for count, ended in replay.blocks():
            rows = replay.out.rows(count)
            first, end = (np.ascontiguousarray(ended[:, column]) for column in (1, 2))
            if first[0] != 0 or end[-1] != count:
                raise AssertionError("a block holds a part of a segment")
            nothing = np.zeros(len(first), np.int64)
            segments = SegmentRows(first, end, first, nothing, nothing - 1)
            book = BookColumns(*(rows[name] for name in names))
            tensor_of_segments(book, segments, ticks, k, every[:count], out)
            done += count
        return done

    return Contestant(run)


def _live(columns: BookColumns, start: int, end: int, market: Market) -> Contestant:
    last = min(end, start + STREAMED_ROWS)

    def live(_: None) -> int:
        ticks, k = market.grid.tick_up_bp, CONFIG.book.cost_size_centi
        stream = FeatureStream(ticks, market.close_ms, k)
        for index in range(start, last):
            stream.advance(columns, index)
            stream.features(columns, index)
        return last - start

    return Contestant(live)


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
