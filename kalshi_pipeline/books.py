"""Messages -> validated books: trusted segments, quarantine, and how good the session is.

The table `books.parquet` holds one row an applied message, market by market in replay order:
the message, its segment, and the book after it. Every raw row (one delta or one snapshot frame)
ends as exactly one of: applied, quarantined with a reason, before the first snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kalshi_pipeline.book_tables import (
    applied_order,
    ladder_table,
    quarantine_table,
    row_table,
    segment_table,
)
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.prices import TickGrid, declared_grid, grid_of_ranges, uniform_grid
from kalshi_pipeline.market.replay_tables import (
    BookRows,
    Counters,
    Frames,
    Ladders,
    Markets,
    RowKind,
    Rules,
    Segments,
)
from kalshi_pipeline.recordings.folder import SessionInfo, time_ms
from kalshi_pipeline.recordings.replay_order import SessionFrames, frames_of
from kalshi_pipeline.session_quality import session_quality

BOOKS_VERSION = "3"
_PACKED = {"compression": "zstd", "use_dictionary": ["market", "kind", "side", "segment"]}


@dataclass(frozen=True)
class Market:
    """What is known about one market of a session.

    Args:
        close_ms: declared close; None where unknown, or where the exchange may have moved it
            earlier without the recording saying when (using it then would look ahead).
        result: `yes`, `no`, or None where unknown.
    """

    ticker: str
    event: str
    grid: TickGrid
    close_ms: int | None
    result: str | None

    @property
    def series(self) -> str:
        """The series of a ticker: what fees are set for."""
        return self.ticker.split("-")[0]


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
    """Replay a session.

    Args:
        messages: its message table.
        rejected: what decoding put into quarantine.
        info: what the collector declared.
        declared_markets: objects of `markets.json`.
        config: tolerances.

    Returns:
        The books; `rows_in = applied + quarantined + before_snapshot` holds exactly.
    """
    session = frames_of(messages, rejected, info, config.clock_jump_ms)
    markets = _markets(session, info, declared_markets)
    compiled = _compiled_markets(markets)
    frames = session.frames
    count = len(frames.kind)
    rows = BookRows(*(np.zeros(count, dtype=dtype) for dtype in _row_types()))
    segments, ladders = _capacity(frames, compiled, config)
    counters = np.zeros(len(Counters), dtype=np.int64)
    rules = Rules(
        config.near_bp,
        config.cost_size_centi,
        config.crossed_tolerance_ms,
        config.crossed_tolerance_messages,
        config.ladder_every,
        info.sequence == "none",
        config.clock_back_ms,
    )
    cells = int(2 * compiled.levels.sum())
    replay(
        frames, compiled, rules, np.zeros(cells, dtype=np.int64), rows, segments, ladders, counters
    )
    applied, position = applied_order(frames, rows)
    table = row_table(session, rows, applied)
    stretches = segment_table(segments, counters, rows, applied, session.tickers)
    quarantine = pa.concat_tables([rejected, quarantine_table(session, rows)])
    quality = session_quality(
        session, rows, table, stretches, quarantine, counters, info, declared_markets
    )
    kept = ladder_table(ladders, counters, position)
    return Books(table, stretches, kept, quarantine, markets, quality)


def write_books(books: Books, folder: Path) -> None:
    """Write the five tables of a session's books into a folder."""
    pq.write_table(books.rows, folder / "books.parquet", **_PACKED)
    pq.write_table(books.segments, folder / "segments.parquet", compression="zstd")
    pq.write_table(books.ladders, folder / "ladders.parquet", compression="zstd")
    pq.write_table(books.quarantine, folder / "quarantine.parquet", compression="zstd")
    pq.write_table(_market_table(books.markets), folder / "markets.parquet", compression="zstd")


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


def _row_types() -> tuple[type, ...]:
    return (
        np.uint8, np.uint8, np.int32, np.int64, np.int32, np.int32,
        *(np.int64,) * 6, np.int32, np.int32, np.int32, np.int32, np.int64, np.int64,
    )  # fmt: skip


