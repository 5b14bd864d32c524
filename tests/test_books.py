"""Books are replayed by the rules: the kernel equals its slow twin on sessions gone wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books.build import (
    Books,
    Market,
    build_books,
    ladder_at,
    read_markets,
    read_rows,
    write_books,
)
from kalshi_pipeline.books.replay import SessionReplay
from kalshi_pipeline.books.schemas import (
    BOOK_SCHEMA,
    LADDER_SCHEMA,
    MARKET_SCHEMA,
    SEGMENT_SCHEMA,
)
from kalshi_pipeline.books.writer import in_folder, write_session_books
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.folder import Recording, open_folder
from kalshi_pipeline.recordings.generator import QUICK_PROFILES
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.replay_order import in_memory
from kalshi_pipeline.storage.tables import read_table
from tests.oracle import replay as oracle
from tests.oracle.book import NO, YES, DictBook
from tests.random_sessions import (
    Lines,
    RandomSession,
    books_of,
    ingested,
    message_table,
    random_session,
    wire_line,
)

CONFIG = BookConfig(ladder_every=7)
ROW_KINDS = {
    RowKind.SNAPSHOT: "snapshot", RowKind.DELTA: "delta",
    RowKind.TRADE: "trade", RowKind.CLOSE: "close",
}  # fmt: skip


def twin_of(session: RandomSession, config: BookConfig = CONFIG) -> oracle.Outcome:
    return oracle.replay(
        session.frames,
        session.rules,
        sequence=session.header["sequence"],
        near_bp=CONFIG.near_bp,
        cost_size_centi=CONFIG.cost_size_centi,
        tolerance_ms=CONFIG.crossed_tolerance_ms,
        tolerance_messages=CONFIG.crossed_tolerance_messages,
        ladder_every=config.ladder_every,
        continuous=config.trust == "continuous",
    )


def assert_equal(
    books: Books, twin: oracle.Outcome, session: RandomSession, *, rebuilt: bool = True
) -> None:
    rows = books.rows.to_pylist()
    place = {row["frame"]: number for number, row in enumerate(rows)}
    # the verdict of every frame
    quarantine = dict(
        zip(
            books.quarantine["frame"].to_pylist(),
            books.quarantine["reason"].to_pylist(),
            strict=True,
        )
    )
    expected = Counter(twin.verdicts.values())
    refused = {
        o: why for o, why in twin.verdicts.items() if why not in ("applied", "before_snapshot")
    }
    assert quarantine == refused
    assert set(place) == set(twin.rows)
    # conservation
    quality = books.quality
    assert quality["applied"] == expected["applied"]
    assert quality["before_snapshot"] == expected["before_snapshot"]
    put_aside = sum(quality["quarantined"].values())
    assert quality["rows_in"] == quality["applied"] + put_aside + quality["before_snapshot"]
    assert quality["rows_in"] == len(twin.verdicts)
    # the rows, every column
    for ordinal, row in twin.rows.items():
        ours, frame = rows[place[ordinal]], session.frames[ordinal]
        message = (row.kind, row.segment, row.time_ms, frame.market, frame.recv_ms, frame.seq)
        assert message == (
            ROW_KINDS[ours["kind"]], ours["segment"], ours["time_ms"], ours["market"],
            ours["recv_ms"], ours["seq"],
        )  # fmt: skip
        if row.kind in ("delta", "trade"):
            changed = (frame.side, frame.price_bp, frame.size_centi)
            assert changed == (ours["side"], ours["price_bp"], ours["size_centi"])
        assert row.columns == {name: ours[name] for name in row.columns}, ordinal
    assert_equal_segments(books, twin, place)
    assert_equal_ladders(books, twin, place, rebuilt=rebuilt)
    for name in ("crossed_states", "crossed_ms", "drifted_levels", "clock_back", "gaps"):
        assert quality[name] == getattr(twin, name), name
    assert quality["lost_messages"] == twin.lost


def assert_equal_segments(books: Books, twin: oracle.Outcome, place: dict[int, int]) -> None:
    ours = sorted(books.segments.to_pylist(), key=lambda segment: segment["segment"])
    assert ours == [
        {
            "segment": number,
            "market": segment.market,
            "first_row": place[segment.frames[0]],
            "end_row": place[segment.frames[-1]] + 1,
            "start_ms": segment.times[0],
            "end_ms": segment.times[-1],
            "messages": len(segment.frames),
            "ended_by": segment.ended_by,
        }
        for number, segment in enumerate(twin.segments)
    ]


def assert_equal_ladders(
    books: Books, twin: oracle.Outcome, place: dict[int, int], *, rebuilt: bool
) -> None:
    kept = sorted(
        (place[ordinal], side, price_bp, size_centi)
        for ordinal, row in twin.rows.items()
        if row.kept
        for side in (YES, NO)
        for price_bp, size_centi in row.ladders[side].items()
    )
    assert kept == sorted(map(tuple, (row.values() for row in books.ladders.to_pylist())))
    for ordinal, row in twin.rows.items() if rebuilt else ():
        if row.kind != "close":
            whole = {(side, p): size for side in (YES, NO) for p, size in row.ladders[side].items()}
            assert ladder_at(books.rows, books.ladders, books.segments, place[ordinal]) == whole


def assert_kernel_equals_twin(seed: int, most: int, *, lines: bool = False) -> None:
    """One random session of at most so many operations; without lines it skips the decoding."""
    random = Random(seed)
    # most are short: what goes wrong does so within a few messages, and long ones take long
    length = int(most * random.random() ** 2)
    steps = [random.getrandbits(32) for _ in range(length)]
    sequence = random.choice(["complete", "complete", "shared", "none"])
    session = random_session(steps, sequence, seed, lines=lines)
    config = replace(CONFIG, trust=random.choice(["strict", "strict", "continuous"]))
    if lines:
        books = books_of(session.recording, config)
    else:
        recording, tables = session.recording, message_table(session.frames)
        books = build_books(*tables, recording.info, recording.markets, config)
    assert_equal(books, twin_of(session, config), session, rebuilt=lines)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**64))
def test_lines_decoded_and_replayed_equal_the_twin(seed):
    assert_kernel_equals_twin(seed, 150, lines=True)


@pytest.mark.parametrize("block", range(10))
def test_the_kernel_equals_its_twin(block):
    for seed in range(100 * block, 100 * (block + 1)):
        assert_kernel_equals_twin(seed, 300)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(100))
def test_the_kernel_equals_its_twin_a_hundred_thousand_times(block):
    for seed in range(1_000 * (block + 1), 1_000 * (block + 2)):
        assert_kernel_equals_twin(seed, 300)


@pytest.mark.parametrize(
    ("setting", "sessions"), [("NUMBA_DISABLE_JIT", 30), ("NUMBA_BOUNDSCHECK", 100)]
)
def test_the_kernels_mean_the_same_uncompiled_and_stay_within_their_arrays(setting, sessions):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TWINS.format(sessions)],
        env={**os.environ, setting: "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "equal\n")


TWINS = """
from tests.test_books import assert_kernel_equals_twin
for seed in range({}):
    assert_kernel_equals_twin(seed, 100)
