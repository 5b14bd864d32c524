"""Sessions written into a PostgreSQL database as a collector would have, and read back."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books.build import build_books
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.errors import CannotExport, SourceUnavailable
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.ingest import ingest
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from kalshi_pipeline.recordings.postgres.collector import ACTIONS, collect
from kalshi_pipeline.recordings.postgres.connection import Database
from kalshi_pipeline.recordings.postgres.export import export_session
from kalshi_pipeline.recordings.postgres.sessions import DatabaseSessions
from tests.oracle import collector as oracle
from tests.recordings.collector_tables import DDL, START_MS

TICKERS = ["KXA-1", "KXB-1"]


def record(folder, *, sequence="complete", steps=150, seed=1):
    """A recording of whole cents and whole contracts: two markets, two connections, some trades."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    header = {"session_id": int(folder.name), "title": "made for a test", "sequence": sequence,
              "market_tickers": TICKERS, "environment": "test",
              "started_at": "2025-12-10T00:00:00Z"}  # fmt: skip
    (folder / "session.json").write_text(json.dumps(header))
    markets = [{"ticker": ticker, "title": "?", "event_ticker": "KX"} for ticker in TICKERS]
    (folder / "markets.json").write_text(json.dumps(markets))
    lines, at = [], START_MS

    def add(conn, kind, sid, seq, msg):
        frame = {"type": kind, "sid": sid, "msg": msg} | ({"seq": seq} if seq else {})
        lines.append(json.dumps({"recv_ms": at, "conn": conn, "event": frame}))

    for conn in range(2):
        seq = 0
        book = {}
        at += 60_000
        for ticker in TICKERS:
            seq += 1
            levels = {"yes": {p: int(rng.integers(1, 50)) for p in (41, 61, 62)},
                      "no": {p: int(rng.integers(1, 50)) for p in (20, 30)}}  # fmt: skip
            book.update({(ticker, s, p): n for s, ls in levels.items() for p, n in ls.items()})
            msg = {side: [list(level) for level in ls.items()] for side, ls in levels.items()}
            add(conn, "orderbook_snapshot", 1, seq, {"market_ticker": ticker, **msg})
        for _ in range(steps):
            at += int(rng.integers(0, 400))
            seq += 1
            if rng.random() < 0.05:
                add(conn, "ok", 1, seq, {})  # uses up a number and is no row
                continue
            if rng.random() < 0.1:
                seq -= 1
                msg = {"market_ticker": TICKERS[0], "yes_price": 62, "count": 3,
                       "taker_side": "no", "ts": at // 1000}  # fmt: skip
                add(conn, "trade", 2, None, msg)
                continue
            level = (TICKERS[int(rng.integers(2))], *[("yes", 61), ("yes", 40), ("yes", 62),
                     ("no", 20), ("no", 33)][int(rng.integers(5))])  # fmt: skip
            size = book.get(level, 0)
            change = -size if size and rng.random() < 0.4 else int(rng.integers(1, 9))
            book[level] = size + change
            msg = {"market_ticker": level[0], "side": level[1], "price": level[2], "delta": change}
            add(conn, "orderbook_delta", 1, seq, msg)
    (folder / "messages.ndjson").write_text("\n".join(lines))
    return open_folder(folder)


def table_of(recording, folder):
    """Message table and quarantine of a recording folder."""
    folder.mkdir()
    ingest(recording, folder)
    names = ("messages.parquet", "quarantine.parquet")
    return [pq.read_table(folder / name) for name in names]


def read_back(url, number, folder):
    """The session of the database, its messages and quarantine."""
    session = DatabaseSessions(Database(url)).open(number)
    folder.mkdir()
    session.ingest(folder)
    names = ("messages.parquet", "quarantine.parquet")
    return session, *(pq.read_table(folder / n) for n in names)


@pytest.fixture
def exported(postgres, tmp_path):
    """A recording, its message table, and the URL of an empty database that may be written."""
    recording = record(tmp_path / "7")
    messages, rejected = table_of(recording, tmp_path / "raw")
    return recording, messages, rejected, postgres.url(postgres.create("export"), user="postgres")


def states(books):
    """The rows of the book table, without what depends on where the messages came from.

    Trades have no number: within a millisecond their place among the changes is not known.
    """
    rows = books.rows.filter(pa.array(books.rows["kind"].to_numpy() != RowKind.TRADE))
    return rows.drop_columns(["frame", "epoch", "sid", "seq"]).to_pylist()


def test_what_the_corrected_collector_stores_is_the_same_book(exported, tmp_path):
    recording, messages, rejected, url = exported
    done = export_session(url, messages, recording.info, recording.markets)
    session, back, refused = read_back(url, 7, tmp_path / "back")
    assert done.left_out == 0
    assert (done.snapshots, done.markets) == (4, 2)
    original = build_books(messages, rejected, recording.info, recording.markets, BookConfig())
    copied = build_books(back, refused, session.info, session.markets, BookConfig())
    assert states(copied) == states(original)
    for figure in ("deltas", "snapshots", "trades", "epochs", "gaps", "applied", "quarantined"):
        assert copied.quality[figure] == original.quality[figure], figure
    assert session.info.declared["ladder_convention"] == "fixed"
    assert session.info.declared["declared_counters"]["deltas"] == original.quality["deltas"]
    assert session.info.declared["environment"] == "test"
    assert session.info.title == "made for a test"
    assert list(session.info.tickers) == TICKERS


def test_holes_that_are_losses_stay_and_those_that_are_not_close(postgres, tmp_path):
    for number, sequence, gaps in ((7, "complete", 1), (8, "shared", 0)):
        recording = record(tmp_path / str(number), sequence=sequence)
        messages, _ = table_of(recording, tmp_path / f"raw{number}")
        seq = messages["seq"].to_pylist()
        hole = next(n for n, value in enumerate(seq) if value == 40)
        url = postgres.url(postgres.create("export"), user="postgres")
        without = pa.concat_tables([messages.slice(0, hole), messages.slice(hole + 1)])
        export_session(url, without, recording.info, recording.markets)
        session, back, refused = read_back(url, number, tmp_path / f"back{number}")
        books = build_books(back, refused, session.info, session.markets, BookConfig())
        assert books.quality["gaps"] == gaps


def test_what_the_faulty_collector_stores_says_so(exported, postgres, tmp_path):
    recording, messages, _, url = exported
    export_session(url, messages, recording.info, recording.markets, session=70, faulty=True)
    with postgres.admin("export") as rows:
        first = rows.execute(
            "SELECT yes_bids, yes_asks, no_bids, no_asks FROM rl_orderbook_snapshots "
            "ORDER BY id LIMIT 1"
        ).fetchone()
        assert [sorted(map(int, part)) for part in first] == [[41], [61, 62], [20, 30], []]
        clipped = rows.execute(
            "SELECT DISTINCT action, price > 50 FROM rl_orderbook_deltas "
            "WHERE old_size = 0 AND new_size = 0"
        ).fetchall()
        assert clipped == [("remove", True)]
    session, *_ = read_back(url, 70, tmp_path / "back")
    assert session.info.declared["ladder_convention"] == "legacy"
    figures = session.info.declared["integrity"]
    assert figures["mismatches"] == 0
    assert figures["clipped_rows"] > 0


def test_the_tables_are_those_of_the_predecessor(exported, postgres):
    recording, messages, _, url = exported
    export_session(url, messages, recording.info, recording.markets)
    postgres.create("theirs", DDL)
    query = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_name LIKE 'rl_orderbook%'"
    )
    columns = []
    for name in ("export", "theirs"):
        with postgres.admin(name) as rows:
            columns.append({row[:2]: row[2:] for row in rows.execute(query).fetchall()})
    assert set(columns[0]) == set(columns[1])
    text = {"text", "character varying"}  # the two say `side TEXT` and `VARCHAR(3)`
    for column, (kind, null) in columns[0].items():
        other, other_null = columns[1][column]
        assert null == other_null, column
        assert kind == other or {kind, other} <= text, column


