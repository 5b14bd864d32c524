"""What is injected into a generated recording is what the pipeline finds in it, exactly."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.recordings.generator import EXTRA_PROFILES, SessionProfile, write_session
from kalshi_pipeline.recordings.generator.faults import BOM, Faults
from kalshi_pipeline.stages import BOOKS, SUITABLE
from kalshi_pipeline.storage.publish import Warehouse
from tests.sessions import Replayed, replayed
from tests.test_stages import materialize

FAULTY = EXTRA_PROFILES[9099]
FAULTS = FAULTY.faults or Faults()
# the reason of the row that a fault makes, where that row itself is refused
OWN_REASON = {
    "duplicates": "duplicate", "conflicts": "conflict", "unknown_markets": "unknown_market",
    "off_tick": "price_off_tick", "negative": "negative_size",
    "garbled": "corrupt_line", "cut": "corrupt_line",
}  # fmt: skip
BOOK = ("bid_bp", "ask_bp", "bid_total_centi", "ask_total_centi", "bid_levels", "ask_levels")


def session_of(profile: SessionProfile, root: Path) -> tuple[dict, Replayed]:
    folder = write_session(profile, root)
    return json.loads((folder / "faults.json").read_text()), replayed(folder)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Replayed]:
    return session_of(FAULTY, tmp_path_factory.mktemp("faulty"))


def assert_as_injected(ledger: dict, session: Replayed) -> None:
    quality = session.books.quality
    assert {name: quality[name] for name in ledger["expected"]} == ledger["expected"]
    put_aside = sum(quality["quarantined"].values())
    assert quality["rows_in"] == quality["applied"] + put_aside + quality["before_snapshot"]


def test_every_fault_is_counted_exactly(faulty):
    ledger, session = faulty
    assert_as_injected(ledger, session)
    injected = [entry["fault"] for entry in ledger["injected"]]
    assert {name: injected.count(name) for name in asdict(FAULTS)} == asdict(FAULTS)
    assert session.books.quality["before_snapshot"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_wherever_the_faults_fall(tmp_path, seed):
    assert_as_injected(*session_of(replace(FAULTY, seed=seed), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_wherever_the_faults_fall_at_length(tmp_path, seed):
    assert_as_injected(*session_of(replace(FAULTY, seed=seed), tmp_path))


@pytest.mark.parametrize("fault", [name for name in asdict(FAULTS) if name != "byte_order_mark"])
def test_each_fault_alone(tmp_path, fault):
    """No fault needs another to be found, and none is taken for another."""
    profile = replace(FAULTY, deltas=2_000, faults=replace(Faults(), **{fault: 2}))
    ledger, session = session_of(profile, tmp_path)
    assert [entry["fault"] for entry in ledger["injected"]] == [fault, fault]
    assert_as_injected(ledger, session)
    reasons = set(session.books.quality["quarantined"]) - {"after_gap"}
    expected = {OWN_REASON[fault]} if fault in OWN_REASON else set()
    assert reasons == ({"crossed"} if fault == "crossed" else expected)


def test_the_ledger_names_the_lines(faulty):
    ledger, session = faulty
    quarantine = session.books.quarantine.to_pylist()
    reasons = {(row["frame"], row["reason"]) for row in quarantine}
    for entry in ledger["injected"]:
        if entry["fault"] in OWN_REASON:
            assert (entry["line"], OWN_REASON[entry["fault"]]) in reasons


def test_the_files_bytes_are_as_the_ledger_says(tmp_path):
    profile = replace(FAULTY, compression="none")
    folder = write_session(profile, tmp_path)
    raw = (folder / "messages.ndjson").read_bytes()
    assert raw.startswith(BOM)
    assert raw.count(b"\r\n") == FAULTS.carriage_returns
    assert raw == (write_session(profile, tmp_path / "again") / "messages.ndjson").read_bytes()


def test_books_are_right_again_after_the_faults(faulty, tmp_path):
    """Where a market's last stretch is trusted, it ends like that of the flawless session."""
    _, session = faulty
    flawless = replayed(write_session(replace(FAULTY, faults=None), tmp_path))

    def last_books(books) -> dict[str, tuple]:
        rows, segments = books.rows, books.segments.to_pylist()
        ends = {segment["market"]: segment for segment in segments}
        return {
            market: tuple(rows[name][segment["end_row"] - 1].as_py() for name in BOOK)
            for market, segment in ends.items()
            if segment["ended_by"] in ("market_closed", "end_of_recording")
        }

    truth, found = last_books(flawless.books), last_books(session.books)
    assert len(found) >= FAULTY.markets // 2
    assert found == {market: truth[market] for market in found}


def test_all_stages_take_a_faulty_session(tmp_path):
    folder = write_session(FAULTY, tmp_path)
    published = materialize(Warehouse(tmp_path / "warehouse"), folder)
    expected = json.loads((folder / "faults.json").read_text())["expected"]
    quality = json.loads(published[BOOKS].path("session_quality.json").read_text())
    assert {name: quality[name] for name in expected} == expected
    chosen = pq.read_table(published[SUITABLE].path("suitable_markets.parquet"))
    assert chosen.num_rows == FAULTY.markets


def test_more_faults_than_there_is_room_for_are_refused(tmp_path):
    with pytest.raises(ValueError, match="are few"):
        write_session(replace(FAULTY, faults=Faults(gaps=500)), tmp_path)


def test_faults_are_made_on_the_current_wire():
    with pytest.raises(ValueError, match="current wire"):
        replace(FAULTY, wire="legacy", fine_ticks=False)
