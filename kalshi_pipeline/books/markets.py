"""What is known about the markets of a session: grids, events, closing times, results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.books.schemas import MARKET_SCHEMA
from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.prices import TickGrid, declared_grid, grid_of_ranges, undeclared_grid
from kalshi_pipeline.market.replay_tables import MarketColumn
from kalshi_pipeline.recordings.folder import time_ms
from kalshi_pipeline.recordings.order_kernel import LAST_BOOK
from kalshi_pipeline.recordings.replay_order import Survey
from kalshi_pipeline.storage.tables import read_table

Declared = Mapping[str, Any]  # an object of markets.json
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


def markets_of(found: Survey, session: int, declared: Sequence[Declared]) -> tuple[Market, ...]:
    """The markets a session's books are of, in the order of their codes.

    Raises:
        RecordingError: one declares a close time or price ranges that are none.
    """
    entries = _entries(found.tickers, declared)
    return tuple(
        Market(
            ticker,
            str(entry.get("event_ticker") or ticker.rpartition("-")[0] or ticker),
            declared_grid(entry, session) or undeclared_grid(int(step_bp)),
            None if entry.get("can_close_early") else _close_ms(entry, session),
            entry["result"] if entry.get("result") in ("yes", "no") else None,
        )
        for ticker, entry, step_bp in zip(
            found.tickers, entries, found.observed_step_bp(), strict=True
        )
    )


def known_to_replay(
    markets: Sequence[Market],
    found: Survey,
    session: int,
    declared: Sequence[Declared],
    near_bp: int,
) -> NDArray[np.int64]:
    """`[M, 7]` what the replay knows of each market, see `MarketColumn`.

    A market that may close early is closed by the empty snapshot that ends its feed, or comes at
    its declared close. That time is the replay's alone: told to the features it would look ahead.
    """
    entries = _entries([market.ticker for market in markets], declared)
    last_book = found.of_tickers(LAST_BOOK).tolist()
    return market_columns(
        markets,
        near_bp,
        [_close_ms(entry, session) for entry in entries],
        [
            last if entry.get("can_close_early") else None
            for entry, last in zip(entries, last_book, strict=True)
        ],
    )


def _entries(tickers: Sequence[str], declared: Sequence[Declared]) -> list[Declared]:
    by_ticker = {str(entry.get("ticker")): entry for entry in declared}
    return [by_ticker.get(ticker, {}) for ticker in tickers]


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


def market_table(markets: Sequence[Market]) -> pa.Table:
    """The markets as they are published."""
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
    entries = read_table(folder / "markets.parquet", MARKET_SCHEMA).to_pylist()
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