def test_an_id_that_is_taken_is_refused_and_nothing_is_written(exported, postgres):
    recording, messages, _, url = exported
    export_session(url, messages, recording.info, recording.markets)
    with pytest.raises(CannotExport, match="--as") as taken:
        export_session(url, messages, recording.info, recording.markets, faulty=True)
    assert taken.value.session == 7
    export_session(url, messages, recording.info, recording.markets, session=8)
    with postgres.admin("export") as rows:
        counts = dict(
            rows.execute("SELECT session_id, count(*) FROM rl_orderbook_deltas GROUP BY 1")
        )
        trades = rows.execute("SELECT count(*) FROM trades").fetchone()[0]
        following = rows.execute(
            "INSERT INTO rl_orderbook_sessions (market_tickers) VALUES ('{}') RETURNING session_id"
        ).fetchone()[0]
    assert counts[7] == counts[8]
    # trades are the exchange's, not a session's: the second session found them there
    is_trade = messages["kind"].to_numpy() == MessageKind.TRADE
    assert trades == np.count_nonzero(is_trade)
    assert following == 9


def test_polls_and_a_user_who_may_not_write_are_refused(exported, postgres, tmp_path):
    recording, messages, *_ = exported
    polls = record(tmp_path / "9", sequence="none")
    with pytest.raises(CannotExport, match="polls"):
        export_session("postgresql://", messages, polls.info, ())
    reader = postgres.url("export")
    with pytest.raises(SourceUnavailable, match="cannot be written: permission denied"):
        export_session(reader, messages, recording.info, recording.markets)


