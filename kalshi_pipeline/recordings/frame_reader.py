"""The frames of a recording as rows of the message table, and what could not be read.

Compiled code scans most frames straight into columns; the lines it is not sure of go to
`FrameDecoder`, whose word is final.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.folder import Recording, stripped
from kalshi_pipeline.recordings.messages import FrameDecoder, MessageKind, Rejected, Row
from kalshi_pipeline.recordings.scanner.fields import ignored_fields
from kalshi_pipeline.recordings.scanner.frames import MAX_IGNORED_FIELDS, FrameScanner
from kalshi_pipeline.recordings.streams import BLOCK_BYTES

_NEWLINE, _STOP = 10, 2  # line feeds behind the text: one may end its last line, one stops


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


class FrameReader:
    """Reads one recording, once.

    Args:
        recording: what to read.
        group_rows: a record batch is given out when it has this many rows.
        refused: gets each row of the quarantine.
    """

    def __init__(
        self,
        recording: Recording,
        group_rows: int,
        refused: Callable[[tuple[Any, ...]], None],
    ) -> None:
        info = recording.info
        self._recording, self._group_rows, self._refused = recording, group_rows, refused
        self._decoder = FrameDecoder(frozenset(info.tickers), use_yes_price=info.use_yes_price)
        self._scanner = FrameScanner(
            info.tickers, use_yes_price=info.use_yes_price, group_rows=group_rows
        )
        self._place = 0
        self._fields: set[str] = set()
        self.other_types: Counter[str] = Counter()

    @property
    def frames(self) -> int:
        """Frames read so far."""
        return self._scanner.frames

    @property
    def ignored_fields(self) -> tuple[str, ...]:
        """Fields of typed frames that nothing is made of, sorted."""
        return tuple(sorted(self._fields))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the message table, in the order of receipt."""
        window = TextWindow()
        for file, block in self._recording.blocks():
            if block:
                window.fill(block)
                yield from self._scan(window, window.end, file)
                too_long = window.keep_from(self._place)
                if too_long is not None:
                    self._refuse(file, too_long, Rejected(Reason.LINE_TOO_LONG, None))
                continue
            if block is None:
                rest = len(stripped(window.offset, window.text[: window.end].tobytes()))
                verdict = Rejected(Reason.TRUNCATED_FILE, f"{rest} bytes left over")
                self._refuse(file, window.offset, verdict)
            else:  # the last line needs no line feed
                yield from self._scan(window, window.end + 1, file)
            window.begin_file()
        if self._scanner.rows:
            yield self._scanner.take_group()

    def _scan(self, window: TextWindow, end: int, file: int) -> Iterator[pa.RecordBatch]:
        # whole lines up to the end; self._place is then where the unfinished one begins
        scanner, place = self._scanner, 0
        while True:
            reached, odd = scanner.scan(window.text, place, end, window.offset, file)
            for start, stop, row, frame in odd:
                text = window.text[start:stop].tobytes()
                self._decode(text, row, frame, file, window.offset + start)
            if scanner.rows >= self._group_rows:
                yield scanner.take_group()
            if reached == place:
                break
            place = reached
        self._place = place

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
                self.other_types[rows[0][9] or "?"] += 1
            self._scanner.add(
                row,
                ((frame, epoch, *columns, file, offset, detail) for *columns, detail in rows),
            )
            self._note_fields(line)

    def _note_fields(self, line: bytes) -> None:
        # fields of typed frames that are passed over; the scanner may do so from now on
        for group, path, name in ignored_fields(line):
            if len(self._fields) < MAX_IGNORED_FIELDS:
                self._fields.add(f"{path}{name}")
            self._scanner.ignore(group, name)

    def _refuse(self, file: int, offset: int, verdict: Rejected) -> None:
        self._quarantined(self._scanner.count_frame(), -1, file, offset, [], verdict)

    def _quarantined(
        self, frame: int, epoch: int, file: int, offset: int, rows: list[Row], verdict: Rejected
    ) -> None:
        # in the order of QUARANTINE_SCHEMA
        sid, seq, recv_ms = rows[0][:3] if rows else (None, None, None)
        value = None if verdict.value is None else str(verdict.value)[:200]
        self._refused(
            (verdict.market, epoch if epoch >= 0 else None, sid, seq, recv_ms,
             frame, file, offset, label(verdict.reason), value)
        )  # fmt: skip
