"""Traded size and the depletion of the touch, beside a session's books.

Rules: `traded_size.py` and `market/depletion.py`. Both passes stream: memory is 4 bytes a frame,
the session's trades and tickers, one market's decreases of the touch, and one batch of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.config import DepletionConfig
from kalshi_pipeline.market.depletion import (
    BookBatch,
    Candidates,
    Evidence,
    Window,
    attribute,
    collect,
)
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.traded_size import (
    BATCH_ROWS,
    MarketCodes,
    agreement,
    batches,
    scan,
    traded_size,
)

TRADED_VERSION = "1"
TRADE_CHANNEL = "trade"

DEPLETION_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # of the book table: a decrease of the touch
        ("market", pa.dictionary(pa.int32(), pa.string())),
        ("traded_centi", pa.int64()),
        ("cancelled_centi", pa.int64()),  # with it the whole decrease
        ("confidence", pa.uint8()),  # 0 = nothing is known, the split is a convention
    ]
)
_CANDIDATE_TYPES = (
    np.int64, np.int32, np.int32, np.int64, np.int64, np.bool_, np.uint8, np.int32, np.int64,
)  # fmt: skip
_UNSAID = np.iinfo(np.int32).min


def write_traded(
    messages: Path, folder: Path, info: SessionInfo, config: DepletionConfig
) -> dict[str, Any]:
    """Write `traded.parquet` and `depletion.parquet` beside a session's `books.parquet`.

    Args:
        messages: the session's message table.
        folder: holds its book table.
        info: where the trade channel is among the declared ones, a market without a trade frame
            has not traded.
        config: tolerances of the match.

    Returns:
        Figures for the session's quality, JSON values only.
    """
    names, trades, tickers = scan(messages)
    table, evidence = traded_size(
        names,
        trades,
        tickers,
        trade_channel=TRADE_CHANNEL in (info.declared.get("channels") or ()),
    )
    pq.write_table(table, folder / "traded.parquet", compression="zstd")
    known = len(trades.market) + len(tickers.market) > 0
    delay_ms = _delays(messages) if known else np.zeros(0, dtype=np.int32)
    return agreement(table) | _write_depletion(folder, names, evidence, delay_ms, config)


def _delays(messages: Path) -> NDArray[np.int32]:
    # exchange time less receive time by frame, as `collect` reads it
    delay_ms = np.full(0, _UNSAID, dtype=np.int32)
    for batch in batches(messages, ("frame", "recv_ms", "exchange_ms")):
        frame, recv_ms = batch["frame"].to_numpy(), batch["recv_ms"].to_numpy()
        said = batch["exchange_ms"].is_valid().to_numpy(zero_copy_only=False)
        apart = batch["exchange_ms"].fill_null(0).to_numpy() - recv_ms
        said &= np.abs(apart) < -np.int64(_UNSAID)
        needed = int(frame.max(initial=-1)) + 1
        if needed > len(delay_ms):
            room = np.full(max(needed, 2 * len(delay_ms)), _UNSAID, dtype=np.int32)
            room[: len(delay_ms)] = delay_ms
            delay_ms = room
        delay_ms[frame[said]] = apart[said]
    return delay_ms


def _write_depletion(
    folder: Path,
    names: tuple[str, ...],
    evidence: Evidence,
    delay_ms: NDArray[np.int32],
    config: DepletionConfig,
) -> dict[str, Any]:
    window = Window(config.recv_window_ms, config.exchange_window_ms, config.candidates)
    dictionary = pa.array(names, pa.string())
    sums = np.zeros(5, dtype=np.int64)
    with pq.ParquetWriter(
        folder / "depletion.parquet",
        DEPLETION_SCHEMA,
        compression="zstd",
        use_dictionary=["market", "confidence"],
        column_encoding={"row": "DELTA_BINARY_PACKED"},
    ) as writer:
        for found in _whole_markets(folder / "books.parquet", names, delay_ms):
            traded = np.zeros(len(found.row), dtype=np.int64)
            confidence = np.zeros(len(found.row), dtype=np.uint8)
            attribute(found, evidence, window, traded, confidence)
            lost = np.flatnonzero(~found.is_trade)
            size = found.size_centi[lost]
            part = traded[lost]
            market = pa.DictionaryArray.from_arrays(pa.array(found.market[lost]), dictionary)
            columns = [found.row[lost], market, part, size - part, confidence[lost]]
            writer.write_table(pa.table(columns, schema=DEPLETION_SCHEMA))
            printed = found.is_trade
            printed_centi = found.size_centi[printed]
            sums += [
                int(values.sum())
                for values in (lost >= 0, size, part, printed_centi, traded[printed])
            ]
    count, lost_centi, traded_centi, total, explained = (int(value) for value in sums)
    return {
        "touch_decreases": count,
        "touch_lost_centi": lost_centi,
        "touch_traded_centi": traded_centi,
        "trades_explained": round(explained / total, 4) if total else None,
    }


def _whole_markets(
    books: Path, names: tuple[str, ...], delay_ms: NDArray[np.int32]
) -> Iterator[Candidates]:
    # candidates of the book table; a market never lies in two of what is yielded
    codes = MarketCodes(names)
    before = np.full(3, -1, dtype=np.int64)
    first_row = 0
    kept, out = _room(0), _room(BATCH_ROWS + 1)
    for batch in batches(books, BookBatch._fields):
        others = (batch[name].to_numpy() for name in BookBatch._fields[1:])
        rows = BookBatch._make((codes.of(batch["market"]), *others))
        found = collect(rows, first_row, delay_ms, before, out)
        first_row += len(rows.kind)
        columns: Iterable[tuple[Any, Any]] = zip(kept, out, strict=True)
        kept = Candidates._make(np.concatenate([a, b[:found]]) for a, b in columns)
        done = int(np.count_nonzero(kept.market != rows.market[-1]))
        if done:
            yield Candidates._make(values[:done] for values in kept)
            kept = Candidates._make(values[done:] for values in kept)
    yield kept


def _room(count: int) -> Candidates:
    return Candidates._make(np.zeros(count, dtype=dtype) for dtype in _CANDIDATE_TYPES)
