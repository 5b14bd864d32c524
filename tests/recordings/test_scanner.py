"""Scanned or decoded one by one: the tables are the same, and ordinary frames are scanned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.recordings import frame_reader
from kalshi_pipeline.recordings import ingest as module
from kalshi_pipeline.recordings.folder import Recording, open_folder
from kalshi_pipeline.recordings.generator import PROFILES, QUICK_PROFILES, write_session
from kalshi_pipeline.recordings.messages import FrameDecoder, MessageKind
from kalshi_pipeline.recordings.scanner import frames as frames_module
from kalshi_pipeline.recordings.scanner.names import NameTable
from kalshi_pipeline.recordings.streams import BLOCK_BYTES
from tests.conftest import ROOT
from tests.oracle.ingest import assert_same_tables
from tests.random_sessions import Ingested, Lines, ingested, random_session
from tests.recordings.spoilt import Files, in_blocks

MARKET, OTHER = "KXABC-26DEC31-T5", "KXABC-26DEC31-T6"
RECORDINGS = (101, 102, 103, 104, 105, 111, 112, 113, 121, 131, 141)


def checked(recording: Recording) -> Ingested:
    """Both tables, after comparison with the reference."""
    tables = ingested(recording)
    assert_same_tables(recording, tables.messages, tables.rejected)
    return tables


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that ingest gives to FrameDecoder."""
    lines: list[bytes] = []

    class Watched(FrameDecoder):
        def decode(self, text: bytes) -> Any:
            lines.append(text)
            return super().decode(text)

    monkeypatch.setattr(frame_reader, "FrameDecoder", Watched)
    return lines


# the same tables


class Beginning(Recording):
    """The first block of a recording."""

    def blocks(self):
        yield from islice(super().blocks(), 1)
        yield 0, b""


@pytest.mark.parametrize("session", [101, 111, 121, 131, 141])
def test_real_recordings_are_scanned_to_the_tables_of_the_reference(recordings, session):
    whole = open_folder(recordings / str(session))
    checked(Beginning(whole.folder, whole.info, whole.markets, whole.files))


@pytest.mark.slow
@pytest.mark.parametrize("session", RECORDINGS)
def test_whole_recordings_are_scanned_to_the_tables_of_the_reference(recordings, session):
    checked(open_folder(recordings / str(session)))


def test_generated_sessions_are_scanned_to_the_tables_of_the_reference(generated):
    for folder in sorted(generated.iterdir()):
        checked(open_folder(folder))


@settings(max_examples=40)
@given(
    operations=st.lists(st.integers(0, 2**32 - 1), max_size=60),
    seed=st.integers(0, 2**32 - 1),
    listed=st.booleans(),
)
def test_random_sessions_are_scanned_to_the_tables_of_the_reference(operations, seed, listed):
    session = random_session(operations, "complete", seed)
    if not listed:
        session.header["market_tickers"] = []
    checked(session.recording)


