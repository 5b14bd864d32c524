"""Messages -> validated books: trusted segments, quarantine, and how good the session is.

The table `books.parquet` holds one row an applied message, market by market in replay order:
the message, its segment, and the book after it. Every raw row (one delta or one snapshot frame)
ends as exactly one of: applied, quarantined with a reason, before the first snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.book_schemas import BOOK_SCHEMA, LADDER_SCHEMA, MARKET_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.book_tables import BookTables
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.prices import TickGrid, declared_grid, grid_of_ranges, undeclared_grid
from kalshi_pipeline.market.replay_state import STATE_WIDTH
from kalshi_pipeline.market.replay_tables import (
    Counters,
    MarketColumn,
    Output,
    RowKind,
    Rules,
    output_buffers,
)
from kalshi_pipeline.recordings.folder import SessionInfo, time_ms
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.market_frames import GROUP_RECORDS, MarketFrames, market_frames
from kalshi_pipeline.recordings.order_kernel import LAST_BOOK, RECORDS
from kalshi_pipeline.recordings.replay_order import Batches, Survey, in_memory, survey
from kalshi_pipeline.session_quality import session_quality

BOOKS_VERSION = "4"
BLOCK_ROWS = 1 << 17  # of the book table, replayed and written at a time
_PACKED = {"compression": "zstd", "use_dictionary": ["market", "kind", "side", "segment"]}
_NEVER = 1 << 62  # a position no frame has


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


@dataclass(frozen=True)
class Block:
    """Some rows of the book table and what ended, was kept and was refused beside them."""

    rows: pa.Table
    segments: pa.Table
    ladders: pa.Table
    quarantine: pa.Table


class SessionReplay:
    """The replay of a session, a block of rows at a time.

    Args:
        batches: its message table.
        rejected: what decoding put into quarantine.
        info: what the collector declared.
        declared_markets: objects of `markets.json`.
        config: tolerances.
    """

    def __init__(
        self,
        batches: Batches,
        rejected: pa.Table,
        info: SessionInfo,
        declared_markets: Sequence[Mapping[str, Any]],
        config: BookConfig,
    ) -> None:
        self.survey = survey(
            batches, rejected, info, config.clock_jump_ms, continuous=config.trust == "continuous"
        )
        self.markets = _markets(self.survey, info, declared_markets)
        self._info, self._declared, self._config = info, declared_markets, config
        self._rejected = Counter(rejected["reason"].to_pylist())
        self._counters = np.zeros(len(Counters), dtype=np.int64)

    @property
    def longest_ladder(self) -> int:
        """Places of the finest grid of the session."""
        return max((market.grid.levels for market in self.markets), default=1)

    @property
    def most_rows(self) -> int:
        """No more rows than this will come."""
        return int(self.survey.of_tickers(RECORDS).sum())

    def blocks(
        self,
        buffers: Callable[[], Output],
        scratch: Path | None = None,
        group_records: int = GROUP_RECORDS,
    ) -> Iterator[Block]:
        """Replay.

        Args:
            buffers: what to fill next; a block's rows are views of them.
            scratch: folder for sorting what does not fit into memory.
            group_records: how many records do.
        """
        tables, known, valid = BookTables(self.survey), self._known(), valid_places(self.markets)
        state, counters = np.zeros(STATE_WIDTH, dtype=np.int64), self._counters
        ladder = np.zeros(2 * self.longest_ladder, dtype=np.int64)
        rules, ended = self._rules(), 0
        for part in market_frames(self.survey, scratch, group_records):
            counters[Counters.MARKET] = counters[Counters.FRAME] = 0
            counters[Counters.FIRST_MARKET] = part.first_market
            while counters[Counters.MARKET] < len(part.begins) - 1:
                out = buffers()
                replay(
                    part.frames, part.begins, known[part.first_market :], valid, rules,
                    self.survey.accusations, state, ladder, out, counters,
                )  # fmt: skip
                yield _block(tables, part, out, counters, ended)
                ended += int(counters[Counters.SEGMENTS])
                counters[Counters.ROW_BASE] += counters[Counters.ROWS]
                for count in ("ROWS", "SEGMENTS", "LADDER_LEVELS", "REFUSED"):
                    counters[Counters[count]] = 0

    def quality(self, segments: pa.Table, quarantined: Mapping[str, int]) -> dict[str, Any]:
        """The session's measured figures, once every block has come.

        Args:
            segments: all of them.
            quarantined: rows the replay refused, by reason.
        """
        return session_quality(
            self.survey,
            self._counters,
            segments,
            self._rejected + Counter(quarantined),
            self._info,
            self._declared,
        )

    def _known(self) -> NDArray[np.int64]:
        # a market that may close early is closed by the empty snapshot that ends its feed; the time
        # is the replay's alone: told to the features it would look ahead
        declared = {str(entry.get("ticker")): entry for entry in self._declared}
        entries = [declared.get(market.ticker, {}) for market in self.markets]
        last_book = self.survey.of_tickers(LAST_BOOK).tolist()
        return market_columns(
            self.markets,
            self._config.near_bp,
            [_close_ms(entry, self._info.session) for entry in entries],
            [
                last if entry.get("can_close_early") else None
                for entry, last in zip(entries, last_book, strict=True)
            ],
        )

    def _rules(self) -> Rules:
        config = self._config
        return Rules(
            config.cost_size_centi,
            config.crossed_tolerance_ms,
            config.crossed_tolerance_messages,
            config.ladder_every,
            self._info.sequence == "none",
            config.clock_back_ms,
        )


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


def _block(
    tables: BookTables, part: MarketFrames, out: Output, counters: NDArray[np.int64], ended: int
) -> Block:
    rows, segments, levels, refused = (
        int(counters[count])
        for count in (
            Counters.ROWS, Counters.SEGMENTS, Counters.LADDER_LEVELS, Counters.REFUSED
        )
    )  # fmt: skip
    return Block(
        tables.rows(out, rows),
        tables.segments(out.segments[:segments].copy(), ended),
        tables.ladders(out.ladders[:levels].copy()),
        tables.quarantine(part.frames, out.refused[:refused]),
    )


def _markets(
    found: Survey, info: SessionInfo, declared: Sequence[Mapping[str, Any]]
) -> tuple[Market, ...]:
    by_ticker = {str(entry.get("ticker")): entry for entry in declared}
    result = []
    for ticker, step_bp in zip(found.tickers, found.observed_step_bp(), strict=True):
        entry = by_ticker.get(ticker, {})
        result.append(
            Market(
                ticker,
                str(entry.get("event_ticker") or ticker.rpartition("-")[0] or ticker),
                declared_grid(entry, info.session) or undeclared_grid(int(step_bp)),
                None if entry.get("can_close_early") else _close_ms(entry, info.session),
                entry["result"] if entry.get("result") in ("yes", "no") else None,
            )
        )
    return tuple(result)


def _close_ms(market: Mapping[str, Any], session: int) -> int | None:
    try:
        return time_ms(market.get("close_time"))
    except ValueError as error:
        raise RecordingError(
            "a market declares a close time that is none",
            session=session,
            market=str(market["ticker"]),
            rule="close_time",
            value=market["close_time"],
        ) from error


def market_columns(
    markets: Sequence[Market],
    near_bp: int,
    close_ms: Sequence[int | None],
    last_book: Sequence[int | None],
) -> NDArray[np.int64]:
    """`[M, 7]` what the replay knows of each market, see `MarketColumn`.

    Args:
        markets: in the order of their codes.
        near_bp: how far from the touch is near.
        close_ms: declared close of each.
        last_book: position from which on an empty snapshot is the close, None = never.
    """
    grids = list(dict.fromkeys(market.grid for market in markets))
    known = np.zeros((len(markets), len(MarketColumn)), dtype=np.int64)
    for row, market, close, last in zip(known, markets, close_ms, last_book, strict=True):
        step = market.grid.step_bp
        row[MarketColumn.STEP_BP] = step
        row[MarketColumn.LEVELS] = market.grid.levels
        row[MarketColumn.GRID] = grids.index(market.grid)
        row[MarketColumn.CLOSE_MS] = -1 if close is None else close
        row[MarketColumn.LAST_BOOK] = _NEVER if last is None else last
        row[MarketColumn.NEAR] = near_bp // step
        row[MarketColumn.INVERSE] = ((1 << 32) + step - 1) // step
    return known


def valid_places(markets: Sequence[Market]) -> NDArray[np.bool_]:
    """`[G, 2, longest ladder]` places of each grid's two ladders where an order may rest."""
    grids = list(dict.fromkeys(market.grid for market in markets))
    longest = max((grid.levels for grid in grids), default=1)
    valid = np.zeros((len(grids), 2, longest), dtype=np.bool_)
    for places, grid in zip(valid, grids, strict=True):
        resting = grid.resting[:: grid.step_bp]
        places[0, : grid.levels], places[1, : grid.levels] = resting, resting[::-1]
    return valid


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
            "finest_bp": pa.array([m.grid.finest_bp for m in markets], pa.int32()),
        },
        schema=MARKET_SCHEMA,
    )


def read_markets(folder: Path) -> tuple[Market, ...]:
    """The markets of a session's published books."""
    entries = pq.read_table(folder / "markets.parquet").to_pylist()
    return tuple(
        Market(
            entry["market"],
            entry["event"],
            grid_of_ranges(
                tuple((a, b, step) for a, b, step in entry["tick_ranges"]), entry["finest_bp"]
            ),
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
