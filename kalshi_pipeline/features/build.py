"""Books -> feature tensor `[steps, 35]`: what an agent may know, and when it may act.

The kernels carry a small state from row to row, so that a live feed taking messages one by one
(`FeatureStream`) gets the rows of the tensor bit for bit. Nothing looks ahead. Formulas:
`feature_table.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.build import Market
from kalshi_pipeline.books.schemas import INDEX_SCHEMA
from kalshi_pipeline.config import BP_PER_DOLLAR, StepConfig
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.features.block import BookColumns
from kalshi_pipeline.features.kernel import (
    Room,
    SegmentRows,
    mark_steps,
    room,
    segments_features,
    take_row,
    write_row,
)
from kalshi_pipeline.storage.tables import read_table

FEATURES_VERSION = "4"


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
    return BookColumns(*(_lent(rows[name].to_numpy()) for name in BookColumns._fields))


def steps_of_segments(
    book: BookColumns,
    first_row: NDArray[np.int64],
    end_row: NDArray[np.int64],
    min_step_ms: int,
) -> NDArray[np.bool_]:
    """`[R]` after which rows of the book table the agent may act.

    Args:
        book: columns of `book_columns`.
        first_row: `[S]` first row of each segment.
        end_row: `[S]` end row of each, exclusive.
        min_step_ms: least distance of two steps.
    """
    is_step = np.zeros(len(book.time_ms), dtype=np.bool_)
    mark_steps(book, _lent(first_row), _lent(end_row), min_step_ms, is_step)
    return is_step


def tensor_of_segments(
    book: BookColumns,
    segments: SegmentRows,
    tick_up_bp: NDArray[np.int32],
    cost_size_centi: int,
    is_step: NDArray[np.bool_],
    out: NDArray[np.float32],
    continued: Room | None = None,
) -> Room:
    """Features of the steps of many segments, in one call.

    Args:
        book: columns of `book_columns`.
        segments: which rows, where their steps go, which tick table and closing time; see
            `segment_rows`.
        tick_up_bp: `[G, 10001]` tick tables.
        cost_size_centi: k of the marginal costs.
        is_step: `[R]` of `steps_of_segments`.
        out: `[T, 35]` C-contiguous; the steps of segment s are written from `first_step[s]` on.
        continued: what the call before returned, if the first of these segments is the rest of the
            last one there.

    Returns:
        What is remembered of the last segment.
    """
    lent = SegmentRows(*map(_lent, segments))
    memory = continued or room()
    segments_features(
        book, lent, is_step, _lent(tick_up_bp), cost_size_centi, continued is not None, memory, out
    )
    return memory


def segment_rows(
    segments: pa.Table, owners: Sequence[Market], first_step: NDArray[np.int64]
) -> tuple[SegmentRows, NDArray[np.int32]]:
    """The arguments `segments` and `tick_up_bp` of `tensor_of_segments`.

    Args:
        segments: segment table, or some rows of it.
        owners: the market of each.
        first_step: `[S]` where in the tensor the steps of each begin.
    """
    grids = list(dict.fromkeys(owner.grid for owner in owners))
    place = {grid: index for index, grid in enumerate(grids)}
    ticks = np.array([grid.tick_up_bp for grid in grids], dtype=np.int32)
    close_ms = [-1 if owner.close_ms is None else owner.close_ms for owner in owners]
    return SegmentRows(
        segments["first_row"].to_numpy(),
        segments["end_row"].to_numpy(),
        first_step,
        np.array([place[owner.grid] for owner in owners], dtype=np.int64),
        np.array(close_ms, dtype=np.int64),
    ), ticks.reshape(-1, BP_PER_DOLLAR + 1)


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
    is_step = steps_of_segments(book, first_row, end_row, steps.min_step_ms)
    step_row = np.flatnonzero(is_step)
    first_step = np.searchsorted(step_row, first_row)
    end_step = np.searchsorted(step_row, end_row)
    features = np.empty((len(step_row), TENSOR_WIDTH), dtype=np.float32)
    stretches, ticks = segment_rows(segments, owners, first_step)
    tensor_of_segments(book, stretches, ticks, cost_size_centi, is_step, features)
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
        read_table(folder / "index.parquet", INDEX_SCHEMA),
    )


class FeatureStream:
    """The features of one market segment as its rows come, one or some at a time.

    A segment begins with an update; its trades repeat the book before them.

    Args:
        tick_up_bp: `[10001]` tick table of the market's grid.
        close_ms: closing time known now; None = unknown.
        cost_size_centi: k of the marginal costs.
    """

    def __init__(
        self, tick_up_bp: NDArray[np.int32], close_ms: int | None, cost_size_centi: int
    ) -> None:
        self._room = room()
        self._tick_up_bp = _lent(tick_up_bp)
        self._close_ms = -1 if close_ms is None else close_ms
        self._cost_size_centi = cost_size_centi

    def advance(self, book: BookColumns, row: int) -> None:
        """Take in one row of a book table."""
        take_row(book, row, _ANY, self._room)

    def features(self, book: BookColumns, row: int) -> NDArray[np.float32]:
        """`[35]` the features as of the row taken in last."""
        out = np.empty((1, TENSOR_WIDTH), dtype=np.float32)
        write_row(
            book, row, self._tick_up_bp, self._close_ms, self._cost_size_centi, self._room, out
        )
        features: NDArray[np.float32] = out[0]
        return features

    def block(
        self, book: BookColumns, first: int, end: int, is_step: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """`[T, 35]` the features of the steps among some rows, which are taken in.

        Args:
            book: book columns.
            first: first row.
            end: end row, exclusive.
            is_step: `[R]` rows after which the agent acts.
        """
        out = np.empty((int(is_step[first:end].sum()), TENSOR_WIDTH), dtype=np.float32)
        rest = SegmentRows(*(np.array([value]) for value in (first, end, 0, 0, self._close_ms)))
        ticks, k = self._tick_up_bp[None], self._cost_size_centi
        tensor_of_segments(book, rest, ticks, k, is_step, out, continued=self._room)
        return out


_ANY = np.zeros(1, dtype=np.bool_)


def _lent(values: NDArray[Any]) -> NDArray[Any]:
    # read-only, whatever it was: a kernel is compiled once for the one kind and once for the other
    view = values.view()
    view.flags.writeable = False
    return view
