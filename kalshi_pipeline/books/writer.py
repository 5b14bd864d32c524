"""The books of a session of any size, written as they are replayed.

The replay fills one set of buffers while another thread packs and writes the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from io import RawIOBase
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.books.markets import market_table
from kalshi_pipeline.books.replay import BLOCK_ROWS, Block, SessionReplay
from kalshi_pipeline.books.schemas import BOOK_SCHEMA, LADDER_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.market.replay_tables import Output, output_buffers
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.market_frames import GROUP_RECORDS

Open = Callable[[str], IO[bytes] | RawIOBase]  # a new file of that name

_BUFFERS = 2
# what a column is made of decides how it is packed fastest: counters and clocks byte by byte, sums
# that move with every row as differences, what stays the same for long as it is
_BYTE_BY_BYTE = ("frame", "seq", "recv_ms", "time_ms", "price_bp", "side")
_DIFFERENCES = (
    "size_centi", "bid_near_centi", "ask_near_centi", "bid_total_centi", "ask_total_centi"
)  # fmt: skip
PACKED: dict[str, Any] = {
    "use_dictionary": ["market"],
    "column_encoding": dict.fromkeys(_BYTE_BY_BYTE, "BYTE_STREAM_SPLIT")
    | dict.fromkeys(_DIFFERENCES, "DELTA_BINARY_PACKED"),
    "compression": {name: "none" if name in _DIFFERENCES else "lz4" for name in BOOK_SCHEMA.names},
    "write_statistics": ["market", "segment", "time_ms"],
}


def write_session_books(
    replay: SessionReplay,
    rejected: pa.Table,
    open_file: Open,
    scratch: Path | None = None,
    *,
    beside: Callable[[pa.Table], object] | None = None,
    block_rows: int = BLOCK_ROWS,
    group_records: int = GROUP_RECORDS,
) -> dict[str, Any]:
    """Replay a session into its five tables.

    Args:
        replay: the session.
        rejected: what decoding put into quarantine; it comes first there.
        open_file: makes a file.
        scratch: folder for sorting what does not fit into memory.
        beside: gets the rows of the book table too, while they lie in memory.
        block_rows: rows of a row group of the book table.
        group_records: frame records sorted in memory at a time.

    Returns:
        The session's measured figures.
    """
    rows = min(block_rows, replay.most_rows + 1)
    free: SimpleQueue[Output] = SimpleQueue()
    for _ in range(_BUFFERS):
        free.put(output_buffers(rows, replay.longest_ladder))
    taken: list[Output] = []

    def take() -> Output:
        taken.append(free.get())
        return taken[-1]

    with _Tables(open_file, rejected) as tables, ThreadPoolExecutor(1, "books") as writer:
        writing: list[Future[None]] = []
        for block in replay.blocks(take, scratch, group_records):
            for done in writing[:-1]:
                done.result()
            writing = [*writing[-1:], writer.submit(_write, tables, block, taken.pop(), free)]
            if beside is not None:
                beside(block.rows)
        for done in writing:
            done.result()
    _write_table(market_table(replay.markets), open_file, "markets.parquet")
    segments = pa.concat_tables([SEGMENT_SCHEMA.empty_table(), *tables.segments])
    _write_table(segments, open_file, "segments.parquet")
    return replay.quality(segments, tables.quarantined)


class _Tables:
    # the files that grow block by block
    def __init__(self, open_file: Open, rejected: pa.Table) -> None:
        self._stack = ExitStack()
        self._rows = self._writer(open_file, "books.parquet", BOOK_SCHEMA, PACKED)
        packed = {"compression": "zstd"}
        self._ladders = self._writer(open_file, "ladders.parquet", LADDER_SCHEMA, packed)
        self._refused = self._writer(open_file, "quarantine.parquet", QUARANTINE_SCHEMA, packed)
        self._refused.write_table(rejected.cast(QUARANTINE_SCHEMA))
        self.segments: list[pa.Table] = []
        self.quarantined: Counter[str] = Counter()

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, block: Block) -> None:
        self._rows.write_table(block.rows, row_group_size=max(1, block.rows.num_rows))
        self.segments.append(block.segments)
        if block.ladders.num_rows:
            self._ladders.write_table(block.ladders)
        if block.quarantine.num_rows:
            self._refused.write_table(block.quarantine)
            counts = block.quarantine["reason"].value_counts().to_pylist()
            self.quarantined.update({entry["values"]: entry["counts"] for entry in counts})

    def _writer(
        self, open_file: Open, name: str, schema: pa.Schema, packed: dict[str, Any]
    ) -> pq.ParquetWriter:
        file = self._stack.enter_context(open_file(name))
        return self._stack.enter_context(pq.ParquetWriter(file, schema, **packed))


def _write(tables: _Tables, block: Block, buffers: Output, free: SimpleQueue[Output]) -> None:
    try:
        tables.add(block)
    finally:
        free.put(buffers)


def _write_table(table: pa.Table, open_file: Open, name: str) -> None:
    with open_file(name) as file:
        pq.write_table(table, file, compression="zstd")


def in_folder(folder: Path) -> Open:
    """Makes files in a folder."""
    return lambda name: (folder / name).open("wb")
