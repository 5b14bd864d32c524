"""Every line of a recording ends in the message table, in quarantine, or in both."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.recordings import ingest as module
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA, ingest
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, ingested, wire_line

MARKET = "KXA-26"
SNAPSHOT = Frame("snapshot", 1_000, 1, 7, 1, MARKET, levels=((0, 4_000, 5), (1, 5_000, 6)))
DELTA = Frame("delta", 1_001, 1, 7, 2, MARKET, 1, 5_000, -6, exchange_ms=990)
TRADE = Frame("trade", 1_002, 1, 8, None, MARKET, 0, 5_000, 6, exchange_ms=991)
REFUSED = Frame("delta", 1_003, 1, 7, 3, MARKET, 0, 0, 1)


def test_the_tables_have_the_declared_schemas_whatever_came():
    for lines in ([], [wire_line(SNAPSHOT)], [b"{"], [wire_line(f) for f in (SNAPSHOT, REFUSED)]):
        tables = ingested(Lines(lines, {}))
        assert tables.messages.schema.equals(MESSAGE_SCHEMA)
        assert tables.rejected.schema.equals(QUARANTINE_SCHEMA)


def test_rows_carry_every_column():
    lines = [wire_line(frame) for frame in (SNAPSHOT, DELTA, TRADE)]
    rows = ingested(Lines(lines, {})).messages.to_pylist()
    common = {"epoch": 1, "sid": 7, "file": 0, "detail": None, "market": MARKET}
    head = common | {"frame": 0, "seq": 1, "recv_ms": 1_000, "exchange_ms": None, "offset": 0}
    level = head | {"kind": MessageKind.LEVEL}
    assert rows == [
        head | {"kind": MessageKind.SNAPSHOT, "side": None, "price_bp": None, "size_centi": None},
        level | {"side": 0, "price_bp": 4_000, "size_centi": 5},
        level | {"side": 1, "price_bp": 5_000, "size_centi": 6},
        common | {"frame": 1, "seq": 2, "recv_ms": 1_001, "exchange_ms": 990,
                  "offset": len(lines[0]) + 1,
                  "kind": MessageKind.DELTA, "side": 1, "price_bp": 5_000, "size_centi": -6},
        common | {"frame": 2, "sid": 8, "seq": None, "recv_ms": 1_002, "exchange_ms": 991,
                  "offset": len(lines[0]) + len(lines[1]) + 2, "kind": MessageKind.TRADE,
                  "side": 0, "price_bp": 5_000, "size_centi": 6},
    ]  # fmt: skip


def test_quarantine_says_where_and_why():
    class Damaged(Lines):
        def blocks(self):
            yield 0, wire_line(REFUSED)
            yield 0, b""
            yield 2, b"\n\r\n" + b"\xff\n"
            yield 2, b""
            yield 3, b" " * 50 + b"\n" + b"x" * (MAX_LINE_BYTES + 1)
            yield 3, b"x\n"
            yield 3, b""
            yield 4, wire_line(DELTA) + b"\n" + b' {"recv'
            yield 4, None

    tables = ingested(Damaged([], {}))
    rows = tables.rejected.to_pylist()
    assert rows[0] == {
        "market": MARKET, "epoch": 1, "sid": 7, "seq": 3, "recv_ms": 1_003, "frame": 0, "file": 0,
        "offset": 0, "reason": "price_out_of_range", "value": "0.0000",
    }  # fmt: skip
    places = [(row["file"], row["offset"], row["reason"]) for row in rows[1:]]
    assert places == [
        (2, 3, "corrupt_line"),
        (3, 51, "line_too_long"),
        (4, len(wire_line(DELTA)) + 1, "truncated_file"),
    ]
    assert all(
        row["epoch"] is row["sid"] is row["seq"] is row["recv_ms"] is None for row in rows[1:]
    )
    assert rows[3]["value"] == "6 bytes left over"
    # the refused frame's number was seen, the others' were not
    assert tables.messages["kind"].to_pylist() == [MessageKind.REJECTED, MessageKind.DELTA]
    assert tables.messages["frame"].to_pylist() == [0, 3]


def test_a_quarantined_value_is_cut_short():
    frame = wire_line(DELTA).replace(b'"-0.06"', b'"' + b"9" * 5_000 + b'"')
    (row,) = ingested(Lines([frame], {})).rejected.to_pylist()
    assert row["reason"] == "size_invalid"
    assert row["value"] == "9" * 200


def test_the_summary_counts_frames_by_what_they_are():
    lines = [wire_line(f) for f in (SNAPSHOT, DELTA, TRADE, REFUSED, Frame("other", 1, 1, 7, 4))]
    summary = ingested(Lines([*lines, b"{", b"{"], {})).summary
    assert (summary.frames, summary.rows) == (7, 7)
    assert (summary.snapshots, summary.deltas, summary.trades, summary.tickers) == (1, 1, 1, 0)
    assert summary.rejected == 3
    assert summary.other_types == {"ok": 1}


@pytest.mark.parametrize("batch", [1, 2, 3, 1 << 16])
def test_batches_do_not_show(tmp_path, monkeypatch, batch):
    lines = [wire_line(frame) for frame in (SNAPSHOT, DELTA, REFUSED, TRADE, DELTA)] * 5 + [
        b"{"
    ] * 4
    expected = ingested(Lines(lines, {}))
    monkeypatch.setattr(module, "BATCH_ROWS", batch)
    summary = ingest(Lines(lines, {}), tmp_path)
    assert summary == expected.summary
    messages = pq.read_table(tmp_path / "messages.parquet", read_dictionary=["market"])
    assert messages.to_pylist() == expected.messages.to_pylist()
    assert pq.read_table(tmp_path / "quarantine.parquet").equals(expected.rejected)


def test_equal_recordings_give_equal_bytes(tmp_path):
    lines = [wire_line(frame) for frame in (SNAPSHOT, DELTA, TRADE)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ingest(Lines(lines, {}), tmp_path / name)
    for name in ("messages.parquet", "quarantine.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
