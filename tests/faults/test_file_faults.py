"""Reliability D19-D25: sessions too large, files cut, changed or made to burst, missing ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.config import MAX_LINE_BYTES, MAX_SESSION_MARKETS
from kalshi_pipeline.errors import CorruptFile, NotPublished, SessionNotFound, SessionTooLarge
from kalshi_pipeline.expectations import raw_messages
from kalshi_pipeline.expectations.validated import validated
from kalshi_pipeline.recordings import ingest as ingesting
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.tables import read_row_groups, read_table
from tests.faults.feeds import A, assert_conserved, delta, recorded, refused, snapshot
from tests.random_sessions import books_of, wire_line

# D19


def test_d19_a_session_of_too_many_rows_is_refused_with_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(ingesting, "MAX_SESSION_ROWS", 50)
    feed = [snapshot(1), *(delta(seq, 1) for seq in range(2, 100))]
    with pytest.raises(SessionTooLarge, match="102 rows or more, 50 are the limit") as refusal:
        stages.ingest_session(Warehouse(tmp_path), recorded(*feed))
    assert (refusal.value.session, refusal.value.rule) == (1, "max_session_rows")
    with pytest.raises(NotPublished):
        Warehouse(tmp_path).current(stages.RAW, "1")


def test_d19_a_session_of_too_many_markets_is_refused_before_a_line_is_read(tmp_path):
    tickers = [f"KXA-{number}" for number in range(MAX_SESSION_MARKETS + 1)]
    recording = recorded(b"{", market_tickers=tickers)
    with pytest.raises(SessionTooLarge, match="20,001 markets or more, 20,000 are the limit"):
        stages.ingest_session(Warehouse(tmp_path), recording)


# D20 (changed bytes by the thousand: tests/recordings/test_messages.py)


def folder_of(root: Path, text: bytes, name: str = "messages.ndjson") -> Path:
    folder = root / "7"
    folder.mkdir()
    header = {"session_id": 7, "sequence": "shared", "market_tickers": [A]}
    (folder / "session.json").write_text(json.dumps(header))
    (folder / name).write_bytes(text)
    return folder


GOOD = [wire_line(snapshot(1)), wire_line(delta(2, 100)), wire_line(delta(3, 100))]


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        (b"\n".join(GOOD), {}),  # no newline at the end
        (b"\r\n".join(GOOD) + b"\r\n", {}),
        (b"\xef\xbb\xbf" + b"\n".join(GOOD), {}),
        (b"\n".join([*GOOD, GOOD[2][:40]]), {3: "corrupt_line"}),
        (b"\n".join([GOOD[0], b"\0" * 9, *GOOD[1:]]), {1: "corrupt_line", 2: "after_gap"}),
        (b"\n".join([*GOOD[:2], '{"é'.encode()[:-1], GOOD[2]]), {2: "corrupt_line"}),
        (b"\n".join([*GOOD, b"x" * (MAX_LINE_BYTES + 1)]), {3: "line_too_long"}),
    ],
)
def test_d20_good_lines_are_kept_and_bad_ones_put_aside_where_they_lie(tmp_path, text, bad):
    books = books_of(open_folder(folder_of(tmp_path, text)))
    assert_conserved(books)
    found = {k: v for k, v in refused(books).items() if v != "after_gap"}
    assert found == {k: v for k, v in bad.items() if v != "after_gap"}
    for row in books.quarantine.to_pylist():
        assert text[row["offset"] :].startswith(text.split(b"\n")[row["frame"]].strip(b"\r")[:9])


def test_d20_a_compressed_file_that_breaks_off_keeps_what_it_held(tmp_path):
    lines = [wire_line(snapshot(1)), *(wire_line(delta(seq, seq)) for seq in range(2, 3_000))]
    whole = gzip.compress(b"\n".join(lines))
    books = books_of(
        open_folder(folder_of(tmp_path, whole[: len(whole) // 2], "messages.ndjson.gz"))
    )
    assert_conserved(books)
    assert 500 < books.quality["applied"] < 2_999
    assert list(refused(books).values()) == ["truncated_file"]


# D21 (by the thousand: test_parquet_faults.py)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A session of three rows, published."""
    found = Warehouse(tmp_path / "warehouse")
    stages.ingest_session(found, recorded(*GOOD))
    stages.build_session_books(found, 1)
    return found


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b"KXA", b"KXZ")),
    "emptied": lambda path: path.write_bytes(b""),
    "another file": lambda path: path.write_bytes(
        (path.parent / "quarantine.parquet").read_bytes()
    ),
    "gone": lambda path: path.unlink(),
    "of another schema": lambda path: pq.write_table(pa.table({"market": [1]}), path),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_d21_a_damaged_file_is_named_and_nothing_is_read_of_it(warehouse, name):
    raw = warehouse.current(stages.RAW, "1")
    path = raw.folder / "messages.parquet"
    DAMAGE[name](path)
    with pytest.raises(CorruptFile) as corrupt:
        raw.path("messages.parquet")
    assert corrupt.value.value == str(path)
    # the reader itself does not take it for a message table either
    if name != "changed":
        with pytest.raises(CorruptFile) as corrupt:
            read_table(path, MESSAGE_SCHEMA)
        assert corrupt.value.value == str(path)


