"""A recording -> the message table of its session, and what could not be read.

Streaming: memory stays at a block of text and a row group, whatever the length of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.config import MAX_SESSION_MARKETS, MAX_SESSION_ROWS
from kalshi_pipeline.errors import SessionTooLarge
from kalshi_pipeline.recordings.folder import Recording, SessionInfo
from kalshi_pipeline.recordings.frame_reader import FrameReader
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind

INGEST_VERSION = "3"
BATCH_ROWS = 1 << 17
# sequences and times grow slowly: stored as differences they take a byte or two
_ENCODINGS = dict.fromkeys(
    ("frame", "seq", "recv_ms", "exchange_ms", "offset"), "DELTA_BINARY_PACKED"
)
_DICTIONARIES = [
    "market", "epoch", "sid", "kind", "side", "price_bp", "size_centi", "file", "detail",
]  # fmt: skip

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
    ignored_fields: tuple[str, ...] = ()  # of the frames that were decoded, each listed once


class TableWriter:
    """A table in the making, a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", **options)
        self._rows: list[tuple[Any, ...]] = []
        self.written = 0

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= BATCH_ROWS:
            self._flush()

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a row group."""
        self._writer.write_batch(batch)
        self.written += len(batch)

    def close(self) -> None:
        """Write what is left and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._rows = []
            self.write(pa.record_batch(arrays, schema=self._schema))


def require_limits(info: SessionInfo, rows: int) -> None:
    """Refuse a session of more rows or markets than memory and time are laid out for.

    Raises:
        SessionTooLarge: says how many there are and how many there may be.
    """
    counts = (
        ("rows", rows, MAX_SESSION_ROWS),
        ("markets", len(info.tickers), MAX_SESSION_MARKETS),
    )
    for what, count, most in counts:
        if count > most:
            raise SessionTooLarge(
                f"the session has {count:,} {what} or more, {most:,} are the limit",
                session=info.session,
                rule=f"max_session_{what}",
                value=count,
            )


def table_writers(folder: Path) -> tuple[TableWriter, TableWriter]:
    """The message table and the quarantine of a session, to be filled."""
    messages = TableWriter(
        folder / "messages.parquet",
        MESSAGE_SCHEMA,
        use_dictionary=_DICTIONARIES,
        column_encoding=_ENCODINGS,
    )
    return messages, TableWriter(folder / "quarantine.parquet", QUARANTINE_SCHEMA)


def ingest(recording: Recording, folder: Path) -> IngestSummary:
    """Write `messages.parquet` and `quarantine.parquet` of a recording into a folder.

    Every line ends as rows of the one or a row of the other; a frame whose seq could be read is in
    both, so that its number is not taken for a loss.

    Raises:
        SessionTooLarge: it has more rows or markets than a session may have.
    """
    require_limits(recording.info, 0)
    messages, quarantine = table_writers(folder)
    reader = FrameReader(recording, BATCH_ROWS, quarantine.add)
    kinds = np.zeros(len(MessageKind), np.int64)
    for batch in reader.batches():
        kinds += np.bincount(batch["kind"].to_numpy(), minlength=len(MessageKind))
        messages.write(batch)
        require_limits(recording.info, messages.written)
    messages.close()
    quarantine.close()
    return IngestSummary(
        frames=reader.frames,
        rows=messages.written,
        deltas=int(kinds[MessageKind.DELTA]),
        snapshots=int(kinds[MessageKind.SNAPSHOT]),
        trades=int(kinds[MessageKind.TRADE]),
        tickers=int(kinds[MessageKind.TICKER]),
        rejected=quarantine.written,
        other_types=dict(sorted(reader.other_types.items())),
        ignored_fields=reader.ignored_fields,
    )