NUMBERS = st.one_of(
    st.integers(-5, 10_005).map(lambda bp: f"{bp / 10_000:.4f}"),
    st.decimals(-1, 200, places=2).map(str),
    st.integers(-3, 200),
    st.sampled_from([
        "", "0.5", ".5", "5.", "-0.00", "-0", "+1.00", "007.00", "0.42000", "0.420001", "1e2",
        "1_0", "9" * 13, "9" * 14,
        "1000000000.00", "1000000000.01", "-1000000000.00", "-21474836.48",
        "0.42" + "0" * 16, "0.42" + "0" * 17, "NaN", 10**12, 10**18, -(10**30), 0.5, None, True,
    ]),
)  # fmt: skip
WHOLE = st.integers(0, 10) | st.sampled_from(
    [-1, 2**31 - 1, 2**31, 2**62 - 1, 2**62, 10**18 - 1, 10**18, 253_402_300_799_999,
     253_402_300_800_000, 1.0, "1", None, True]
)  # fmt: skip
SIDES = st.sampled_from(["yes", "no", "yes", "no", "YES", "", None, 0, "yes "])
LEVELS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4) | st.sampled_from([None, [], {}, [[]]])
MESSAGES = {
    "market_ticker": st.sampled_from([MARKET, MARKET, MARKET, OTHER, "", "../up", "Ж", None, 5]),
    "ts_ms": WHOLE, "is_block_trade": st.sampled_from([False, False, True, None, 0]),
    "side": SIDES, "taker_outcome_side": SIDES, "taker_side": SIDES,
    "price_dollars": NUMBERS, "price": NUMBERS, "delta_fp": NUMBERS, "delta": NUMBERS,
    "yes_price_dollars": NUMBERS, "yes_price": NUMBERS, "count_fp": NUMBERS, "count": NUMBERS,
    "volume_fp": NUMBERS, "yes_dollars_fp": LEVELS, "no_dollars_fp": LEVELS,
    "yes_dollars": LEVELS, "no_dollars": LEVELS, "yes": LEVELS, "no": LEVELS,
    "ts": st.text(max_size=5) | WHOLE,
    "note": st.sampled_from(["a\\b", 'q"q', 0.5, {}, [1], False]),
    "recv_ms": WHOLE, "sid": WHOLE,
}  # fmt: skip
TYPICAL = {
    "orderbook_delta": ("market_ticker", "side", "price_dollars", "delta_fp", "ts_ms", "ts"),
    "orderbook_snapshot": ("market_ticker", "yes_dollars_fp", "no_dollars_fp", "yes", "no_dollars"),
    "trade": ("market_ticker", "yes_price_dollars", "count_fp", "taker_side", "taker_outcome_side"),
    "ticker": ("market_ticker", "price_dollars", "volume_fp", "ts_ms", "note"),
}


def shuffled(draw: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in draw(st.permutations(list(fields)))}


@st.composite
def wild_lines(draw: Any) -> bytes:
    """A frame with any fields in any order, some of them with values that cannot be meant."""
    kind = draw(st.sampled_from(list(TYPICAL)))
    names = draw(st.sets(st.sampled_from(TYPICAL[kind]))) | draw(
        st.sets(st.sampled_from(list(MESSAGES)), max_size=2)
    )
    good = draw(st.booleans())
    names |= set(TYPICAL[kind][:4]) if good else set()
    message = {name: draw(MESSAGES[name]) for name in sorted(names)}
    event = {"type": kind, "sid": 3, "seq": 7, "msg": shuffled(draw, message)}
    frame = {"recv_ms": 1_771_234_567_999, "conn": 2, "event": event}
    if not good:
        event |= draw(st.dictionaries(st.sampled_from(["sid", "seq", "id", "type"]), WHOLE))
        frame |= draw(st.dictionaries(st.sampled_from(["recv_ms", "conn", "x"]), WHOLE, max_size=1))
        del event[draw(st.sampled_from(sorted(event)))]
    frame["event"] = shuffled(draw, event)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,  ", "\t: ")]))
    text = json.dumps(shuffled(draw, frame), separators=separators).encode()
    return (
        draw(st.sampled_from([b"", b"", b" \t", b"\x0b"]))
        + text
        + draw(st.sampled_from([b"", b"", b"\r", b" \x0c", b"x", b"}", b",", b"\0"]))
    )


@settings(max_examples=150)
@given(
    lines=st.lists(wild_lines(), min_size=1, max_size=12),
    listed=st.booleans(),
    use_yes_price=st.booleans(),
)
def test_wild_frames_are_scanned_to_the_tables_of_the_reference(lines, listed, use_yes_price):
    header = {"use_yes_price": use_yes_price, "market_tickers": [MARKET] if listed else []}
    checked(Lines(lines, header))


DELTA = (
    b'{"recv_ms":1785901540731,"conn":1,"event":{"type":"orderbook_delta","sid":1,"seq":2146643,'
    b'"msg":{"market_ticker":"KXABC-26DEC31-T5","market_id":"4f5c","price_dollars":"0.3200",'
    b'"delta_fp":"-46.02","side":"no","ts":"2026-08-05T03:45:40.722003Z","ts_ms":1785901540722}}}'
)
PIECES = st.sampled_from([
    DELTA, DELTA, DELTA, DELTA + b"\r", b"", b"\r", b" \t", b"{", DELTA[:-1],
    b"\xef\xbb\xbf" + DELTA, b"\0", b" " + DELTA, DELTA.replace(b'"no"', b'"maybe"'), b"x" * 500,
])  # fmt: skip


