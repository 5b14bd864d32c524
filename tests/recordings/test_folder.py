"""Recording folders are read to the last good line, however they are damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.errors import (
    CorruptRecording,
    InvalidName,
    MissingFile,
    RecordingError,
    SessionNotFound,
)
from kalshi_pipeline.recordings.folder import RawLine, RecordingFolders, open_folder, time_ms
from tests.random_sessions import Ingested, ingested

HEADER = {"session_id": 7, "title": "t", "market_tickers": ["KXA-26"]}
GOOD = [
    json.dumps({"recv_ms": n, "conn": 1, "event": {"type": "ok", "sid": 1, "seq": n}}).encode()
    for n in range(1, 200)
]
TEXT = b"".join(text + b"\n" for text in GOOD)


def folder_of(
    root: Path, messages: dict[str, bytes], *, header: Any = HEADER, markets: Any = None
) -> Path:
    folder = root / "7"
    folder.mkdir(parents=True)
    if header is not None:
        (folder / "session.json").write_text(json.dumps(header))
    if markets is not None:
        (folder / "markets.json").write_text(json.dumps(markets))
    for name, data in messages.items():
        (folder / name).write_bytes(data)
    return folder


def read(folder: Path) -> list[RawLine]:
    return list(open_folder(folder).lines())


def texts(folder: Path) -> list[bytes | None]:
    return [line.text for line in read(folder)]


def reasons(tables: Ingested) -> list[str]:
    return list(tables.rejected["reason"].to_pylist())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A fresh root folder at each call, for properties."""
    return lambda: tmp_path_factory.mktemp("folder")


COMPRESSED = {
    "messages.ndjson": bytes,
    "messages.ndjson.gz": gzip.compress,
    "messages.ndjson.zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_every_compression_gives_the_same_lines(tmp_path, name):
    folder = folder_of(tmp_path, {name: COMPRESSED[name](TEXT)})
    lines = read(folder)
    assert [line.text for line in lines] == GOOD
    for line in lines:
        assert TEXT[line.offset :].startswith(line.text or b"")


def test_streams_of_several_members_are_read_to_the_end(tmp_path):
    half = len(TEXT) // 2
    gz = gzip.compress(TEXT[:half]) + gzip.compress(TEXT[half:])
    zst = b"".join(map(zstandard.ZstdCompressor().compress, (TEXT[:half], TEXT[half:])))
    assert texts(folder_of(tmp_path / "a", {"messages.ndjson.gz": gz})) == GOOD
    assert texts(folder_of(tmp_path / "b", {"messages.ndjson.zst": zst})) == GOOD


def test_several_files_are_read_in_the_order_of_their_names(tmp_path):
    folder = folder_of(
        tmp_path,
        {
            "messages-2.ndjson": TEXT,
            "messages-1.ndjson.gz": gzip.compress(GOOD[0]),
            "messages-3.ndjson.zst": zstandard.ZstdCompressor().compress(GOOD[1] + b"\n"),
            "notes.ndjson": b"not messages",
        },
    )
    assert texts(folder) == [GOOD[0], *GOOD, GOOD[1]]
    assert [line.file for line in read(folder)] == [0, *[1] * len(GOOD), 2]


def is_good_up_to_a_cut(lines: list[RawLine]) -> bool:
    """All but the last are the first good lines, and the last says that the file breaks off."""
    *whole, last = lines
    assert [line.text for line in whole] == GOOD[: len(whole)]
    return last.truncated


@settings(max_examples=60)
@given(
    cut=st.integers(0, 10_000), name=st.sampled_from(["messages.ndjson.gz", "messages.ndjson.zst"])
)
def test_a_stream_cut_anywhere_is_noticed(place, cut, name):
    data = COMPRESSED[name](TEXT)
    folder = folder_of(place(), {name: data[: cut % len(data)]})
    assert is_good_up_to_a_cut(read(folder))
    tables = ingested(open_folder(folder))
    assert reasons(tables) == ["truncated_file"]
    assert tables.summary.frames == tables.messages.num_rows + 1


def test_a_cut_loses_no_line_that_could_be_decompressed(tmp_path):
    # one gzip member a line: everything before the cut member is whole
    members = [gzip.compress(text + b"\n") for text in GOOD]
    data = b"".join(members)[:-3]
    lines = read(folder_of(tmp_path, {"messages.ndjson.gz": data}))
    assert len(lines) >= len(GOOD)
    assert is_good_up_to_a_cut(lines)


@settings(max_examples=60)
@given(
    place_of=st.integers(0, 10_000),
    bit=st.integers(0, 7),
    name=st.sampled_from(sorted(COMPRESSED)[1:]),
)
def test_a_flipped_bit_never_raises(place, place_of, bit, name):
    data = bytearray(COMPRESSED[name](TEXT))
    data[place_of % len(data)] ^= 1 << bit
    tables = ingested(open_folder(folder_of(place(), {name: bytes(data)})))
    seen = {*tables.messages["frame"].to_pylist(), *tables.rejected["frame"].to_pylist()}
    assert seen == {*range(tables.summary.frames)}
    whole = tables.messages.num_rows == len(GOOD) and not tables.rejected.num_rows
    assert whole or tables.rejected.num_rows > 0 or name.endswith("zst")  # zstd: no checksum here


def test_a_zero_byte_stream_is_cut_and_a_zero_byte_file_is_empty(tmp_path):
    for number, name in enumerate(COMPRESSED):
        tables = ingested(open_folder(folder_of(tmp_path / str(number), {name: b""})))
        assert reasons(tables) == ([] if name == "messages.ndjson" else ["truncated_file"])


def test_a_file_may_end_without_a_newline(tmp_path):
    assert texts(folder_of(tmp_path, {"messages.ndjson": TEXT[:-1]})) == GOOD


def test_half_a_character_and_half_an_object_end_in_quarantine(tmp_path):
    half = '{"recv_ms":1,"conn":1,"event":{"type":"é'.encode()[:-1]
    tables = ingested(open_folder(folder_of(tmp_path, {"messages.ndjson": TEXT + half})))
    assert tables.messages.num_rows == len(GOOD)
    assert reasons(tables) == ["corrupt_line"]
    assert tables.rejected["offset"].to_pylist() == [len(TEXT)]


def test_nul_bytes_blank_lines_and_foreign_line_ends(tmp_path):
    text = b"\xef\xbb\xbf" + GOOD[0] + b"\r\n\r\n \t\n" + b"\0" * 50 + b"\n" + GOOD[1] + b"\r"
    tables = ingested(open_folder(folder_of(tmp_path, {"messages.ndjson": text})))
    assert tables.messages["recv_ms"].to_pylist() == [1, 2]
    assert reasons(tables) == ["corrupt_line"]


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path):
    mark = b"\xef\xbb\xbf"
    assert texts(folder_of(tmp_path / "a", {"messages.ndjson": mark + GOOD[0]})) == [GOOD[0]]
    assert texts(folder_of(tmp_path / "b", {"messages.ndjson": mark + TEXT})) == GOOD
    assert texts(folder_of(tmp_path / "c", {"messages.ndjson": mark})) == []
    later = GOOD[0] + b"\n" + mark + GOOD[1]
    assert texts(folder_of(tmp_path / "d", {"messages.ndjson": later})) == [GOOD[0], mark + GOOD[1]]


