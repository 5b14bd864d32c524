"""Books -> feature tensor `[steps, 35]`: what an agent may know, and when it may act.

The kernel is streaming: it advances one book state at a time over a small state, so that a live
feed taking messages one by one (`FeatureStream`) gets the rows of the tensor bit for bit. Nothing
looks ahead. Formulas: `feature_table.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books import Market
from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.feature_kernel import (
    STATE_WIDTH,
    BookColumns,
    advance,
    emit,
    mark_steps,
    segment_features,
)
from kalshi_pipeline.feature_table import TENSOR_WIDTH

FEATURES_VERSION = "2"


@dataclass(frozen=True)
class Tensors:
    """Steps and features of one session.

    Args:
        features: `[T, 35]` float32.
        step_row: `[T]` row of the book table after which the agent acts.
        index: one row a segment with at least one step: market, segment, first_step, end_step,
            first_row, end_row, start_ms, end_ms, ended_by.
    """

    features: NDArray[np.float32]
    step_row: NDArray[np.int64]
    index: pa.Table


def book_columns(rows: pa.Table) -> BookColumns:
    """The columns the kernels read."""
    return BookColumns(*(rows[name].to_numpy() for name in BookColumns._fields))


def build_tensors(
    rows: pa.Table,
    segments: pa.Table,
    markets: tuple[Market, ...],
    steps: StepConfig,
    cost_size_centi: int,
) -> Tensors:
    """Steps and features of a session's books.

    Args:
        rows: book table.
        segments: segment table.
        markets: for tick grids and closing times.
        steps: the step clock.
        cost_size_centi: k, as the books were built with.
    """
    book = book_columns(rows)
    by_ticker = {market.ticker: market for market in markets}
    owners = [by_ticker[ticker] for ticker in segments["market"].to_pylist()]
    first_row, end_row = segments["first_row"].to_numpy(), segments["end_row"].to_numpy()
    is_step = np.zeros(len(book.time_ms), dtype=np.bool_)
    for first, end in zip(first_row, end_row, strict=True):
        mark_steps(book, first, end, steps.min_step_ms, is_step)
    step_row = np.flatnonzero(is_step)
    features = np.zeros((len(step_row), TENSOR_WIDTH), dtype=np.float32)
    first_step = np.searchsorted(step_row, first_row)
    end_step = np.searchsorted(step_row, end_row)
    for owner, first, end, step in zip(owners, first_row, end_row, first_step, strict=True):
        close, ticks = -1 if owner.close_ms is None else owner.close_ms, owner.grid.tick_up_bp
        segment_features(book, first, end, step, is_step, ticks, close, cost_size_centi, features)
    index = segments.append_column("first_step", pa.array(first_step))
    index = index.append_column("end_step", pa.array(end_step))
    return Tensors(features, step_row, index.filter(pa.array(end_step > first_step)))


def write_tensors(tensors: Tensors, folder: Path) -> None:
    """Write `features.npy`, `step_row.npy` and `index.parquet` into a folder."""
    np.save(folder / "features.npy", tensors.features, allow_pickle=False)
    np.save(folder / "step_row.npy", tensors.step_row, allow_pickle=False)
    pq.write_table(tensors.index, folder / "index.parquet", compression="zstd")


def read_tensors(folder: Path) -> Tensors:
    """The tensors of a session, the features memory-mapped."""
    return Tensors(
        np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False),
        np.load(folder / "step_row.npy", allow_pickle=False),
        pq.read_table(folder / "index.parquet"),
    )


class FeatureStream:
    """The features of one market segment, one book state at a time, as a live feed would.

    Args:
        tick_up_bp: `[10001]` tick table of the market's grid.
        close_ms: closing time known now; None = unknown.
        cost_size_centi: k of the marginal costs.
    """

    def __init__(
        self, tick_up_bp: NDArray[np.int32], close_ms: int | None, cost_size_centi: int
    ) -> None:
        self._state = np.zeros(2 * STATE_WIDTH)
        self._tick_up_bp = tick_up_bp
        self._close_ms = -1 if close_ms is None else close_ms
        self._cost_size_centi = cost_size_centi

    def advance(self, book: BookColumns, row: int) -> None:
        """Take in one row of a book table."""
        advance(self._state, book, row)

    def features(self, book: BookColumns, row: int) -> NDArray[np.float32]:
        """`[35]` the features as of the row taken in last."""
        out = np.zeros((1, TENSOR_WIDTH), dtype=np.float32)
        emit(
            self._state, book, row, self._tick_up_bp, self._close_ms, self._cost_size_centi, out, 0
        )
        features: NDArray[np.float32] = out[0]
        return features
