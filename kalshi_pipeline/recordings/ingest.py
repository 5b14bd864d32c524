"""A recording -> the message table of its session, and what could not be read.

Streaming: memory stays at one batch of rows, whatever the length of the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.folder import RawLine, Recording
from kalshi_pipeline.recordings.messages import (
    MESSAGE_SCHEMA,
    FrameDecoder,
    MessageKind,
    Rejected,
    Row,
)

INGEST_VERSION = "2"
BATCH_ROWS = 1 << 16
# sequences and times grow slowly: stored as differences they take a byte or two
_ENCODINGS = dict.fromkeys(
    ("frame", "seq", "recv_ms", "exchange_ms", "offset"), "DELTA_BINARY_PACKED"
)
_DICTIONARIES = ["market", "epoch", "sid", "kind", "side", "price_bp", "file", "detail"]

QUARANTINE_SCHEMA = pa.schema(
    [
        ("market", pa.string()),
        ("epoch", pa.int32()),
        ("sid", pa.int32()),
        ("seq", pa.int64()),
        ("recv_ms", pa.int64()),
        ("frame", pa.int64()),
        ("file", pa.int16()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("value", pa.string()),
    ]
)


@dataclass(frozen=True)
class IngestSummary:
    """Counts of one session's raw capture."""

    frames: int
    rows: int
    deltas: int
    snapshots: int
    trades: int
    tickers: int
    rejected: int
    other_types: dict[str, int]


class _TableWriter:
    """Rows of a table, written a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", **options)
        self._rows: list[tuple[Any, ...]] = []
        self.written = 0

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows.extend(rows)
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                _array(column, field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.written += len(self._rows)
        self._rows.clear()

    def close(self) -> None:
        self.flush()
        self._writer.close()


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(column, kind.value_type).dictionary_encode()
    return pa.array(column, kind)


def ingest(recording: Recording, folder: Path) -> IngestSummary:
    """Write `messages.parquet` and `quarantine.parquet` of a recording into a folder.

    Every line ends as rows of the one or a row of the other; a frame whose seq could be read is in
    both, so that its number is not taken for a loss.
    """
    decoder = FrameDecoder(
        frozenset(recording.info.tickers), use_yes_price=recording.info.use_yes_price
    )
    messages = _TableWriter(
        folder / "messages.parquet",
        MESSAGE_SCHEMA,
        use_dictionary=_DICTIONARIES,
        column_encoding=_ENCODINGS,
    )
    quarantine = _TableWriter(folder / "quarantine.parquet", QUARANTINE_SCHEMA)
    kinds: Counter[int] = Counter()
    others: Counter[str] = Counter()
    frame = -1
    for frame, line in enumerate(recording.lines()):
        epoch, rows, verdict = _decoded(decoder, line)
        if verdict is not None:
            quarantine.add([_quarantined(frame, epoch, line, rows, verdict)])
        if rows:
            kinds[rows[0][5]] += 1
            if rows[0][5] == MessageKind.CONTROL:
                others[rows[0][9] or "?"] += 1
            place = (line.file, line.offset)
            messages.add((frame, epoch, *columns, *place, detail) for *columns, detail in rows)
    messages.close()
    quarantine.close()
    return IngestSummary(
        frames=frame + 1,
        rows=messages.written,
        deltas=kinds[MessageKind.DELTA],
        snapshots=kinds[MessageKind.SNAPSHOT],
        trades=kinds[MessageKind.TRADE],
        tickers=kinds[MessageKind.TICKER],
        rejected=quarantine.written,
        other_types=dict(sorted(others.items())),
    )


def _decoded(decoder: FrameDecoder, line: RawLine) -> tuple[int, list[Row], Rejected | None]:
    if line.truncated:
        return -1, [], Rejected(Reason.TRUNCATED_FILE, f"{len(line.text or b'')} bytes left over")
    if line.text is None:
        return -1, [], Rejected(Reason.LINE_TOO_LONG, None)
    return decoder.decode(line.text)


def _quarantined(
    frame: int, epoch: int, line: RawLine, rows: list[Row], verdict: Rejected
) -> tuple[Any, ...]:
    # in the order of QUARANTINE_SCHEMA
    sid, seq, recv_ms = rows[0][:3] if rows else (None, None, None)
    value = None if verdict.value is None else str(verdict.value)[:200]
    return (
        verdict.market, epoch if epoch >= 0 else None, sid, seq, recv_ms,
        frame, line.file, line.offset, label(verdict.reason), value,
    )  # fmt: skip