@pytest.mark.parametrize("length", [MAX_LINE_BYTES + 1, 2 * MAX_LINE_BYTES, 5 * MAX_LINE_BYTES + 3])
def test_an_endless_line_is_reported_once_and_skipped(tmp_path, length):
    text = GOOD[0] + b"\n" + b"x" * length + b"\n" + GOOD[1] + b"\n"
    lines = read(folder_of(tmp_path, {"messages.ndjson": text}))
    assert [line.text for line in lines] == [GOOD[0], None, GOOD[1]]
    assert lines[1].offset == len(GOOD[0]) + 1
    assert lines[2].offset == len(GOOD[0]) + length + 2
    tables = ingested(open_folder(tmp_path / "7"))
    assert reasons(tables) == ["line_too_long"]


def test_an_endless_last_line_is_reported_once(tmp_path):
    text = GOOD[0] + b"\n" + b"x" * (3 * MAX_LINE_BYTES)
    assert texts(folder_of(tmp_path, {"messages.ndjson": text})) == [GOOD[0], None]


def test_the_longest_line_is_still_a_line(tmp_path):
    longest = GOOD[0] + b" " * (MAX_LINE_BYTES - len(GOOD[0]))
    text = longest + b"\n" + GOOD[1] + b"\n"
    assert texts(folder_of(tmp_path, {"messages.ndjson": text})) == [GOOD[0], GOOD[1]]


# what a folder must have


def test_a_folder_needs_its_header_and_messages(tmp_path):
    with pytest.raises(MissingFile) as missing:
        open_folder(folder_of(tmp_path / "a", {"messages.ndjson": TEXT}, header=None))
    assert missing.value.session == 7
    assert "session.json" in str(missing.value)
    folder = folder_of(tmp_path / "b", {})
    (folder / "messages.ndjson").mkdir()
    with pytest.raises(MissingFile) as missing:
        open_folder(folder)
    assert missing.value.session == 7
    assert "messages*.ndjson" in str(missing.value)


