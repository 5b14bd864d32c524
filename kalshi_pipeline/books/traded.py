"""Traded size and the depletion of the touch, beside a session's books.

Rules: `traded_size.py` and `market/depletion.py`. Memory is 4 bytes a frame, the session's trades
and tickers, one market's decreases of the touch, and one batch of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.traded_size import (
    NOTHING,
    MarketCodes,
    agreement,
    batches,
    scan,
    traded_size,
)
from kalshi_pipeline.config import DepletionConfig
from kalshi_pipeline.market.depletion import (
    BookBatch,
    Candidates,
    Window,
    attribute,
    collect,
)
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.replay_order import Survey

TRADED_VERSION = "2"
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


class TradedWriter:
    """Writes `traded.parquet` and `depletion.parquet` beside the books as they are replayed.

    Args:
        messages: the session's message table.
        info: where the trade channel is among the declared ones, a market without a trade frame
            has not traded.
        config: tolerances of the match.
        open_file: makes a file.
        silent: its markets, ascending, where the session is known to have no trades and no
            tickers: nothing is read then.
    """

    def __init__(
        self,
        messages: Path,
        info: SessionInfo,
        config: DepletionConfig,
        open_file: Callable[[str], Any],
        silent: tuple[str, ...] | None = None,
    ) -> None:
        names, trades, tickers = scan(messages) if silent is None else (silent, NOTHING, NOTHING)
        channel = TRADE_CHANNEL in (info.declared.get("channels") or ())
        table, self._evidence = traded_size(names, trades, tickers, trade_channel=channel)
        known = len(trades.market) + len(tickers.market) > 0
        self._delay_ms = _delays(messages) if known else np.zeros(0, dtype=np.int32)
        self._window = Window(config.recv_window_ms, config.exchange_window_ms, config.candidates)
        self._codes, self._dictionary = MarketCodes(names), pa.array(names, pa.string())
        self._kept, self._out = _room(0), _room(0)
        self._before = np.full(3, -1, dtype=np.int64)
        self._rows = 0
        self._sums = np.zeros(5, dtype=np.int64)
        self._agreement = agreement(table)
        self._stack = ExitStack()
        with open_file("traded.parquet") as file:
            pq.write_table(table, file, compression="zstd")
        self._writer = self._stack.enter_context(
            pq.ParquetWriter(
                self._stack.enter_context(open_file("depletion.parquet")),
                DEPLETION_SCHEMA,
                compression="zstd",
                use_dictionary=["market", "confidence"],
                column_encoding={"row": "DELTA_BINARY_PACKED"},
            )
        )

    def __enter__(self) -> TradedWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if failed is None:
                self._write(self._kept)

    def add(self, rows: pa.Table) -> None:
        """Take in the next rows of the book table."""
        for batch in rows.select(BookBatch._fields).to_batches():
            self._add(batch)

    @property
    def figures(self) -> dict[str, Any]:
        """Figures for the session's quality, JSON values only, once every row has come."""
        count, lost_centi, traded_centi, total, explained = self._sums.tolist()
        return self._agreement | {
            "touch_decreases": count,
            "touch_lost_centi": lost_centi,
            "touch_traded_centi": traded_centi,
            "trades_explained": round(explained / total, 4) if total else None,
        }

    def _add(self, batch: pa.RecordBatch) -> None:
        # what is written at once are whole markets
        others = [batch[name].to_numpy().view() for name in BookBatch._fields[1:]]
        for column in others:
            column.flags.writeable = False  # as the kernel is compiled for
        rows = BookBatch._make((self._codes.of(batch["market"]), *others))
        if len(self._out.row) <= len(rows.kind):
            self._out = _room(len(rows.kind) + 1)
        found = collect(rows, self._rows, self._delay_ms, self._before, self._out)
        self._rows += len(rows.kind)
        columns: Iterable[tuple[Any, Any]] = zip(self._kept, self._out, strict=True)
        kept = Candidates._make(np.concatenate([a, b[:found]]) for a, b in columns)
        done = int(np.count_nonzero(kept.market != rows.market[-1]))
        if done:
            self._write(Candidates._make(values[:done] for values in kept))
        self._kept = Candidates._make(values[done:] for values in kept)

    def _write(self, found: Candidates) -> None:
        traded = np.zeros(len(found.row), dtype=np.int64)
        confidence = np.zeros(len(found.row), dtype=np.uint8)
        attribute(found, self._evidence, self._window, traded, confidence)
        lost = np.flatnonzero(~found.is_trade)
        size = found.size_centi[lost]
        part = traded[lost]
        market = pa.DictionaryArray.from_arrays(pa.array(found.market[lost]), self._dictionary)
        columns = [found.row[lost], market, part, size - part, confidence[lost]]
        self._writer.write_table(pa.table(columns, schema=DEPLETION_SCHEMA))
        printed = found.is_trade
        printed_centi = found.size_centi[printed]
        self._sums += [
            int(values.sum()) for values in (lost >= 0, size, part, printed_centi, traded[printed])
        ]


def silent_markets(survey: Survey) -> tuple[str, ...] | None:
    """The markets of a session without trades and tickers; None where there are some.

    Lifecycle frames, too, name markets that are in no book.
    """
    naming = (MessageKind.TRADE, MessageKind.TICKER, MessageKind.LIFECYCLE)
    return None if any(survey.kinds[kind] for kind in naming) else survey.tickers


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


def _room(count: int) -> Candidates:
    return Candidates._make(np.zeros(count, dtype=dtype) for dtype in _CANDIDATE_TYPES)