@settings(max_examples=60)
@given(
    files=st.lists(st.lists(PIECES, max_size=12), min_size=1, max_size=3),
    ended=st.booleans(),
    cut=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_blocks_do_not_show(files, ended, cut, seed):
    random = Random(seed)
    texts = [b"\n".join(pieces) + b"\n" * ended for pieces in files]
    checked(Files([in_blocks(text, random) for text in texts], {}, cut=cut))


@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1])
@pytest.mark.parametrize("filler", [b" ", b"x"])
def test_the_limit_of_a_line_is_that_of_the_reference(length, filler):
    long = DELTA + filler * (length - len(DELTA))
    text = b"\n".join([long, filler * length, DELTA, long, DELTA])
    for size in (MAX_LINE_BYTES // 2, 3 * MAX_LINE_BYTES + 7):
        for end in (b"", b"\n"):
            whole = text + end
            blocks = [whole[at : at + size] for at in range(0, len(whole), size)]
            checked(Files([blocks], {}))


def test_an_endless_line_takes_no_more_room_than_a_long_one(monkeypatch):
    windows = []

    class Watched(frame_reader.TextWindow):
        def __init__(self):
            super().__init__()
            windows.append(self)

    monkeypatch.setattr(frame_reader, "TextWindow", Watched)
    blocks = [DELTA + b"\n", *[b"x" * BLOCK_BYTES] * 50, b"\n" + DELTA, b"\n"]
    tables = ingested(Files([blocks], {}))
    assert tables.messages["frame"].to_pylist() == [0, 2]
    assert tables.rejected["reason"].to_pylist() == ["line_too_long"]
    assert [len(window.text) for window in windows] == [BLOCK_BYTES + MAX_LINE_BYTES + 2]


def spoilt_files(seed: int, count: int, *, patience_s: float, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.recordings.spoilt", str(seed), str(count)],
        cwd=ROOT, capture_output=True, text=True, timeout=patience_s, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    return run.stdout + run.stderr


def test_five_hundred_spoilt_files_give_the_tables_of_the_reference():
    assert spoilt_files(20_261_122, 500, patience_s=300) == "every table is that of the reference\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_spoilt_files_give_the_tables_of_the_reference(seed):
    found = spoilt_files(seed, 1_000, patience_s=600)
    assert found == "every table is that of the reference\n"


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_spoilt_files_never_lead_outside_an_array(switch, tmp_path):
    settings = {switch: "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    found = spoilt_files(7, 200, patience_s=600, **settings)
    assert found == "every table is that of the reference\n"


# ordinary frames are scanned


def frames_in(lines: list[bytes]) -> list[bytes]:
    """Those of the lines that are snapshots, deltas, trades or tickers."""
    types = [f'"type":"{kind}"'.encode() for kind in TYPICAL]
    return [line for line in lines if any(kind in line for kind in types)]


@pytest.mark.parametrize("session", [101, 111, 121, 131, 141])
def test_frames_of_a_recording_are_scanned(recordings, decoded, session):
    whole = open_folder(recordings / str(session))
    ingested(Beginning(whole.folder, whole.info, whole.markets, whole.files))
    assert len(frames_in(decoded)) <= 4  # those that show a field for the first time


@pytest.mark.parametrize("profile", [PROFILES[14], QUICK_PROFILES[902]], ids=["legacy", "current"])
def test_frames_of_a_generated_session_are_scanned(tmp_path, decoded, profile):
    checked(open_folder(write_session(profile, tmp_path)))
    assert 1 <= len(frames_in(decoded)) <= 4


def test_markets_that_no_list_names_are_scanned_from_their_second_frame_on(decoded):
    lines = [DELTA, DELTA.replace(b"T5", b"T6"), DELTA, DELTA.replace(b"T5", b"T6")]
    tables = checked(Lines(lines, {}))
    assert tables.messages["market"].to_pylist() == [MARKET, OTHER, MARKET, OTHER]
    assert decoded == lines[:2]


def test_prices_of_the_no_side_in_the_yes_scale_are_scanned(decoded):
    tables = checked(Lines([DELTA] * 5, {"use_yes_price": True, "market_tickers": [MARKET]}))
    assert tables.messages["price_bp"].to_pylist() == [6_800] * 5
    assert decoded == [DELTA]


# what a recording has beside


def test_ignored_fields_are_listed_once():
    extra = b'{"note":[1],"recv_ms"'
    lines = [
        DELTA, DELTA.replace(b'{"recv_ms"', extra), DELTA.replace(b'"sid":1', b'"sid":1,"id":{}'),
        DELTA.replace(b'"ts"', b'"\xc3\xa9t\xc3\xa9"'), DELTA.replace(b'"ts"', b'"q\\"q"'),
        b'{"recv_ms":1,"conn":1,"event":{"type":"ok","id":1,"msg":{"of_no_interest":1}}}',
        b'{"recv_ms":1,"conn":1,"event":{"type":"ticker","msg":{"market_ticker":"../up","bad":1}}}',
    ]  # fmt: skip
    tables = checked(Lines(lines * 3, {}))
    assert tables.summary.ignored_fields == (
        "event.id", "event.msg.bad", "event.msg.market_id", "event.msg.q\"q", "event.msg.ts",
        "event.msg.été", "note",
    )  # fmt: skip


def test_a_recording_with_endless_new_fields_lists_some_of_them(monkeypatch, decoded):
    monkeypatch.setattr(frame_reader, "MAX_IGNORED_FIELDS", 5)
    monkeypatch.setattr(frames_module, "MAX_IGNORED_FIELDS", 5)
    lines = [DELTA.replace(b'"ts"', b'"ts%d"' % number) for number in range(50)]
    tables = checked(Lines(lines, {"market_tickers": [MARKET]}))
    assert len(tables.summary.ignored_fields) == 5
    assert len(decoded) == 50


def test_a_recording_with_endless_new_markets_is_read_on(monkeypatch):
    monkeypatch.setattr(frames_module, "MAX_TICKERS", 20)
    monkeypatch.setattr(module, "BATCH_ROWS", 50)
    lines = [DELTA.replace(b"T5", b"T%d" % (number // 3)) for number in range(400)]
    checked(Lines(lines, {}))


def test_a_price_of_a_ladder_is_given_once_whichever_ladder_counts():
    for levels in (
        b'"yes":[[41,5],[41,6]],"yes_dollars_fp":[["0.42","1"]]',
        b'"yes":[[41,5]],"no":[[41,5]],"no_dollars":[["0.41",7]],"yes_dollars_fp":[["0.41","1"]]',
        b'"no_dollars_fp":[],"no":[[5,5]]', b'"no":[],"yes":[[5,"0.01"]]',
    ):  # fmt: skip
        line = (
            b'{"recv_ms":1,"conn":1,"event":{"type":"orderbook_snapshot","sid":1,"msg":{'
            b'"market_ticker":"KXABC-26DEC31-T5",' + levels + b"}}}"
        )
        checked(Lines([line], {"market_tickers": [MARKET]}))


def test_a_whole_ladder_fits():
    prices = [[f"{bp / 10_000:.4f}", "1.00"] for bp in range(1, 10_000)]
    message = {"market_ticker": MARKET, "yes_dollars_fp": prices, "no_dollars_fp": prices}
    event = {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": message}
    line = json.dumps({"recv_ms": 1, "conn": 1, "event": event}).encode()
    tables = checked(Lines([line, DELTA, line], {"market_tickers": [MARKET]}))
    kinds = tables.messages["kind"].to_pylist()
    assert kinds.count(MessageKind.LEVEL) == 2 * 2 * 9_999


def test_names_that_collide_are_still_told_apart():
    colliding = [
        "A" + "".join("bC" if n >> bit & 1 else "ab" for bit in range(8)) for n in range(256)
    ]
    lines = [DELTA.replace(b"KXABC-26DEC31-T5", name.encode()) for name in colliding]
    checked(Lines(lines * 2, {"market_tickers": colliding}))
    table = NameTable((0, name) for name in colliding)
    assert [table.code(0, name) for name in colliding] == list(range(256))
