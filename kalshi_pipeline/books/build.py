"""Messages -> validated books: trusted segments, quarantine, and how good the session is.

The table `books.parquet` holds one row an applied message, market by market in replay order:
the message, its segment, and the book after it. Every raw row (one delta or one snapshot frame)
ends as exactly one of: applied, quarantined with a reason, before the first snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kalshi_pipeline.books.markets import Market as Market
from kalshi_pipeline.books.markets import market_table
from kalshi_pipeline.books.markets import read_markets as read_markets
from kalshi_pipeline.books.replay import BLOCK_ROWS, SessionReplay
from kalshi_pipeline.books.schemas import BOOK_SCHEMA, LADDER_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.books.writer import PACKED
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.replay_tables import RowKind, output_buffers
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.replay_order import in_memory
from kalshi_pipeline.storage.tables import read_table

BOOKS_VERSION = "6"


@dataclass(frozen=True)
class Books:
    """The validated books of one session.

    Args:
        rows: table of applied messages, see `books.parquet`.
        segments: one row a trusted stretch, with `first_row` and `end_row` into `rows`.
        ladders: full ladders as (row, side, price_bp, size_centi), `row` ascending.
        quarantine: every rejected raw row with its reason.
        markets: in the order of the codes in `rows`.
        quality: the session's measured figures.
    """

    rows: pa.Table
    segments: pa.Table
    ladders: pa.Table
    quarantine: pa.Table
    markets: tuple[Market, ...]
    quality: Mapping[str, Any]


def build_books(
    messages: pa.Table,
    rejected: pa.Table,
    info: SessionInfo,
    declared_markets: Sequence[Mapping[str, Any]],
    config: BookConfig,
) -> Books:
    """Replay a session in memory.

    Args:
        messages: its message table.
        rejected: what decoding put into quarantine.
        info: what the collector declared.
        declared_markets: objects of `markets.json`.
        config: tolerances.

    Returns:
        The books; `rows_in = applied + quarantined + before_snapshot` holds exactly.
    """
    run = SessionReplay(in_memory(messages), rejected, info, declared_markets, config)
    size = min(BLOCK_ROWS, run.most_rows + 1)
    blocks = [*run.blocks(lambda: output_buffers(size, run.longest_ladder))]
    rows, segments, ladders = (
        pa.concat_tables([schema.empty_table(), *(getattr(block, name) for block in blocks)])
        for name, schema in (
            ("rows", BOOK_SCHEMA),
            ("segments", SEGMENT_SCHEMA),
            ("ladders", LADDER_SCHEMA),
        )
    )
    refused = [block.quarantine for block in blocks if block.quarantine.num_rows]
    quarantined = Counter(why for part in refused for why in part["reason"].to_pylist())
    return Books(
        rows.unify_dictionaries().combine_chunks(),
        segments.combine_chunks(),
        ladders.combine_chunks(),
        pa.concat_tables([rejected.cast(QUARANTINE_SCHEMA), *refused]),
        run.markets,
        run.quality(segments, quarantined),
    )


def write_books(books: Books, folder: Path) -> None:
    """Write the five tables of a session's books into a folder."""
    pq.write_table(books.rows, folder / "books.parquet", **PACKED)
    pq.write_table(books.segments, folder / "segments.parquet", compression="zstd")
    pq.write_table(books.ladders, folder / "ladders.parquet", compression="zstd")
    pq.write_table(books.quarantine, folder / "quarantine.parquet", compression="zstd")
    pq.write_table(market_table(books.markets), folder / "markets.parquet", compression="zstd")


def ladder_at(
    rows: pa.Table, ladders: pa.Table, segments: pa.Table, row: int
) -> dict[tuple[int, int], int]:
    """The whole book after one row of the book table, rebuilt exactly.

    Args:
        rows: book table.
        ladders: kept ladders.
        segments: segment table.
        row: index into `rows`; must lie in a segment.

    Returns:
        (side, price_bp in the ladder's own scale) -> size_centi, levels with size only.

    Raises:
        IndexError: the row lies in no segment.
    """
    begins = segments["first_row"].to_numpy()
    segment = int(np.searchsorted(begins, row, side="right")) - 1
    if segment < 0 or row >= segments["end_row"][segment].as_py():
        raise IndexError(f"row {row} lies in no segment")
    kept = ladders["row"].to_numpy()
    start = int(begins[segment])
    usable = kept[(kept >= start) & (kept <= row)]
    # of an empty book no levels are kept: a later row then starts from an earlier one
    anchor = int(usable.max()) if len(usable) else start
    levels = ladders.filter(pc.equal(ladders["row"], anchor))
    sides, prices = levels["side"].to_pylist(), levels["price_bp"].to_pylist()
    book = dict(zip(zip(sides, prices, strict=True), levels["size_centi"].to_pylist(), strict=True))
    for change in rows.slice(anchor + 1, row - anchor).to_pylist():
        if change["kind"] == RowKind.SNAPSHOT:
            book = {}  # the levels of any other than an empty one would have been kept
        elif change["kind"] == RowKind.DELTA:
            level = (change["side"], change["price_bp"])
            book[level] = book.get(level, 0) + change["size_centi"]
    return {level: size for level, size in book.items() if size}


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The book table of a session, or some of its columns."""
    return read_table(folder / "books.parquet", BOOK_SCHEMA, columns)
