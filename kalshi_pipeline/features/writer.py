"""The tensors of a session of any size, made and written a block of its book table at a time.

Which rows are steps is found first, so that the files' headers can say how many there are; the
features follow block by block, one being computed while the one before is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import RawIOBase
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.markets import Market
from kalshi_pipeline.books.schemas import BOOK_SCHEMA
from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.features.block import BookColumns
from kalshi_pipeline.features.build import (
    book_columns,
    segment_rows,
    steps_of_segments,
    tensor_of_segments,
)
from kalshi_pipeline.features.kernel import Room, SegmentRows
from kalshi_pipeline.recordings.replay_order import ahead

# some columns of the book table, a row group at a time, from its beginning at every call
Blocks = Callable[[Sequence[str]], Iterable[pa.Table]]
_STEP_COLUMNS = ("time_ms", "kind", "bid_bp", "ask_bp")


@dataclass(frozen=True)
class TensorFacts:
    """What a session's tensors are.

    Args:
        steps: T.
        segments: those with at least one step.
        finite: whether every feature is a number between -1 and 1.
    """

    steps: int
    segments: int
    finite: bool


def write_session_tensors(
    blocks: Blocks,
    segments: pa.Table,
    markets: tuple[Market, ...],
    steps: StepConfig,
    cost_size_centi: int,
    open_file: Callable[[str], IO[bytes] | RawIOBase],
) -> TensorFacts:
    """Write `features.npy`, `step_row.npy` and `index.parquet` of a session.

    Args:
        blocks: book table.
        segments: segment table.
        markets: for tick grids and closing times.
        steps: the step clock.
        cost_size_centi: k, as the books were built with.
        open_file: makes a file.
    """
    first_row, end_row = segments["first_row"].to_numpy(), segments["end_row"].to_numpy()
    is_step = _steps(blocks, first_row, end_row, steps.min_step_ms)
    counts = np.add.reduceat(is_step, first_row, dtype=np.int64) if len(first_row) else end_row
    total, finite = int(counts.sum()), True
    by_ticker = {market.ticker: market for market in markets}
    owners = [by_ticker[ticker] for ticker in segments["market"].to_pylist()]
    stretches, ticks = segment_rows(segments, owners, first_row)
    with (
        open_file("features.npy") as features,
        open_file("step_row.npy") as step_row,
        ThreadPoolExecutor(1, "tensors") as beside,
    ):
        _write_header(features, np.float32, (total, TENSOR_WIDTH))
        _write_header(step_row, np.int64, (total,))
        writing: list[Future[bool]] = []
        for rows, out in _features(blocks, stretches, ticks, cost_size_centi, is_step):
            writing.append(beside.submit(_write, step_row, rows, features, out))
            # the block before the last is written: its buffer is filled next
            for done in writing[:-1]:
                finite &= done.result()
            del writing[:-1]
        for done in writing:
            finite &= done.result()
    end_step = np.cumsum(counts)
    index = segments.append_column("first_step", pa.array(end_step - counts))
    index = index.append_column("end_step", pa.array(end_step)).filter(pa.array(counts > 0))
    with open_file("index.parquet") as file:
        pq.write_table(index, file, compression="zstd")
    return TensorFacts(total, index.num_rows, finite)


def _steps(
    blocks: Blocks, first_row: NDArray[np.int64], end_row: NDArray[np.int64], min_step_ms: int
) -> NDArray[np.bool_]:
    # which rows are steps, whole segments at a time: a step depends on the one before
    is_step = np.zeros(int(end_row.max(initial=0)), dtype=np.bool_)
    nothing = pa.schema([BOOK_SCHEMA.field(name) for name in BookColumns._fields]).empty_table()
    unread = book_columns(nothing)
    held, begin, have, done = [], 0, 0, 0
    for table in ahead(blocks(_STEP_COLUMNS)):
        held.append(table)
        have += table.num_rows
        ready = int(np.searchsorted(end_row, have, side="right"))
        if ready == done:
            continue
        rows = pa.concat_tables(held)
        book = unread._replace(**{name: _read_only(rows[name]) for name in _STEP_COLUMNS})
        some = slice(done, ready)
        is_step[begin : min(have, len(is_step))] |= steps_of_segments(
            book, first_row[some] - begin, end_row[some] - begin, min_step_ms
        )[: len(is_step) - begin]
        done = ready
        cut = int(first_row[done]) if done < len(first_row) else have
        cut = min(cut, have)
        held, begin = [rows.slice(cut - begin)], cut
    return is_step


def _read_only(column: pa.ChunkedArray) -> NDArray[Any]:
    # a column as the kernels are compiled for
    values: NDArray[Any] = column.to_numpy()
    values.flags.writeable = False
    return values


def _features(
    blocks: Blocks,
    segments: SegmentRows,
    tick_up_bp: NDArray[np.int32],
    cost_size_centi: int,
    is_step: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    # rows and features of the steps of each block; the features lie in one of two buffers
    begin, memory = 0, None
    buffers = [np.zeros((0, TENSOR_WIDTH), np.float32) for _ in range(2)]
    for table in ahead(blocks(BookColumns._fields)):
        end = begin + table.num_rows
        some = slice(
            int(np.searchsorted(segments.end_row, begin, side="right")),
            int(np.searchsorted(segments.first_row, end)),
        )
        own_steps = is_step[begin:end]
        rows = np.flatnonzero(own_steps)
        if len(buffers[0]) < len(rows):
            buffers[0] = np.empty((table.num_rows, TENSOR_WIDTH), np.float32)
        out = buffers[0][: len(rows)]
        if some.start < some.stop:
            own = _within(segments, some, begin, end, rows)
            continued: Room | None = None if segments.first_row[some.start] >= begin else memory
            memory = tensor_of_segments(
                book_columns(table), own, tick_up_bp, cost_size_centi, own_steps, out, continued
            )
        yield rows + begin, out
        buffers.reverse()
        begin = end


def _within(
    segments: SegmentRows, some: slice, begin: int, end: int, steps: NDArray[np.int64]
) -> SegmentRows:
    # the parts of some segments that lie in a block
    first = np.maximum(segments.first_row[some], begin) - begin
    last = np.minimum(segments.end_row[some], end) - begin
    first_step = np.searchsorted(steps, first)
    return SegmentRows(first, last, first_step, segments.ticks[some], segments.close_ms[some])


def _write_header(file: Any, dtype: type, shape: tuple[int, ...]) -> None:
    # as np.save would write it
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        file, {"descr": described, "fortran_order": False, "shape": shape}
    )


def _write(
    step_row: Any, rows: NDArray[np.int64], features: Any, values: NDArray[np.float32]
) -> bool:
    step_row.write(rows)
    features.write(values)
    return bool(values.min(initial=0.0) >= -1.0 and values.max(initial=0.0) <= 1.0)