print("equal")
"""


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_what_is_written_block_by_block_is_what_is_built_in_memory(
    seed, batch_rows, block_rows, group_records
):
    random = Random(seed)
    steps = [random.getrandbits(32) for _ in range(80)]
    recording = random_session(steps, random.choice(["complete", "shared"]), seed).recording
    tables = ingested(recording)
    whole = build_books(tables.messages, tables.rejected, recording.info, recording.markets, CONFIG)
    run = SessionReplay(
        in_memory(tables.messages, batch_rows), tables.rejected, recording.info,
        recording.markets, CONFIG,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        quality = write_session_books(
            run, tables.rejected, in_folder(folder), folder,
            block_rows=block_rows, group_records=group_records,
        )  # fmt: skip
        rows = pq.ParquetFile(folder / "books.parquet")
        groups = [rows.metadata.row_group(n).num_rows for n in range(rows.num_row_groups)]
        assert max(groups, default=0) <= block_rows
        assert quality == whole.quality
        assert read_rows(folder).equals(whole.rows)
        assert read_markets(folder) == whole.markets
        for name in ("segments", "ladders", "quarantine"):
            assert pq.read_table(folder / f"{name}.parquet").equals(getattr(whole, name)), name
        assert sorted(path.name for path in folder.iterdir()) == [
            "books.parquet", "ladders.parquet", "markets.parquet", "quarantine.parquet",
            "segments.parquet",
        ]  # fmt: skip


def test_an_error_of_the_writer_comes_out_and_nothing_waits_for_it(tmp_path):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "no room")

    tables = ingested(LITTLE["one snapshot"])
    run = SessionReplay(
        in_memory(tables.messages), tables.rejected, LITTLE["one snapshot"].info, (), CONFIG
    )
    with pytest.raises(OSError, match="no room"):
        write_session_books(run, tables.rejected, lambda _: Full(), tmp_path)


# sessions with little in them


def lines_of(*frames: oracle.Frame, sequence: str = "complete", markets=()) -> Lines:
    return Lines([wire_line(frame) for frame in frames], {"sequence": sequence}, markets)


MARKET = "KXA-26JAN01-T5"
SNAPSHOT = oracle.Frame(
    "snapshot", 1_000, 1, 7, 1, MARKET, levels=((YES, 4_000, 5), (NO, 5_000, 6))
)
DELTA = oracle.Frame("delta", 1_010, 1, 7, 2, MARKET, YES, 4_000, 5)
LITTLE = {
    "nothing": lines_of(),
    "one damaged line": Lines([b"{"], {}),
    "one snapshot": lines_of(SNAPSHOT),
    "one empty snapshot": lines_of(replace(SNAPSHOT, levels=())),
    "one delta": lines_of(DELTA),
    "one trade": lines_of(oracle.Frame("trade", 1, 1, 8, None, MARKET, YES, 4_000, 100)),
    "one control frame": lines_of(oracle.Frame("other", 1, 1, 7, 1)),
    "one refused delta": lines_of(replace(DELTA, price_bp=0)),
}


@pytest.mark.parametrize("name", LITTLE)
def test_the_smallest_sessions_are_published(tmp_path, name):
    books = books_of(LITTLE[name])
    write_books(books, tmp_path)
    assert read_rows(tmp_path).equals(books.rows)
    assert read_markets(tmp_path) == books.markets
    assert pq.read_table(tmp_path / "segments.parquet").num_rows == books.segments.num_rows
    quality = books.quality
    put_aside = sum(quality["quarantined"].values())
    assert quality["rows_in"] == quality["applied"] + put_aside + quality["before_snapshot"]
    assert json.loads(json.dumps(quality)) == quality


def test_equal_schemas_whatever_the_session_holds():
    schemas = [
        tuple(table.schema for table in (b.rows, b.segments, b.ladders, b.quarantine))
        for b in map(books_of, LITTLE.values())
    ]
    assert all(schema == schemas[0] for schema in schemas)


def test_the_tables_have_the_schemas_their_readers_insist_on(tmp_path):
    write_books(books_of(LITTLE["one snapshot"]), tmp_path)
    for name, schema in {
        "books": BOOK_SCHEMA, "segments": SEGMENT_SCHEMA, "ladders": LADDER_SCHEMA,
        "markets": MARKET_SCHEMA, "quarantine": QUARANTINE_SCHEMA,
    }.items():  # fmt: skip
        assert read_table(tmp_path / f"{name}.parquet", schema).schema == schema


def test_a_market_of_which_only_the_snapshot_was_seen_has_one_row():
    books = books_of(lines_of(SNAPSHOT))
    assert books.rows["market"].to_pylist() == [MARKET]
    (segment,) = books.segments.to_pylist()
    assert (segment["first_row"], segment["end_row"]) == (0, 1)
    assert ladder_at(books.rows, books.ladders, books.segments, 0) == {
        (YES, 4_000): 5, (NO, 5_000): 6,
    }  # fmt: skip


def test_quarantine_says_where_each_row_came_from():
    off_tick = replace(DELTA, price_bp=4_005, size_centi=7)
    cents = {"ticker": MARKET, "price_level_structure": "linear_cent"}
    books = books_of(lines_of(SNAPSHOT, off_tick, markets=[cents]))
    assert books.quarantine.to_pylist() == [
        {"market": MARKET, "epoch": 1, "sid": 7, "seq": 2, "recv_ms": 1_010, "frame": 1, "file": 0,
         "offset": len(wire_line(SNAPSHOT)) + 1, "reason": "price_off_tick", "value": "4005:7"}
    ]  # fmt: skip


# what is known about markets


def market_of(**declared) -> Market:
    (market,) = books_of(lines_of(SNAPSHOT, markets=[{"ticker": MARKET} | declared])).markets
    return market


def test_a_market_is_what_its_metadata_say():
    market = market_of(
        event_ticker="KXEVENT", close_time="1970-01-01T00:00:05Z", result="yes",
        price_level_structure="deci_cent",
    )  # fmt: skip
    assert (market.event, market.series, market.close_ms, market.result) == (
        "KXEVENT", "KXA", 5_000, "yes",
    )  # fmt: skip
    assert market.grid.step_bp == 10


def test_without_metadata_little_is_known_and_nothing_made_up():
    market = market_of()
    assert (market.event, market.close_ms, market.result) == ("KXA-26JAN01", None, None)
    assert market.grid.step_bp == 100


def test_ticks_of_an_undeclared_market_do_not_depend_on_the_prices_it_will_show():
    finer = replace(DELTA, price_bp=4_010)
    early, late = (
        books_of(lines_of(*frames)).markets[0] for frames in ([SNAPSHOT], [SNAPSHOT, finer])
    )
    assert np.array_equal(early.grid.tick_up_bp, late.grid.tick_up_bp)
    assert (early.grid.step_bp, late.grid.step_bp) == (100, 10)
    # the finer price rests in the book, but no order of ours is put there
    assert (late.grid.resting[4_010], late.grid.valid[4_010]) == (True, False)
    assert books_of(lines_of(SNAPSHOT, finer)).quality["applied"] == 2


@pytest.mark.parametrize("result", [None, "", "YES", "void", 1, ["yes"], {}])
def test_a_result_is_yes_or_no_or_unknown(result):
    assert market_of(result=result).result is None


def test_a_close_that_may_come_early_is_not_known_beforehand():
    assert market_of(close_time="1970-01-01T00:00:05Z", can_close_early=True).close_ms is None


def test_entries_that_name_no_market_are_passed_over():
    entries = [{"ticker": ["x"]}, {}, {"ticker": None}, {"ticker": MARKET, "result": "no"}]
    (market,) = books_of(lines_of(SNAPSHOT, markets=entries)).markets
    assert market.result == "no"


@pytest.mark.parametrize("time", ["soon", "2026-01-01T00:00:00", 17, ["2026-01-01T00:00:00Z"]])
def test_a_close_time_that_is_none_is_refused_by_name(time):
    with pytest.raises(RecordingError) as wrong:
        market_of(close_time=time)
    assert (wrong.value.session, wrong.value.market) == (1, MARKET)
    assert (wrong.value.rule, wrong.value.value) == ("close_time", time)


# rebuilding the book at a row


def test_an_empty_poll_empties_the_book():
    polls = [SNAPSHOT, replace(SNAPSHOT, seq=2, levels=()), replace(SNAPSHOT, seq=3, recv_ms=2_000)]
    books = books_of(lines_of(*polls, sequence="none"))
    assert books.segments.num_rows == 1
    full = {(YES, 4_000): 5, (NO, 5_000): 6}
    found = [ladder_at(books.rows, books.ladders, books.segments, row) for row in range(3)]
    assert found == [full, {}, full]


def test_outside_a_segment_there_is_no_book():
    closing = {"ticker": MARKET, "close_time": "1970-01-01T00:00:02Z"}
    end = oracle.Frame("snapshot", 2_000, 1, 7, 2, MARKET)
    books = books_of(lines_of(SNAPSHOT, end, markets=[closing]))
    assert books.rows["kind"].to_pylist() == [RowKind.SNAPSHOT, RowKind.CLOSE]
    for row in (-1, 1, 2):
        with pytest.raises(IndexError, match="no segment"):
            ladder_at(books.rows, books.ladders, books.segments, row)


# sessions made by the generator


@pytest.mark.parametrize("session", sorted(QUICK_PROFILES))
def test_generated_sessions_replay_without_a_flaw(generated, session):
    recording = open_folder(generated / str(session))
    books = books_of(recording)
    quality = books.quality
    assert quality["generated"] is True
    assert quality["quarantined"] == {}
    assert (quality["gaps"], quality["crossed_states"], quality["drifted_levels"]) == (0, 0, 0)
    assert (quality["before_snapshot"], quality["clock_back"]) == (0, 0)
    assert quality["rows_in"] == quality["applied"] == quality["deltas"] + quality["snapshots"]
    assert_random_rows_equal_dictionaries(recording, books, rows=60)


def assert_random_rows_equal_dictionaries(recording: Recording, books: Books, rows: int) -> None:
    """The rebuilt book at random rows is that of two dictionaries fed with the raw lines."""
    inside = np.flatnonzero(
        ~np.isin(books.rows["kind"].to_numpy(), [RowKind.CLOSE])
        & (books.rows["segment"].to_numpy() >= 0)
    )
    picked = np.random.default_rng(recording.info.session).choice(
        inside, min(rows, len(inside)), False
    )
    frame_of_row = books.rows["frame"].to_numpy()
    wanted = {int(frame_of_row[row]): int(row) for row in picked}
    ladders: dict[str, DictBook] = {}
    for number, line in enumerate(recording.lines()):
        event = json.loads(line.text or b"")["event"]
        message = event.get("msg", {})
        book = ladders.setdefault(str(message.get("market_ticker")), DictBook())
        if event["type"] == "orderbook_snapshot":
            book.apply_snapshot(wire_levels(message, "yes"), wire_levels(message, "no"))
        elif event["type"] == "orderbook_delta":
            change = exact(message["delta_fp"] if "delta_fp" in message else message["delta"], 100)
            side = ("yes", "no").index(message["side"])
            book.apply_delta(side, exact(message["price_dollars"], 10_000), change)
        if number in wanted:
            expected = {
                (side, price): size
                for side in (YES, NO)
                for price, size in book.ladders[side].items()
            }
            row = wanted.pop(number)
            assert ladder_at(books.rows, books.ladders, books.segments, row) == expected
            assert books.rows["bid_bp"][row].as_py() == book.best_bid_bp
            assert books.rows["ask_bp"][row].as_py() == book.best_ask_bp
    assert not wanted


def wire_levels(message: dict, side: str) -> list[tuple[int, int]]:
    rows = message.get(f"{side}_dollars_fp") or message.get(f"{side}_dollars") or ()
    return [(exact(price, 10_000), exact(size, 100)) for price, size in rows]


def exact(number: str | float, scale: int) -> int:
    scaled = Decimal(str(number)) * scale
    assert scaled == int(scaled)
    return int(scaled)


# real recordings: deltas, snapshots, trades, gaps, as their own list gives them
REAL = {
    101: (126_760, 6, 0, 0), 102: (311_767, 17, 0, 0), 103: (258_003, 15, 0, 0),
    104: (286_893, 15, 0, 0), 105: (260_948, 9, 0, 0), 111: (394_978, 19, 10_755, 0),
    112: (170_375, 14, 6_126, 0), 113: (196_804, 14, 6_529, 0), 121: (185_306, 22, 0, 9),
    131: (2_885, 5, 0, 0), 141: (0, 19_671, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("session", REAL)
def test_real_recordings_replay_without_a_loss(recordings, session):
    deltas, snapshots, trades, gaps = REAL[session]
    recording = open_folder(recordings / str(session))
    tables = ingested(recording)
    summary = tables.summary
    assert (summary.deltas, summary.snapshots, summary.trades) == (deltas, snapshots, trades)
    assert summary.rejected == 0
    books = build_books(
        tables.messages, tables.rejected, recording.info, recording.markets, BookConfig()
    )
    quality = books.quality
    assert quality["rows_in"] == deltas + snapshots
    assert quality["rows_in"] == quality["applied"] + quality["before_snapshot"]
    assert quality["quarantined"] == {}
    assert (quality["negative_sizes"], quality["drifted_levels"]) == (0, 0)
    assert quality["gaps"] == gaps
    assert quality["segments_ended_by"].get("gap", 0) == gaps
    assert (quality["quality_score"] == 1.0) == (gaps == 0)
    if session in (101, 131, 141):
        assert_random_rows_equal_dictionaries(recording, books, rows=50)
