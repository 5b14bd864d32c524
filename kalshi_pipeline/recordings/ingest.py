"""A recording -> the message table of its session, and what could not be read.

Compiled code scans most frames straight into columns; the lines it is not sure of go to
`FrameDecoder`, whose word is final. Streaming: memory stays at a block of text and a row group,
whatever the length of the recording.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.folder import Recording, stripped
from kalshi_pipeline.recordings.messages import (
    MESSAGE_SCHEMA,
    FrameDecoder,
    MessageKind,
    Rejected,
    Row,
)
from kalshi_pipeline.recordings.scanner.fields import ignored_fields
from kalshi_pipeline.recordings.scanner.frames import MAX_IGNORED_FIELDS, FrameScanner
from kalshi_pipeline.recordings.streams import BLOCK_BYTES

INGEST_VERSION = "3"
BATCH_ROWS = 1 << 17
_NEWLINE, _STOP = 10, 2  # line feeds behind the text: one may end its last line, one stops
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


class TextWindow:
    """What is held of a file: the block being read, behind the unfinished line before it."""

    def __init__(self) -> None:
        self.text = np.empty(BLOCK_BYTES + MAX_LINE_BYTES + _STOP, np.uint8)
        self.begin_file()

    def begin_file(self) -> None:
        """Forget everything."""
        self.offset, self._skipping = 0, False
        self._end_at(0)

    def fill(self, block: bytes) -> None:
        """Put a block behind what is left."""
        if self._skipping:
            found = block.find(b"\n") + 1
            self._skipping = found == 0
            self.offset += found or len(block)
            block = block[found:] if found else b""
        start, end = self.end, self.end + len(block)
        if end + _STOP > len(self.text):
            larger = np.empty(end + _STOP, np.uint8)
            larger[:start] = self.text[:start]
            self.text = larger
        self.text[start:end] = np.frombuffer(block, np.uint8)
        self._end_at(end)

    def keep_from(self, place: int) -> int | None:
        """Keep what has not been read; the offset of a line that is too long, and forgotten."""
        rest, start = self.end - place, self.offset + place
        if rest > MAX_LINE_BYTES:
            self.offset, self._skipping = start + rest, True
            self._end_at(0)
            return start
        self.text[:rest] = self.text[place : self.end].copy()
        self.offset = start
        self._end_at(rest)
        return None

    def _end_at(self, end: int) -> None:
        self.end = end
        self.text[end : end + _STOP] = _NEWLINE


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


def ingest(recording: Recording, folder: Path) -> IngestSummary:
    """Write `messages.parquet` and `quarantine.parquet` of a recording into a folder.

    Every line ends as rows of the one or a row of the other; a frame whose seq could be read is in
    both, so that its number is not taken for a loss.
    """
    return _Ingest(recording, folder).run()


class _Ingest:
    def __init__(self, recording: Recording, folder: Path) -> None:
        info = recording.info
        self._recording = recording
        self._decoder = FrameDecoder(frozenset(info.tickers), use_yes_price=info.use_yes_price)
        self._scanner = FrameScanner(
            info.tickers, use_yes_price=info.use_yes_price, group_rows=BATCH_ROWS
        )
        self._messages = TableWriter(
            folder / "messages.parquet",
            MESSAGE_SCHEMA,
            use_dictionary=_DICTIONARIES,
            column_encoding=_ENCODINGS,
        )
        self._quarantine = TableWriter(folder / "quarantine.parquet", QUARANTINE_SCHEMA)
        self._kinds = np.zeros(len(MessageKind), np.int64)
        self._others: Counter[str] = Counter()
        self._ignored: set[str] = set()

    def run(self) -> IngestSummary:
        window = TextWindow()
        for file, block in self._recording.blocks():
            if block:
                window.fill(block)
                too_long = window.keep_from(self._scan(window, window.end, file))
                if too_long is not None:
                    self._refuse(file, too_long, Rejected(Reason.LINE_TOO_LONG, None))
                continue
            if block is None:
                rest = len(stripped(window.offset, window.text[: window.end].tobytes()))
                verdict = Rejected(Reason.TRUNCATED_FILE, f"{rest} bytes left over")
                self._refuse(file, window.offset, verdict)
            else:
                self._scan(window, window.end + 1, file)  # the last line needs no line feed
            window.begin_file()
        if self._scanner.rows:
            self._write_group()
        self._messages.close()
        self._quarantine.close()
        return self._summary()

    def _summary(self) -> IngestSummary:
        return IngestSummary(
            frames=self._scanner.frames,
            rows=self._messages.written,
            deltas=int(self._kinds[MessageKind.DELTA]),
            snapshots=int(self._kinds[MessageKind.SNAPSHOT]),
            trades=int(self._kinds[MessageKind.TRADE]),
            tickers=int(self._kinds[MessageKind.TICKER]),
            rejected=self._quarantine.written,
            other_types=dict(sorted(self._others.items())),
            ignored_fields=tuple(sorted(self._ignored)),
        )

    def _scan(self, window: TextWindow, end: int, file: int) -> int:
        # whole lines up to the end; where the unfinished one begins
        scanner, place = self._scanner, 0
        while True:
            reached, odd = scanner.scan(window.text, place, end, window.offset, file)
            for start, stop, row, frame in odd:
                text = window.text[start:stop].tobytes()
                self._decode(text, row, frame, file, window.offset + start)
            if scanner.rows >= BATCH_ROWS:
                self._write_group()
            if reached == place:
                return place
            place = reached

    def _decode(self, text: bytes, row: int, frame: int, file: int, offset: int) -> None:
        # a line that the scanner was not sure of
        if len(text) > MAX_LINE_BYTES:
            self._quarantined(frame, -1, file, offset, [], Rejected(Reason.LINE_TOO_LONG, None))
            return
        line = stripped(offset, text)
        epoch, rows, verdict = self._decoder.decode(line)
        if verdict is not None:
            self._quarantined(frame, epoch, file, offset, rows, verdict)
        if rows:
            if rows[0][5] == MessageKind.CONTROL:
                self._others[rows[0][9] or "?"] += 1
            self._scanner.add(
                row,
                ((frame, epoch, *columns, file, offset, detail) for *columns, detail in rows),
            )
            self._note_fields(line)

    def _note_fields(self, line: bytes) -> None:
        # fields of typed frames that are passed over; the scanner may do so from now on
        for group, path, name in ignored_fields(line):
            if len(self._ignored) < MAX_IGNORED_FIELDS:
                self._ignored.add(f"{path}{name}")
            self._scanner.ignore(group, name)

    def _refuse(self, file: int, offset: int, verdict: Rejected) -> None:
        self._quarantined(self._scanner.count_frame(), -1, file, offset, [], verdict)

    def _quarantined(
        self, frame: int, epoch: int, file: int, offset: int, rows: list[Row], verdict: Rejected
    ) -> None:
        # in the order of QUARANTINE_SCHEMA
        sid, seq, recv_ms = rows[0][:3] if rows else (None, None, None)
        value = None if verdict.value is None else str(verdict.value)[:200]
        self._quarantine.add(
            (verdict.market, epoch if epoch >= 0 else None, sid, seq, recv_ms,
             frame, file, offset, label(verdict.reason), value)
        )  # fmt: skip

    def _write_group(self) -> None:
        batch = self._scanner.take_group()
        self._kinds += np.bincount(batch["kind"].to_numpy(), minlength=len(MessageKind))
        self._messages.write(batch)