@st.composite
def streams(draw):
    """Frames of two markets with sub-cent prices and fractions of contracts."""
    prices = st.sampled_from([50, 199, 3000, 3050, 5000, 5010, 5100, 7000, 7055, 9950])
    frames, epoch = [], 0
    for _ in range(draw(st.integers(1, 30))):
        epoch += draw(st.sampled_from([0, 0, 0, 0, 0, 1]))
        frame = {"market": draw(st.integers(0, 1)), "epoch": epoch}
        if draw(st.integers(0, 4)) == 0:
            levels = st.dictionaries(
                st.tuples(st.integers(0, 1), prices), st.integers(1, 900), max_size=5
            )
            frame["levels"] = draw(levels)
        else:
            frame |= {"side": draw(st.integers(0, 1)), "price_bp": draw(prices)}
            frame["size_centi"] = draw(st.integers(-600, 600))
        frames.append(frame)
    return frames


def messages_of(frames):
    """A message table of frames; numbers go up within each connection."""
    rows, counts = [], Counter()
    for number, frame in enumerate(frames):
        counts[frame["epoch"]] += 1
        common = {
            "frame": number, "epoch": frame["epoch"], "sid": 1, "seq": counts[frame["epoch"]],
            "recv_ms": START_MS + number, "market": f"KX{frame['market']}", "file": 0,
            "offset": number,
        }  # fmt: skip
        if "levels" not in frame:
            size = {name: frame[name] for name in ("side", "price_bp", "size_centi")}
            rows.append({**common, "kind": MessageKind.DELTA, **size})
            continue
        rows.append({**common, "kind": MessageKind.SNAPSHOT})
        for (side, price_bp), size in frame["levels"].items():
            level = {"side": side, "price_bp": price_bp, "size_centi": size}
            rows.append({**common, "kind": MessageKind.LEVEL, **level})
    return pa.Table.from_pylist(rows, MESSAGE_SCHEMA)


@settings(max_examples=150)
@given(frames=streams(), faulty=st.booleans())
def test_the_collector_stores_as_its_slow_twin_does(frames, faulty):
    collected = collect(messages_of(frames), sequence="complete", faulty=faulty)
    deltas, snapshots = collected.deltas, collected.snapshots
    found = [
        ("delta", int(at) - START_MS, int(old), int(new), ACTIONS[action])
        for at, old, new, action in zip(
            deltas["recv_ms"], deltas["old"], deltas["new"], deltas["action"], strict=True
        )
    ]
    for at, ladder in zip(snapshots["recv_ms"], collected.ladders, strict=True):
        levels = {
            (int(s), int(c)): int(ladder[s, c]) for s, c in zip(*np.nonzero(ladder), strict=True)
        }
        found.append(("snapshot", int(at) - START_MS, levels))
    assert sorted(found, key=lambda row: row[1]) == oracle.collect(frames, faulty=faulty)
    # a market has no number twice, and each connection counts from below the one before it
    both = [np.concatenate([deltas[name], snapshots[name]]) for name in ("market", "seq", "epoch")]
    assert len(set(zip(both[0].tolist(), both[1].tolist(), strict=True))) == len(both[0])
    for earlier in set(both[2].tolist()):
        lowest = both[1][both[2] == earlier].min()
        assert (both[1][both[2] > earlier] < lowest).all()
