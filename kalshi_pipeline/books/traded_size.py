"""Traded size, market by market, and where that is known from.

Trade frames where they exist; otherwise what the ticker's `volume_fp` gained between a market's
first and last ticker of the session. It counts contracts since the market began, so only
differences count, only those above every earlier value (frames may come out of order), and a
difference over a reconnect includes what was traded while nobody listened. Tickers also count block
trades, which never meet the book; trade frames of those are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.market.depletion import Evidence
from kalshi_pipeline.recordings.messages import MessageKind

TRADES, TICKER, NONE = "trades", "ticker", "none"
BATCH_ROWS = 1 << 19
# Volume counts both sides of a trade. Measured on the recordings of May 2026: no difference is odd,
# none is the last trade's size, many are twice that; half of each lies within what the touch lost
# between the same two tickers, and only that does (see tests/test_traded.py).
VOLUME_SIDES = 2

TRADED_SCHEMA = pa.schema(
    [
        ("market", pa.string()),
        ("source", pa.string()),  # trades, ticker or none
        ("traded_centi", pa.int64()),  # by its source
        ("trades", pa.int64()),  # trade frames
        ("trades_centi", pa.int64()),
        ("tickers", pa.int64()),
        ("ticker_centi", pa.int64()),  # gained between the first and the last ticker
        ("across_reconnects_centi", pa.int64()),  # of this, between tickers of two connections
        ("trades_between_tickers_centi", pa.int64()),  # what ticker_centi is to be compared with
    ]
)


@dataclass(frozen=True)
class Frames:
    """Trade or ticker frames, in order of receipt."""

    market: NDArray[np.int32]
    epoch: NDArray[np.int32]
    recv_ms: NDArray[np.int64]
    exchange_ms: NDArray[np.int64]  # -1 = not said
    size_centi: NDArray[np.int64]

    def take(self, order: NDArray[Any]) -> Frames:
        """Some of them, in this order."""
        return Frames(*(values[order] for values in vars(self).values()))


_TYPES: tuple[type[Any], ...] = (np.int32, np.int32, np.int64, np.int64, np.int64)
NOTHING = Frames(*(np.zeros(0, dtype) for dtype in _TYPES))


def batches(path: Path, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, so many rows at a time; its tickers stay dictionaries."""
    with pq.ParquetFile(path, read_dictionary=["market"]) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=list(columns))


class MarketCodes:
    """One code for each market of a session, whatever dictionary a batch comes with."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._codes = {name: code for code, name in enumerate(names)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names by code."""
        return tuple(self._codes)

    def of(self, market: pa.DictionaryArray) -> NDArray[np.int32]:
        """`[N]` the code of each row; -1 = no market."""
        indices = market.indices
        if indices.null_count:
            indices = indices.fill_null(-1)
        places = indices.to_numpy()
        names = market.dictionary.to_pylist()
        table = np.full(len(names) + 1, -1, dtype=np.int32)
        # a dictionary may hold names that no row of the batch has
        for place in np.flatnonzero(np.bincount(places + 1, minlength=1)[1:]):
            table[place] = self._codes.setdefault(names[place], len(self._codes))
        codes: NDArray[np.int32] = table[places]
        return codes


def scan(messages: Path) -> tuple[tuple[str, ...], Frames, Frames]:
    """Every market that a frame of a message table names, ascending; its trades; its tickers."""
    codes = MarketCodes()
    kept: dict[int, list[list[NDArray[Any]]]] = {MessageKind.TRADE: [], MessageKind.TICKER: []}
    columns = ("kind", "market", "epoch", "recv_ms", "exchange_ms", "size_centi")
    for batch in batches(messages, columns):
        market, kind = codes.of(batch["market"]), batch["kind"].to_numpy()
        for wanted, parts in kept.items():
            # a ticker need not say its volume
            where = np.flatnonzero(
                (kind == wanted) & batch["size_centi"].is_valid().to_numpy(False)
            )
            if len(where):
                rows = batch.take(pa.array(where))
                exchange_ms = rows["exchange_ms"].fill_null(-1)
                parts.append(
                    [market[where], rows["epoch"].to_numpy(), rows["recv_ms"].to_numpy(),
                     exchange_ms.to_numpy(), rows["size_centi"].to_numpy()]
                )  # fmt: skip
    names = tuple(sorted(codes.names))
    place = {name: code for code, name in enumerate(names)}
    rank = np.array([place[name] for name in codes.names], dtype=np.int32)
    frames = [_joined(parts, rank) for parts in kept.values()]
    return names, frames[0], frames[1]