# D22


def test_d22_a_few_bytes_that_become_many_are_refused_before_they_do(tmp_path):
    path, zeros = tmp_path / "zeros.parquet", 3 * 10**7
    schema = pa.schema([("seq", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        block = pa.record_batch([np.zeros(10**7, np.int64)], schema=schema)
        for _ in range(zeros // 10**7):
            writer.write_batch(block, row_group_size=10**7)
    footer = pq.read_metadata(path)
    declared = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    assert path.stat().st_size < 10**6
    assert declared < 10**6  # which is not to be trusted
    before = pa.total_allocated_bytes()
    with pytest.raises(CorruptFile, match="240,000,000 bytes decoded") as refusal:
        read_table(path, schema, limit_bytes=128 << 20)
    assert refusal.value.rule == "size"
    with pytest.raises(CorruptFile, match="80,000,000 bytes decoded"):
        next(read_row_groups(path, schema, limit_bytes=64 << 20))
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_d22_long_strings_repeated_are_not_written_out(tmp_path):
    schema = pa.schema([("reason", pa.string())])
    once = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pa.array(["x" * 10**6]))
    path = tmp_path / "strings.parquet"
    pq.write_table(pa.table({"reason": once}), path, compression="zstd")
    assert path.stat().st_size < 1_000
    pool = pa.default_memory_pool()
    highest = max(pool.max_memory(), pool.bytes_allocated() + (64 << 20))
    with pytest.raises(CorruptFile, match="20,000,000,000 bytes") as refusal:
        read_table(path, schema)
    assert refusal.value.rule == "size"
    assert pool.max_memory() <= highest


# D23


def test_d23_bytes_that_are_not_the_published_ones_fail_the_check_and_build_nothing(warehouse):
    books = warehouse.current(stages.BOOKS, "1")
    path = books.folder / "books.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (outcome,) = validated(warehouse, stages.BOOKS, 1).outcomes
    assert outcome.blocks
    assert str(path) in outcome.observed
    with pytest.raises(CorruptFile, match="not the bytes its manifest declares"):
        stages.build_session_tensors(warehouse, 1)
    with pytest.raises(NotPublished):
        warehouse.current(stages.TENSORS, "1")


# D24


def test_d24_a_session_nobody_has_is_named_and_the_others_go_on(tmp_path):
    folder_of(tmp_path, b"\n".join(GOOD))
    sources = SessionSources([tmp_path], tmp_path / "generated")
    with pytest.raises(SessionNotFound) as absent:
        sources.open(999_999)
    assert absent.value.session == 999_999
    assert "recorded or generated so far: 7" in str(absent.value)
    assert sources.open(7).info.session == 7


# D25


@pytest.mark.parametrize(
    ("declared", "untrue"),
    [
        ({"messages": 3, "deltas": 2, "snapshots": 1}, []),
        ({"messages": 99, "deltas": 96, "snapshots": 1}, ["deltas", "messages"]),
        ({"deltas": None, "surprise": 5}, []),
        (None, []),
    ],
)
def test_d25_declared_counters_stand_beside_the_measured_ones(tmp_path, declared, untrue):
    warehouse = Warehouse(tmp_path)
    raw = stages.ingest_session(warehouse, recorded(*GOOD, declared_counters=declared))
    assert (raw.summary["deltas"], raw.summary["snapshots"]) == (2, 1)  # these are the ones used
    _, counters = raw_messages.profile(raw)
    rows = zip(
        *(counters.columns[name] for name in ("counter", "declared", "measured")), strict=True
    )
    assert [name for name, said, there in rows if said != there] == untrue
    (expectation,) = counters.expectations
    assert expectation.warns
