"""The message table of a recording, line by line: what the compiled scanner must give exactly."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.folder import RawLine, Recording
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, FrameDecoder, Rejected, Row


def tables(recording: Recording) -> tuple[pa.Table, pa.Table]:
    """Messages and quarantine of a recording; every line goes through FrameDecoder."""
    info = recording.info
    decoder = FrameDecoder(frozenset(info.tickers), use_yes_price=info.use_yes_price)
    messages: list[tuple[Any, ...]] = []
    quarantine: list[tuple[Any, ...]] = []
    for frame, line in enumerate(recording.lines()):
        epoch, rows, verdict = _decoded(decoder, line)
        for *columns, detail in rows:
            messages.append((frame, epoch, *columns, line.file, line.offset, detail))
        if verdict is not None:
            sid, seq, recv_ms = rows[0][:3] if rows else (None, None, None)
            value = None if verdict.value is None else str(verdict.value)[:200]
            quarantine.append(
                (verdict.market, epoch if epoch >= 0 else None, sid, seq, recv_ms, frame,
                 line.file, line.offset, label(verdict.reason), value)
            )  # fmt: skip
    plain = pa.schema([(f.name, _plain(f.type)) for f in MESSAGE_SCHEMA])
    return _table(messages, plain), _table(quarantine, QUARANTINE_SCHEMA)


def _decoded(decoder: FrameDecoder, line: RawLine) -> tuple[int, list[Row], Rejected | None]:
    if line.truncated:
        return -1, [], Rejected(Reason.TRUNCATED_FILE, f"{len(line.text or b'')} bytes left over")
    if line.text is None:
        return -1, [], Rejected(Reason.LINE_TOO_LONG, None)
    return decoder.decode(line.text)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def assert_same_tables(recording: Recording, messages: pa.Table, quarantine: pa.Table) -> None:
    """Both tables of the recording, value for value and null for null."""
    expected_messages, expected_quarantine = tables(recording)
    market = messages.schema.get_field_index("market")
    plain = messages.set_column(market, "market", messages["market"].cast(pa.string()))
    for name in expected_messages.schema.names:
        assert plain[name].equals(expected_messages[name]), name
    assert quarantine.equals(expected_quarantine)