def _joined(parts: list[list[NDArray[Any]]], rank: NDArray[np.int32]) -> Frames:
    whole = [
        np.concatenate([np.zeros(0, dtype), *(part[i] for part in parts)]).astype(dtype)
        for i, dtype in enumerate(_TYPES)
    ]
    return Frames(rank[whole[0]] if len(rank) else whole[0], *whole[1:])


def traded_size(
    names: tuple[str, ...], trades: Frames, tickers: Frames, *, trade_channel: bool
) -> tuple[pa.Table, Evidence]:
    """The table of traded size, and the same as the depletion kernel reads it.

    Args:
        names: of the markets, by code.
        trades: of the session.
        tickers: those that say a volume.
        trade_channel: trades were subscribed to: a market without one has not traded.
    """
    count = len(names)
    by_exchange = np.ones(count, dtype=np.bool_)
    by_exchange[tickers.market[tickers.exchange_ms < 0]] = False
    tickers = _by_time(tickers, by_exchange)
    first = np.searchsorted(tickers.market, np.arange(count + 1))
    volume = _gained(tickers, first)
    clock = _clock(tickers, by_exchange)
    reconnected = np.diff(tickers.epoch, prepend=tickers.epoch[:1]) != 0
    sums = {
        "trades": np.bincount(trades.market, minlength=count),
        "trades_centi": _sums(trades.market, trades.size_centi, count),
        "tickers": np.diff(first),
        "ticker_centi": _sums(tickers.market, volume, count),
        "across_reconnects_centi": _sums(tickers.market, np.where(reconnected, volume, 0), count),
        "trades_between_tickers_centi": _between(trades, by_exchange, first, clock, count),
    }
    # nothing traded is known of a market without a trade frame only where trades were recorded,
    # and no ticker says otherwise
    recorded = trade_channel or len(trades.market) > 0
    has_trades = (sums["trades"] > 0) | (recorded & (sums["ticker_centi"] == 0))
    source = np.where(has_trades, TRADES, np.where(sums["tickers"] > 1, TICKER, NONE))
    traded = np.where(has_trades, sums["trades_centi"], sums["ticker_centi"])
    columns = {"market": list(names), "source": source.tolist(), "traded_centi": traded, **sums}
    table = pa.table(columns, schema=TRADED_SCHEMA)
    return table, Evidence(has_trades, first.astype(np.int64), by_exchange, clock, volume)


def _sums(market: NDArray[np.int32], values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    total = np.zeros(count, dtype=np.int64)
    np.add.at(total, market, values)
    return total


def _clock(frames: Frames, by_exchange: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(by_exchange[frames.market], frames.exchange_ms, frames.recv_ms)


def _by_time(tickers: Frames, by_exchange: NDArray[np.bool_]) -> Frames:
    return tickers.take(np.lexsort((_clock(tickers, by_exchange), tickers.market)))


def _gained(tickers: Frames, first: NDArray[np.int64]) -> NDArray[np.int64]:
    # what each ticker adds to the highest volume before it; the first of a market adds nothing
    gained = np.zeros(len(tickers.market), dtype=np.int64)
    for start, end in pairwise(first):
        highest = np.maximum.accumulate(tickers.size_centi[start:end])
        gained[start:end] = np.diff(highest, prepend=highest[:1])
    return gained // VOLUME_SIDES


def _between(
    trades: Frames,
    by_exchange: NDArray[np.bool_],
    first: NDArray[np.int64],
    ticker_ms: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    # traded after a market's first ticker, up to its last
    has_tickers = np.diff(first) > 0
    begin, end = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    begin[has_tickers] = ticker_ms[first[:-1][has_tickers]]
    end[has_tickers] = ticker_ms[first[1:][has_tickers] - 1]
    time_ms = _clock(trades, by_exchange)
    inside = (time_ms > begin[trades.market]) & (time_ms <= end[trades.market])
    return _sums(trades.market[inside], trades.size_centi[inside], count)


def agreement(table: pa.Table) -> dict[str, Any]:
    """How the traded size of the session is known, and how far its two sources agree."""
    source = table["source"].to_pylist()
    ticker = table["ticker_centi"].to_numpy()
    trades = table["trades_between_tickers_centi"].to_numpy()
    both = (table["trades"].to_numpy() > 0) & (table["tickers"].to_numpy() > 1)
    larger = int(np.maximum(ticker, trades)[both].sum())
    return {
        "traded_centi": int(table["traded_centi"].to_numpy().sum()),
        "traded_known": {name: source.count(name) for name in (TRADES, TICKER, NONE)},
        "trades_against_tickers": {
            "markets": int(both.sum()),
            "trades_centi": int(trades[both].sum()),
            "ticker_centi": int(ticker[both].sum()),
            "agreement": round(int(np.minimum(ticker, trades)[both].sum()) / larger, 4)
            if larger
            else None,
        },
    }
