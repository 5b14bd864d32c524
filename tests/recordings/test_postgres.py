"""Sessions of a real PostgreSQL server: rows to messages, faults of the server, what is refused."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.books.build import build_books
from kalshi_pipeline.config import BookConfig, DatabaseConfig, RecoveryConfig
from kalshi_pipeline.errors import SchemaMismatch, SessionNotFound
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from kalshi_pipeline.recordings.postgres.connection import Database
from kalshi_pipeline.recordings.postgres.sessions import DatabaseSessions
from tests.recordings.collector_tables import (
    DDL,
    MORE_DDL,
    START_MS,
    add_delta,
    add_session,
    add_snapshot,
)

FAST = DatabaseConfig(page_rows=3, reorder_rows=50, tries=3, backoff_s=0.25)


@pytest.fixture
def database(postgres):
    """An empty database with the predecessor's tables; the owner's connection to it."""
    name = postgres.create("collector", DDL)
    with postgres.admin(name) as connection:
        yield connection


def sessions_of(postgres, recovery=None, trust="strict"):
    database = Database(postgres.url("collector"), FAST, sleep=lambda _: None)
    return DatabaseSessions(database, recovery, trust)


def read(session, folder):
    """Ingest a session; its summary, message rows and quarantine."""
    folder.mkdir(exist_ok=True)
    summary = session.ingest(folder)
    messages = pq.read_table(folder / "messages.parquet", read_dictionary=["market"])
    assert messages.schema.equals(MESSAGE_SCHEMA)
    return summary, messages, pq.read_table(folder / "quarantine.parquet")


def books_of(session, messages, rejected):
    return build_books(messages, rejected, session.info, session.markets, BookConfig())


def test_snapshots_changes_and_trades_become_one_message_table(postgres, tmp_path):
    name = postgres.create("collector", DDL + MORE_DDL)
    with postgres.admin(name) as rows:
        add_session(rows, 7, messages_received=99, snapshots_count=3, deltas_count=96)
        add_snapshot(rows, 7, 1, yes_bids={40: 100, 39: 5}, no_bids={55: 7})
        add_snapshot(rows, 7, 2, "KXB", no_bids={30: 1})
        add_delta(rows, 7, 3, price=41, old=0, new=12)
        add_delta(rows, 7, 4, "KXB", side="no", price=30, old=1, new=0)
        add_delta(rows, 7, 5, price=40, old=100, new=60)
        rows.execute(
            "INSERT INTO trades (market_ticker, yes_price, count, taker_side, ts, received_at) "
            "VALUES ('KXA', 45, 3, 'yes', %s, %s), ('KXOTHER', 45, 3, 'yes', %s, %s)",
            [START_MS, START_MS + 4] * 2,
        )
        rows.execute(
            "INSERT INTO markets VALUES ('KXA', 'A?', 'c', "
            """'{"close_time": "2025-12-31T00:00:00Z", "open_interest": 5, "result": "yes"}')"""
        )
        rows.execute(
            "INSERT INTO lifecycle_events VALUES ('KXA', 'determined', '{\"result\": \"yes\"}', "
            "%s, to_timestamp(%s))",
            [START_MS // 1000, START_MS / 1000 + 60],
        )
    session = sessions_of(postgres).open(7)
    summary, messages, rejected = read(session, tmp_path / "raw")
    assert rejected.num_rows == 0
    assert (summary.snapshots, summary.deltas, summary.trades) == (2, 3, 1)
    assert summary.frames == 7
    rows = messages.to_pylist()
    assert [row["frame"] for row in rows] == [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6]
    deltas = [row for row in rows if row["kind"] == MessageKind.DELTA]
    assert [(r["seq"], r["market"], r["price_bp"], r["size_centi"]) for r in deltas] == [
        (3, "KXA", 4100, 1200), (4, "KXB", 3000, -100), (5, "KXA", 4000, -4000),
    ]  # fmt: skip
    assert [row["offset"] for row in deltas] == [1, 2, 3]
    trade = next(row for row in rows if row["kind"] == MessageKind.TRADE)
    assert (trade["price_bp"], trade["size_centi"], trade["side"]) == (4500, 300, 0)
    assert (trade["recv_ms"], trade["exchange_ms"]) == (START_MS + 4, START_MS)
    event = rows[-1]
    assert event["kind"] == MessageKind.LIFECYCLE
    assert event["detail"] == '{"event_type": "determined", "result": "yes"}'
    assert (event["recv_ms"], event["exchange_ms"]) == (START_MS + 60_000, START_MS // 1000 * 1000)
    assert session.markets[0]["result"] == "yes"
    assert "open_interest" not in session.markets[0]
    declared = session.info.declared["declared_counters"]
    assert declared == {"messages": 99, "snapshots": 3, "deltas": 96}
    books = books_of(session, messages, rejected)
    assert books.quality["applied"] == 5
    last = books.rows.to_pylist()[-1]
    assert (last["market"], last["bid_bp"], last["ask_bp"]) == ("KXB", 0, 10_000)


def test_x10_json_columns_may_be_text_and_columns_may_lack_or_be_more(postgres, tmp_path):
    ddl = DDL.replace("JSONB", "TEXT").replace("environment TEXT,", "flavour TEXT,")
    name = postgres.create("collector", ddl)
    with postgres.admin(name) as rows:
        rows.execute("ALTER TABLE rl_orderbook_deltas ADD COLUMN exchange_delta BIGINT")
        add_session(rows, 7, connection_metadata='{"generated": true, "title": "a copy"}')
        add_snapshot(rows, 7, 1, yes_bids={40: 100})
        add_snapshot(rows, 7, 2, "KXB", yes_bids={40: 2})
        rows.execute(
            "UPDATE rl_orderbook_snapshots SET yes_bids = %s WHERE sequence_number = 2",
            ['"{\\"40\\": 2}"'],  # JSON put into the column as a JSON string
        )
    session = sessions_of(postgres).open(7)
    assert session.info.declared["environment"] is None
    assert session.info.generated
    assert session.info.title == "a copy"
    summary, messages, _ = read(session, tmp_path / "raw")
    assert summary.snapshots == 2
    levels = messages.filter(messages["kind"].to_numpy() == MessageKind.LEVEL)
    assert levels["size_centi"].to_pylist() == [10_000, 200]


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ("DROP TABLE rl_orderbook_deltas", "rl_orderbook_deltas", "table"),
        (
            "ALTER TABLE rl_orderbook_deltas DROP COLUMN old_size",
            "rl_orderbook_deltas.old_size",
            "column",
        ),
        (
            "ALTER TABLE rl_orderbook_deltas ALTER price TYPE TEXT",
            "rl_orderbook_deltas.price is text",
            "type",
        ),
        ("CREATE TABLE trades (id BIGINT)", "trades.market_ticker", "column"),
        (
            "REVOKE SELECT ON rl_orderbook_snapshots FROM reader",
            "rl_orderbook_snapshots",
            "table",
        ),
    ],
)
def test_x10_a_table_that_is_not_as_it_should_be_is_named(postgres, database, change, column, rule):
    database.execute(change)
    with pytest.raises(SchemaMismatch) as mismatch:
        sessions_of(postgres).infos()
    assert mismatch.value.rule == rule
    assert mismatch.value.value == column


def test_rows_that_break_a_rule_are_refused_with_its_name(postgres, database, tmp_path):
    database.execute("ALTER TABLE rl_orderbook_deltas ALTER side DROP NOT NULL")
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={40: 100})
    add_snapshot(database, 7, 2, "KXB", yes_bids={40: 100}, no_asks='{"40": 99}')
    add_delta(database, 7, 3, "KXELSE")
    add_delta(database, 7, 4, price=100)
    add_delta(database, 7, 5, side="maybe")
    add_delta(database, 7, 6, action="swap")
    add_delta(database, 7, 7, new=-1)
    add_delta(database, 7, 8, side=None)
    add_delta(database, 7, 9, at_ms=-5)
    add_snapshot(database, 7, 10, yes_bids='{"40": 1.5}')
    add_snapshot(database, 7, 11, yes_bids='{"400": 1}')
    add_snapshot(database, 7, 12, yes_bids='{"4c": 1}')
    add_snapshot(database, 7, 13, yes_bids="[]")
    session = sessions_of(postgres).open(7)
    summary, messages, rejected = read(session, tmp_path / "raw")
    reasons = dict(zip(rejected["seq"].to_pylist(), rejected["reason"].to_pylist(), strict=True))
    assert reasons == {
        2: "convention", 3: "unknown_market", 4: "price_out_of_range", 5: "side_invalid",
        6: "action_invalid", 7: "size_invalid", 8: "missing_field", 9: "missing_field",
        10: "size_invalid", 11: "price_out_of_range", 12: "not_a_number", 13: "missing_field",
    }  # fmt: skip
    unknown = rejected.filter(rejected["seq"].to_numpy() == 3).to_pylist()[0]
    assert unknown["market"] == "KXELSE"
    assert unknown["value"] == "side yes, action update, price 40, old_size 0, new_size 10"
    assert summary.rejected == 12
    # their numbers were seen: the counter shows no loss
    books = books_of(session, messages, rejected)
    assert (books.quality["gaps"], books.quality["lost_messages"]) == (0, 0)
    quality = books.quality
    accounted = quality["applied"] + sum(quality["quarantined"].values())
    assert quality["rows_in"] == accounted + quality["before_snapshot"] == 13


def test_a_counter_that_starts_anew_is_a_new_connection(postgres, database, tmp_path):
    add_session(database, 7)
    for connection in range(2):
        start = START_MS + connection * 60_000
        add_snapshot(database, 7, 1 + connection * 7, yes_bids={40: 100}, at_ms=start)
        for seq in range(10, 20):
            # the table's own rule keeps a market from having one number twice
            market = "KXA" if connection else "KXB"
            add_delta(database, 7, seq, market, old=100, new=100 + seq, at_ms=start + seq)
    _, messages, _ = read(sessions_of(postgres).open(7), tmp_path / "raw")
    epochs = dict.fromkeys(messages["epoch"].to_pylist())
    assert list(epochs) == [0, 1]
    second = messages.filter(messages["epoch"].to_numpy() == 1)
    assert second["recv_ms"][0].as_py() == START_MS + 60_000


def test_rows_written_late_find_their_place(postgres, database, tmp_path):
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={40: 100})
    order = [2, 3, 6, 7, 8, 4, 5, 9]  # a batch put back into the queue
    for seq in order:
        add_delta(database, 7, seq, old=100 + seq - 2, new=100 + seq - 1)
    session = sessions_of(postgres).open(7)
    _, messages, rejected = read(session, tmp_path / "raw")
    assert messages["seq"].to_pylist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert set(messages["epoch"].to_pylist()) == {0}
    assert rejected.num_rows == 0
    assert session.info.declared["integrity"]["mismatches"] == 0


@pytest.mark.parametrize("trust", ["strict", "continuous"])
def test_a_size_before_the_change_that_is_not_ours_shows_a_missing_row(
    postgres, database, tmp_path, trust
):
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={40: 100})
    add_delta(database, 7, 2, old=100, new=90)
    add_delta(database, 7, 3, old=70, new=60)
    add_delta(database, 7, 4, old=60, new=50)
    session = sessions_of(postgres, trust=trust).open(7)
    _, messages, rejected = read(session, tmp_path / "raw")
    assert session.info.declared["integrity"]["mismatches"] == 1
    if trust == "strict":
        assert rejected["reason"].to_pylist() == ["discontinuity"]
        assert rejected["value"].to_pylist() == ["old_size 70, new_size 60"]
        ended = books_of(session, messages, rejected).segments["ended_by"].to_pylist()
        assert ended == ["rejected_row"]
    else:
        assert rejected.num_rows == 0
        books = books_of(session, messages, rejected)
        assert books.rows["bid_size_centi"].to_pylist() == [10_000, 9_000, 6_000, 5_000]


def legacy_session(database):
    # true book: YES 70 x 100 and 40 x 10, NO 28 x 50; then 70 goes in full, and 72 trades
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={70: 100, 40: 10}, no_bids={28: 50}, legacy=True)
    add_delta(database, 7, 2, price=70, old=0, new=20)  # 120
    add_delta(database, 7, 3, price=70, old=20, new=0)  # 100, or less
    add_delta(database, 7, 4, price=70, old=0, new=0)  # less by an unknown size
    add_delta(database, 7, 5, price=40, old=10, new=5)


@pytest.mark.parametrize(
    ("policy", "bids"),
    [
        ("as_recorded", [40, 70, 40, 40, 40]),
        ("upper_bound", [70, 70, 70, 70, 70]),
        ("remove_stale", [70, 70, 70, 40, 40]),
        ("uncross", [70, 70, 70, 70, 70]),
        ("remove_and_uncross", [70, 70, 70, 40, 40]),
    ],
)
def test_sizes_the_old_collector_mislaid_are_recovered_by_policy(
    postgres, database, tmp_path, policy, bids
):
    legacy_session(database)
    session = sessions_of(postgres, RecoveryConfig(policy=policy)).open(7)
    _, messages, rejected = read(session, tmp_path / "raw")
    books = books_of(session, messages, rejected)
    assert [bid // 100 for bid in books.rows["bid_bp"].to_pylist()] == bids
    assert session.info.declared["ladder_convention"] == "legacy"
    assert session.info.declared["recovery_policy"] == policy
    figures = pq.read_table(tmp_path / "raw" / "integrity.parquet").to_pylist()[0]
    assert (figures["market"], figures["rows"]) == ("KXA", 4)
    assert (figures["clipped_rows"], figures["doubtful_rows"]) == (1, 1)
    assert figures["share_touching"] == 0.5
    assert figures["legacy_snapshots"] == 1


def test_a_stale_level_that_crosses_the_book_is_taken_away(postgres, database, tmp_path):
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={70: 100, 40: 10}, no_bids={28: 50}, legacy=True)
    add_delta(database, 7, 2, side="no", price=35, old=0, new=9)  # 70 must be gone by now
    session = sessions_of(postgres, RecoveryConfig(policy="uncross")).open(7)
    summary, messages, rejected = read(session, tmp_path / "raw")
    repair = messages.to_pylist()[-1]
    assert repair["detail"] == "stale level removed"
    assert (repair["seq"], repair["price_bp"], repair["size_centi"]) == (None, 7000, -10_000)
    assert (summary.deltas, summary.other_types) == (1, {"repair": 1})
    books = books_of(session, messages, rejected)
    assert books.rows["bid_bp"].to_pylist()[-1] == 4000
    assert books.quality["quarantined"] == {}


def test_a_session_of_both_conventions_is_flagged(postgres, database, tmp_path):
    add_session(database, 7)
    add_snapshot(database, 7, 1, yes_bids={70: 100}, legacy=True)
    add_snapshot(database, 7, 2, "KXB", yes_bids={70: 100})
    session = sessions_of(postgres).open(7)
    read(session, tmp_path / "raw")
    assert session.info.declared["ladder_convention"] == "mixed"


def test_an_unknown_session_is_named(postgres, database):
    with pytest.raises(SessionNotFound, match="database has no such session") as absent:
        sessions_of(postgres).open(404)
    assert absent.value.session == 404


def test_only_sessions_that_are_over_are_offered(postgres, database):
    add_session(database, 1)
    add_session(database, 2, status="active")
    add_session(database, 3, status="error")
    add_session(database, 4, status="active", started_at="2025-12-10", ended_at="2025-12-11")
    add_session(database, 5, ["no ticker", "KXA"], status="active")
    add_session(database, 10**12)  # no id a command line takes
    sessions = sessions_of(postgres)
    assert [info.session for info in sessions.infos()] == [1, 2, 3, 4, 5]
    assert sessions.open(5).info.tickers == ("KXA",)
    assert sessions.completed() == [1, 3, 4]


def test_the_fingerprint_changes_with_the_rows_and_only_then(postgres, database):
    legacy_session(database)
    known = sessions_of(postgres).open(7).fingerprint()
    assert sessions_of(postgres).open(7).fingerprint() == known
    add_delta(database, 8, 1)
    assert sessions_of(postgres).open(7).fingerprint() == known
    add_delta(database, 7, 6)
    assert sessions_of(postgres).open(7).fingerprint() != known


def test_a_session_without_rows_is_an_empty_message_table(postgres, database, tmp_path):
    add_session(database, 7)
    summary, messages, rejected = read(sessions_of(postgres).open(7), tmp_path / "raw")
    assert (summary.frames, messages.num_rows, rejected.num_rows) == (0, 0, 0)
