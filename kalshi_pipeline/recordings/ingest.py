"""A recording -> the message table of its session, and what could not be read.

Streaming: memory stays at one batch of rows, whatever the length of the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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

INGEST_VERSION = "1"
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


class _MessageWriter:
    """Columns in lists, a row group at a time."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            MESSAGE_SCHEMA,
            compression="zstd",
            use_dictionary=_DICTIONARIES,
            column_encoding=_ENCODINGS,
        )
        self._rows: list[tuple[Any, ...]] = []
        self.written = 0

    def add(self, frame: int, epoch: int, rows: Sequence[Row], file: int, offset: int) -> None:
        for *columns, detail in rows:
            self._rows.append((frame, epoch, *columns, file, offset, detail))
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, type=field.type if field.name != "market" else pa.string())
                for column, field in zip(columns, MESSAGE_SCHEMA, strict=True)
            ]
            market = MESSAGE_SCHEMA.get_field_index("market")
            arrays[market] = arrays[market].dictionary_encode()
            self._writer.write_batch(pa.record_batch(arrays, schema=MESSAGE_SCHEMA))
        self.written += len(self._rows)
        self._rows.clear()

    def close(self) -> None:
        self.flush()
        self._writer.close()


def ingest(recording: Recording, folder: Path) -> IngestSummary:
    """Write `messages.parquet` and `quarantine.parquet` of a recording into a folder.

    Every line ends as rows of the one or a row of the other; a frame whose seq could be read is in
    both, so that its number is not taken for a loss.
    """
    decoder = FrameDecoder(
        frozenset(recording.info.tickers), use_yes_price=recording.info.use_yes_price
    )
    writer = _MessageWriter(folder / "messages.parquet")
    quarantine: list[dict[str, Any]] = []
    kinds: Counter[int] = Counter()
    others: Counter[str] = Counter()
    frame = -1
    for frame, line in enumerate(recording.lines()):
        epoch, rows, verdict = _decoded(decoder, line)
        if verdict is not None:
            quarantine.append(_quarantined(frame, epoch, line, rows, verdict))
        if rows:
            kinds[rows[0][5]] += 1
            if rows[0][5] == MessageKind.CONTROL:
                others[rows[0][9] or "?"] += 1
            writer.add(frame, epoch, rows, line.file, line.offset)
    writer.close()
    pq.write_table(
        pa.Table.from_pylist(quarantine, schema=QUARANTINE_SCHEMA),
        folder / "quarantine.parquet",
        compression="zstd",
    )
    return IngestSummary(
        frames=frame + 1,
        rows=writer.written,
        deltas=kinds[MessageKind.DELTA],
        snapshots=kinds[MessageKind.SNAPSHOT],
        trades=kinds[MessageKind.TRADE],
        tickers=kinds[MessageKind.TICKER],
        rejected=len(quarantine),
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
) -> dict[str, Any]:
    sid, seq, recv_ms = rows[0][:3] if rows else (None, None, None)
    return {
        "market": verdict.market,
        "epoch": epoch if epoch >= 0 else None,
        "sid": sid,
        "seq": seq,
        "recv_ms": recv_ms,
        "frame": frame,
        "file": line.file,
        "offset": line.offset,
        "reason": label(verdict.reason),
        "value": None if verdict.value is None else str(verdict.value)[:200],
    }
