"""Traded size and its source, and the depletion of the touch, from message table to Parquet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books import traded_size
from kalshi_pipeline.books.build import write_books
from kalshi_pipeline.books.traded import TradedWriter, silent_markets
from kalshi_pipeline.books.writer import in_folder
from kalshi_pipeline.config import DepletionConfig
from kalshi_pipeline.market.depletion import BookBatch
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.replay_order import in_memory, survey
from tests.oracle.book import NO, YES
from tests.oracle.depletion import touch_decreases
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, books_of, ingested, random_session, wire_line
from tests.sessions import Replayed, replayed

A = "KXA-26"
CONFIG = DepletionConfig()
BOOK = ((YES, 4_000, 10_000), (YES, 3_900, 10_000), (NO, 5_000, 10_000))


def write_traded(
    messages: Path, folder: Path, info: SessionInfo, silent: tuple[str, ...] | None = None
) -> dict:
    """The two tables of a session whose books are written, and its figures."""
    writer = TradedWriter(messages, info, CONFIG, in_folder(folder), silent)
    with writer:
        for batch in traded_size.batches(folder / "books.parquet", BookBatch._fields):
            writer.add(pa.Table.from_batches([batch]))
    return writer.figures


class Feed:
    """Lines of one market, written into a folder as its published tables."""

    def __init__(self, **header) -> None:
        self.header = {"sequence": "complete"} | header
        self.lines: list[bytes] = []
        self.conn, self.seq = 1, 0
        self.book("snapshot", levels=BOOK)

    def book(self, kind: str, at_ms: int = 0, market: str = A, **parts) -> Feed:
        self.seq += 1
        return self.add(Frame(kind, at_ms, self.conn, 7, self.seq, market, **parts))

    def lose(self, size: int, at_ms: int = 0, side: int = YES, price_bp: int = 4_000) -> Feed:
        return self.book("delta", at_ms, side=side, price_bp=price_bp, size_centi=-size)

    def trade(self, size: int, at_ms: int = 0, price_bp: int = 4_000, taker: int = NO) -> Feed:
        return self.add(Frame("trade", at_ms, self.conn, 8, None, A, taker, price_bp, size))

    def ticker(self, volume: int | None, at_ms: int, exchange_ms: int | None = None) -> Feed:
        message = {"market_ticker": A, "volume_fp": volume and f"{volume / 100:.2f}"}
        message |= {} if exchange_ms is None else {"ts_ms": exchange_ms}
        event = {"type": "ticker", "sid": 9, "msg": message}
        text = json.dumps({"recv_ms": at_ms, "conn": self.conn, "event": event})
        self.lines.append(text.encode())
        return self

    def reconnect(self, at_ms: int) -> Feed:
        self.conn, self.seq = self.conn + 1, 0
        return self.book("snapshot", at_ms, levels=BOOK)

    def add(self, frame: Frame) -> Feed:
        self.lines.append(wire_line(frame))
        return self

    def write(self, folder: Path) -> dict:
        """Figures of the session, its tables written beside each other."""
        recording = Lines(self.lines, self.header)
        pq.write_table(ingested(recording).messages, folder / "messages.parquet")
        write_books(books_of(recording), folder)
        return write_traded(folder / "messages.parquet", folder, recording.info)


def market(folder: Path, ticker: str = A) -> dict:
    entries = pq.read_table(folder / "traded.parquet").to_pylist()
    return next(entry for entry in entries if entry["market"] == ticker)


def depletion(folder: Path) -> list[tuple[int, int, int]]:
    """(traded, cancelled, confidence) of each decrease of the touch."""
    entries = pq.read_table(folder / "depletion.parquet").to_pylist()
    return [(e["traded_centi"], e["cancelled_centi"], e["confidence"]) for e in entries]


def written(session: Replayed, folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(session.messages, folder / "messages.parquet")
    write_books(session.books, folder)
    return write_traded(folder / "messages.parquet", folder, session.info)


# --- the source of traded size


def test_trade_frames_are_traded_size(tmp_path):
    figures = Feed().trade(300).trade(250).ticker(100, 1).ticker(9_900, 2).write(tmp_path)
    entry = market(tmp_path)
    assert (entry["source"], entry["traded_centi"], entry["trades"]) == ("trades", 550, 2)
    assert figures["traded_centi"] == 550
    assert figures["traded_known"] == {"trades": 1, "ticker": 0, "none": 0}


def test_without_trade_frames_half_of_what_the_tickers_gained_is(tmp_path):
    Feed().ticker(70_000, 1).ticker(71_000, 2).ticker(71_300, 3).write(tmp_path)
    entry = market(tmp_path)
    assert (entry["source"], entry["traded_centi"], entry["tickers"]) == ("ticker", 650, 3)


def test_one_ticker_tells_nothing_nor_does_one_without_volume(tmp_path):
    Feed().ticker(70_000, 1).ticker(None, 2).write(tmp_path)
    assert (market(tmp_path)["source"], market(tmp_path)["tickers"]) == ("none", 1)


def test_where_trades_are_recorded_a_market_without_any_has_not_traded(tmp_path):
    figures = Feed(channels=["orderbook_delta", "trade"]).lose(100).write(tmp_path)
    assert (market(tmp_path)["source"], market(tmp_path)["traded_centi"]) == ("trades", 0)
    assert figures["traded_known"]["trades"] == 1
    assert depletion(tmp_path) == [(0, 100, 95)]


def test_a_ticker_that_says_otherwise_is_believed(tmp_path):
    Feed(channels=["trade"]).ticker(0, 1).ticker(500, 2).write(tmp_path)
    assert (market(tmp_path)["source"], market(tmp_path)["traded_centi"]) == ("ticker", 250)


def test_tickers_out_of_order_count_once(tmp_path):
    feed = Feed().ticker(1_000, 5, 100).ticker(1_800, 6, 300).ticker(1_400, 7, 200)
    feed.ticker(1_700, 8, 400).write(tmp_path)  # a correction is not traded back
    assert market(tmp_path)["ticker_centi"] == 400


def test_volume_over_a_reconnect_is_told_apart(tmp_path):
    feed = Feed().ticker(1_000, 1).ticker(1_200, 2).reconnect(3).ticker(2_000, 4).ticker(2_100, 5)
    feed.write(tmp_path)
    entry = market(tmp_path)
    assert (entry["ticker_centi"], entry["across_reconnects_centi"]) == (550, 400)


def test_the_agreement_compares_trades_between_the_tickers(tmp_path):
    feed = Feed().trade(999, 0).ticker(1_000, 1).trade(300, 2).ticker(1_600, 3).trade(100, 4)
    assert feed.write(tmp_path)["trades_against_tickers"] == {
        "markets": 1, "trades_centi": 300, "ticker_centi": 300, "agreement": 1.0,
    }  # fmt: skip
    feed.ticker(2_000, 5)
    assert feed.write(tmp_path)["trades_against_tickers"]["agreement"] == 0.8  # 400 and 500


# --- depletion


def test_a_taker_of_yes_consumes_the_no_ladder_and_the_reverse(tmp_path):
    feed = Feed().lose(70, 1, NO, 5_000).trade(70, 1, 5_000, YES)
    figures = feed.lose(30, 9_000).trade(30, 9_000, 4_000, NO).write(tmp_path)
    assert depletion(tmp_path) == [(70, 0, 85), (30, 0, 85)]
    assert figures["trades_explained"] == 1.0
    assert (figures["touch_decreases"], figures["touch_traded_centi"]) == (2, 100)


def test_only_the_best_level_is_the_touch(tmp_path):
    feed = Feed().lose(100, price_bp=3_900).lose(10_000).lose(100, price_bp=3_900)
    feed.write(tmp_path)
    assert depletion(tmp_path) == [(0, 10_000, 0), (0, 100, 0)]


def test_a_decrease_against_the_book_of_another_segment_is_none(tmp_path):
    Feed().reconnect(5).lose(100, 6).write(tmp_path)
    assert depletion(tmp_path) == [(0, 100, 0)]


def test_of_a_silent_session_the_messages_are_not_read(tmp_path):
    feed = Feed().lose(100, 1).lose(100, 2)
    figures = feed.write(tmp_path)
    tables = [(tmp_path / name).read_bytes() for name in ("traded.parquet", "depletion.parquet")]
    missing, info = tmp_path / "missing", Lines(feed.lines, feed.header).info
    assert write_traded(missing, tmp_path, info, silent=(A,)) == figures
    again = [(tmp_path / name).read_bytes() for name in ("traded.parquet", "depletion.parquet")]
    assert again == tables
    assert depletion(tmp_path) == [(0, 100, 0), (0, 100, 0)]


def test_a_session_with_any_of_its_frames_is_not_silent(tmp_path):
    def silent(feed: Feed) -> tuple[str, ...] | None:
        recording = Lines(feed.lines, feed.header)
        tables = ingested(recording)
        found = survey(in_memory(tables.messages), tables.rejected, recording.info, 60_000)
        return silent_markets(found)

    assert silent(Feed().lose(100, 1)) == (A,)
    assert silent(Feed().trade(100, 1)) is None
    assert silent(Feed().ticker(100, 1)) is None


def test_a_session_of_polls_has_no_decreases(tmp_path):
    feed = Feed(sequence="none")
    figures = feed.book("snapshot", 5, levels=BOOK[:1]).write(tmp_path)
    assert depletion(tmp_path) == []
    assert (figures["touch_decreases"], figures["trades_explained"]) == (0, None)


@pytest.mark.parametrize("batch", [7, 1_000])
def test_the_size_of_a_batch_changes_nothing(generated, tmp_path, monkeypatch, batch):
    session = replayed(generated / "901")
    figures = written(session, tmp_path / "whole")
    monkeypatch.setattr(traded_size, "BATCH_ROWS", batch)
    assert written(session, tmp_path / "parts") == figures
    for name in ("traded.parquet", "depletion.parquet"):
        one, other = (pq.read_table(tmp_path / place / name) for place in ("whole", "parts"))
        assert one.to_pylist() == other.to_pylist()


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 10**9), max_size=60), st.sampled_from(("complete", "shared")),
    st.integers(0, 1_000),
)  # fmt: skip
def test_in_any_session_the_parts_make_the_whole(tmp_path_factory, operations, sequence, seed):
    recording = random_session(operations, sequence, seed).recording
    folder = tmp_path_factory.mktemp("session")
    pq.write_table(ingested(recording).messages, folder / "messages.parquet")
    books = books_of(recording)
    write_books(books, folder)
    write_traded(folder / "messages.parquet", folder, recording.info)
    rows = books.rows.to_pylist()
    table = pq.read_table(folder / "depletion.parquet").to_pylist()
    assert [entry["row"] for entry in table] == touch_decreases(rows)
    by_market: dict[str, int] = {}
    for entry in table:
        row = rows[entry["row"]]
        assert entry["market"] == row["market"]
        assert entry["traded_centi"] + entry["cancelled_centi"] == -row["size_centi"]
        assert min(entry["traded_centi"], entry["cancelled_centi"]) >= 0
        by_market[row["market"]] = by_market.get(row["market"], 0) + entry["traded_centi"]
    for ticker, attributed in by_market.items():
        assert attributed <= market(folder, ticker)["traded_centi"]


# --- against the truth


def test_in_a_generated_session_every_trade_is_found_and_nothing_else(generated, tmp_path):
    # the generator trades at the touch and sends a trade frame for each; all else it cancels
    session = replayed(generated / "901")
    figures = written(session, tmp_path)
    assert figures["trades_explained"] == 1.0
    trades = session.messages.filter(pa.compute.equal(session.messages["kind"], MessageKind.TRADE))
    entries = pq.read_table(tmp_path / "depletion.parquet").to_pylist()
    assert sum(e["traded_centi"] > 0 for e in entries) == trades.num_rows > 500
    assert all(0 in (e["traded_centi"], e["cancelled_centi"]) for e in entries)
    assert sum(e["traded_centi"] for e in entries) == figures["traded_centi"]


def with_tickers(session: Replayed, every_ms: int) -> pa.Table:
    """A session's message table with tickers in place of its trades."""
    volume: dict[str, int] = {}
    due: dict[str, int] = {}
    rows = []
    for row in session.messages.to_pylist():
        if row["kind"] == MessageKind.TRADE:
            volume[row["market"]] = volume.get(row["market"], 0) + 2 * row["size_centi"]
            row |= {"kind": int(MessageKind.TICKER), "side": None}
            row["size_centi"] = volume[row["market"]]
            if row["recv_ms"] < due.get(row["market"], 0):
                continue
            due[row["market"]] = row["recv_ms"] + every_ms
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=session.messages.schema)