@pytest.mark.parametrize(
    "header",
    [
        [], "text", None, 5,
        {"session_id": 8}, {"session_id": "../7"},
        {"sequence": "sometimes"}, {"sequence": ["complete"]},
        {"started_at": "yesterday"}, {"started_at": "2026-01-01T00:00:00"},
        {"ended_at": 17}, {"ended_at": ["2026-01-01T00:00:00Z"]},
        {"use_yes_price": "false"}, {"use_yes_price": None}, {"generated": 1},
        {"market_tickers": "KXA-26"}, {"market_tickers": None}, {"market_tickers": 5},
        {"market_tickers": ["../../up"]}, {"market_tickers": [["KXA-26"]]},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, header):
    folder = folder_of(tmp_path, {"messages.ndjson": TEXT}, header={} if header is None else header)
    if header is None:
        (folder / "session.json").write_text("null")
    with pytest.raises(CorruptRecording) as corrupt:
        open_folder(folder)
    assert corrupt.value.session == 7


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"{} {}"])
@pytest.mark.parametrize("name", ["session.json", "markets.json"])
def test_a_file_that_is_no_json_is_refused(tmp_path, name, text):
    folder = folder_of(tmp_path, {"messages.ndjson": TEXT}, markets=[])
    (folder / name).write_bytes(text)
    with pytest.raises(CorruptRecording) as corrupt:
        open_folder(folder)
    assert corrupt.value.session == 7
    assert name in str(corrupt.value)


def test_markets_may_be_absent_but_not_something_else(tmp_path):
    assert open_folder(folder_of(tmp_path / "a", {"messages.ndjson": TEXT})).markets == ()
    for number, wrong in enumerate(({}, "x", 5, [5], [[]], None)):
        folder = folder_of(tmp_path / str(number), {"messages.ndjson": TEXT}, markets=[])
        (folder / "markets.json").write_text(json.dumps(wrong))
        with pytest.raises(CorruptRecording) as corrupt:
            open_folder(folder)
        assert corrupt.value.session == 7


def test_a_header_says_little_by_default(tmp_path):
    info = open_folder(folder_of(tmp_path, {"messages.ndjson": TEXT}, header={})).info
    assert (info.session, info.sequence, info.use_yes_price, info.generated) == (
        7, "complete", False, False,
    )  # fmt: skip
    assert (info.tickers, info.started_ms, info.ended_ms) == ((), None, None)


def test_times_carry_their_zone():
    assert time_ms("1970-01-01T00:00:01.5Z") == 1_500
    assert time_ms("1970-01-01T01:00:00+01:00") == 0
    assert time_ms("2025-12-12T10:11:12.345678Z") == 1_765_534_272_346
    assert time_ms(None) is None
    assert time_ms("") is None


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"))
def test_a_time_is_a_number_or_a_value_error(text):
    try:
        moment = time_ms(text)
    except ValueError:
        return
    assert moment is None or isinstance(moment, int)


# finding sessions


def test_sessions_are_folders_named_by_a_number_with_a_header(tmp_path):
    folder_of(tmp_path / "one", {"messages.ndjson": TEXT})
    for name in ("12", "007", "x", "-1", "0", "１"):
        (tmp_path / "one" / name).mkdir()
    (tmp_path / "one" / "99").write_text("a file")
    folders = RecordingFolders([tmp_path / "absent", tmp_path / "one"])
    assert folders.sessions() == [7]
    assert folders.open(7).info.session == 7


def test_the_first_root_that_has_a_session_wins(tmp_path):
    folder_of(tmp_path / "one", {"messages.ndjson": TEXT}, header=HEADER | {"title": "first"})
    folder_of(tmp_path / "two", {"messages.ndjson": TEXT}, header=HEADER | {"title": "second"})
    assert RecordingFolders([tmp_path / "one", tmp_path / "two"]).open(7).info.title == "first"


def test_an_unknown_session_is_told_what_there_is(tmp_path):
    folder_of(tmp_path / "one", {"messages.ndjson": TEXT})
    with pytest.raises(SessionNotFound) as unknown:
        RecordingFolders([tmp_path / "one"]).open(8)
    assert unknown.value.session == 8
    assert "sessions there: 7" in str(unknown.value)
    assert str(tmp_path / "one") in str(unknown.value)
    with pytest.raises(SessionNotFound, match="sessions there: none"):
        RecordingFolders([]).open(8)


@pytest.mark.parametrize("name", ["../7", "7/..", "", "0", "-7", "7\n", "１", "1" * 10, "7.0"])
def test_a_session_id_is_never_a_path(tmp_path, name):
    folder_of(tmp_path, {"messages.ndjson": TEXT})
    with pytest.raises(InvalidName):
        RecordingFolders([tmp_path]).open(name)


def test_a_file_that_vanishes_is_named(tmp_path):
    recording = open_folder(folder_of(tmp_path, {"messages.ndjson": TEXT}))
    (tmp_path / "7" / "messages.ndjson").unlink()
    with pytest.raises(RecordingError, match=r"messages\.ndjson") as corrupt:
        list(recording.lines())
    assert corrupt.value.session == 7


def test_the_fingerprint_sees_every_byte_and_nothing_else(tmp_path):
    folder = folder_of(tmp_path, {"messages.ndjson": TEXT}, markets=[])
    before = open_folder(folder).fingerprint()
    (folder / "notes.txt").write_text("a note")
    assert open_folder(folder).fingerprint() == before
    for name in ("messages.ndjson", "markets.json"):
        with (folder / name).open("ab") as file:
            file.write(b"\n")
        after = open_folder(folder).fingerprint()
        assert after != before
        before = after