def _markets(
    session: SessionFrames, info: SessionInfo, declared: Sequence[Mapping[str, Any]]
) -> tuple[Market, ...]:
    by_ticker = {str(entry.get("ticker")): entry for entry in declared}
    result = []
    for ticker, step_bp in zip(session.tickers, session.observed_step_bp(), strict=True):
        entry = by_ticker.get(ticker, {})
        grid = declared_grid(entry, info.session) or uniform_grid(int(step_bp))
        result.append(
            Market(
                ticker,
                str(entry.get("event_ticker") or ticker.rpartition("-")[0] or ticker),
                grid,
                None if entry.get("can_close_early") else _close_ms(entry, info),
                entry["result"] if entry.get("result") in ("yes", "no") else None,
            )
        )
    return tuple(result)


def _close_ms(market: Mapping[str, Any], info: SessionInfo) -> int | None:
    try:
        return time_ms(market.get("close_time"))
    except ValueError as error:
        raise RecordingError(
            "a market declares a close time that is none",
            session=info.session,
            market=str(market["ticker"]),
            rule="close_time",
            value=market["close_time"],
        ) from error


def _compiled_markets(markets: Sequence[Market]) -> Markets:
    grids = list(dict.fromkeys(market.grid for market in markets))
    levels = np.array([market.grid.levels for market in markets], dtype=np.int64)
    base = np.concatenate([[0], np.cumsum(2 * levels)])[:-1].astype(np.int64)
    return Markets(
        np.array([market.grid.step_bp for market in markets], dtype=np.int32),
        base,
        levels,
        np.array([grids.index(market.grid) for market in markets], dtype=np.int32),
        np.array([grid.valid for grid in grids], dtype=np.bool_).reshape(len(grids), 10_001),
        np.array([-1 if m.close_ms is None else m.close_ms for m in markets], dtype=np.int64),
    )


def _capacity(frames: Frames, markets: Markets, config: BookConfig) -> tuple[Segments, Ladders]:
    snapshots = int(np.count_nonzero(frames.kind == 0))
    per_market = np.bincount(frames.market[frames.market >= 0], minlength=len(markets.levels))
    kept = int((per_market // config.ladder_every * 2 * markets.levels).sum())
    levels = len(frames.level_side) + kept
    segments = Segments(
        np.zeros(snapshots, np.int32), np.zeros(snapshots, np.int64), np.zeros(snapshots, np.uint8)
    )
    ladders = Ladders(
        np.zeros(levels, np.int64),
        np.zeros(levels, np.uint8),
        np.zeros(levels, np.int32),
        np.zeros(levels, np.int64),
    )
    return segments, ladders


def _market_table(markets: Sequence[Market]) -> pa.Table:
    return pa.table(
        {
            "market": pa.array([m.ticker for m in markets], pa.string()),
            "event": pa.array([m.event for m in markets], pa.string()),
            "close_ms": pa.array([m.close_ms for m in markets], pa.int64()),
            "result": pa.array([m.result for m in markets], pa.string()),
            "tick_ranges": pa.array(
                [[list(entry) for entry in m.grid.ranges] for m in markets],
                pa.list_(pa.list_(pa.int32())),
            ),
        }
    )


def read_markets(folder: Path) -> tuple[Market, ...]:
    """The markets of a session's published books."""
    entries = pq.read_table(folder / "markets.parquet").to_pylist()
    return tuple(
        Market(
            entry["market"],
            entry["event"],
            grid_of_ranges(tuple((a, b, step) for a, b, step in entry["tick_ranges"])),
            entry["close_ms"],
            entry["result"],
        )
        for entry in entries
    )


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The book table of a session, or some of its columns."""
    return pq.read_table(
        folder / "books.parquet",
        columns=None if columns is None else list(columns),
        read_dictionary=["market"],
    )