def test_a_ticker_after_each_trade_finds_nearly_all_of_them(generated, tmp_path):
    session = replayed(generated / "901")
    written(session, tmp_path / "trades")
    quiet = replace(session.info, declared={})
    written(replace(session, messages=with_tickers(session, 0), info=quiet), tmp_path / "tickers")
    true, guessed = (
        np.array(depletion(tmp_path / name), dtype=np.int64) for name in ("trades", "tickers")
    )
    known = guessed[:, 2] > 0
    # what was traded up to each market's first ticker cannot be known
    assert known.sum() > 0.5 * len(known)
    right = np.minimum(true[known, 0], guessed[known, 0]).sum() / true[known, 0].sum()
    assert right > 0.85
    sure = guessed[:, 2] >= 80
    wrong = np.abs(true[sure, 0] - guessed[sure, 0]).sum() / true[sure, :2].sum()
    assert wrong < 0.05


@pytest.mark.parametrize("session", [111, 112, 113])
def test_on_real_recordings_every_trade_is_found_at_its_level_and_millisecond(
    recordings, tmp_path, session
):
    found = replayed(recordings / str(session), head=True)
    figures = written(found, tmp_path)
    assert figures["trades_explained"] == 1.0
    table = np.array(depletion(tmp_path), dtype=np.int64)
    assert (table[:, 2] == 100).sum() == np.count_nonzero(table[:, 0])
    assert np.count_nonzero(table[:, 0]) > 300


def test_on_real_recordings_half_the_volume_is_what_the_touch_lost(recordings, tmp_path):
    found = replayed(recordings / "101", head=True)
    figures = written(found, tmp_path)
    assert figures["traded_known"]["ticker"] >= 1
    assert figures["touch_traded_centi"] >= 0.995 * figures["traded_centi"] > 0
    volumes = found.messages.filter(
        pa.compute.equal(found.messages["kind"], MessageKind.TICKER)
    ).to_pylist()
    assert all(row["size_centi"] % 2 == 0 for row in volumes)
