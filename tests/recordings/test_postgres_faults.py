"""A database that breaks off, is slow, refuses, or stands behind a pooler; and its password."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.config import DatabaseConfig
from kalshi_pipeline.errors import SourceChanged, SourceUnavailable
from kalshi_pipeline.recordings.postgres.connection import Database, redacted
from kalshi_pipeline.recordings.postgres.sessions import DatabaseSessions
from tests.postgres import ENCODED, PASSWORD, READER, unprivileged
from tests.recordings.collector_tables import DDL, add_delta, add_session, add_snapshot

FAST = DatabaseConfig(page_rows=10, tries=3, backoff_s=0.25)
ROWS = 95


@pytest.fixture
def collected(postgres):
    """A database with one session of some pages; the owner's connection to it."""
    name = postgres.create("faults", DDL)
    with postgres.admin(name) as rows:
        add_session(rows, 7)
        add_snapshot(rows, 7, 1, yes_bids={40: 100})
        for seq in range(2, ROWS + 2):
            add_delta(rows, 7, seq, old=98 + seq, new=99 + seq)
        yield rows


class Disturbed(Database):
    """Something happens after each page but the last."""

    def __init__(self, url, config, happens, naps):
        super().__init__(url, config, naps.append)
        self._happens = happens

    def columns(self, query, parameters, schema):
        page = super().columns(query, parameters, schema)
        self._happens()
        return page


def read(database, folder):
    folder.mkdir()
    session = DatabaseSessions(database).open(7)
    summary = session.ingest(folder)
    return summary, pq.read_table(folder / "messages.parquet")


def test_x09_a_connection_lost_in_the_middle_is_resumed_from_the_last_row(
    postgres, collected, tmp_path
):
    def lose():
        collected.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [READER]
        )

    undisturbed = read(Database(postgres.url("faults"), FAST), tmp_path / "one")
    naps: list[float] = []
    disturbed = read(Disturbed(postgres.url("faults"), FAST, lose, naps), tmp_path / "two")
    assert len(naps) >= ROWS // FAST.page_rows
    assert set(naps) == {0.25}
    assert disturbed[0] == undisturbed[0]
    assert disturbed[1].equals(undisturbed[1])


def test_x09_a_server_restarted_in_the_middle_is_waited_for(postgres, collected, tmp_path):
    naps: list[float] = []
    happened = []

    def stop():
        if not happened:
            happened.append(postgres.stop("fast"))

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            postgres.start()

    database = Disturbed(postgres.url("faults"), FAST, stop, naps)
    database._sleep = nap
    summary, _ = read(database, tmp_path / "raw")
    assert naps == [0.25, 0.5]
    assert summary.deltas == ROWS


def test_x09_a_server_that_is_not_there_is_tried_and_named(postgres):
    naps: list[float] = []
    url = postgres.url("faults").replace(str(postgres.folder), "/nowhere")
    with pytest.raises(SourceUnavailable, match="tried 3 times") as refused:
        DatabaseSessions(Database(url, FAST, naps.append)).infos()
    assert naps == [0.25, 0.5]
    assert PASSWORD not in str(refused.value)


def test_x09_a_statement_that_takes_too_long_ends_in_an_error(postgres, collected):
    database = Database(postgres.url("faults"), replace(FAST, statement_timeout_ms=50), id)
    query = psycopg.sql.SQL("SELECT pg_sleep(10)")
    with pytest.raises(SourceUnavailable, match="statement timeout"):
        database.rows(query, {})


def test_nothing_can_be_written_even_by_one_who_may(postgres, collected):
    collected.execute(f"GRANT ALL ON rl_orderbook_sessions TO {READER}")
    database = Database(postgres.url("faults"), FAST)
    query = psycopg.sql.SQL("DELETE FROM rl_orderbook_sessions RETURNING 1")
    with pytest.raises(SourceUnavailable, match="read-only transaction"):
        database.rows(query, {})


def test_rows_that_come_meanwhile_void_the_reading(postgres, collected, tmp_path):
    def remove():
        collected.execute("DELETE FROM rl_orderbook_deltas WHERE sequence_number = 90")

    with pytest.raises(SourceChanged, match="rl_orderbook_deltas") as changed:
        read(Disturbed(postgres.url("faults"), FAST, remove, []), tmp_path / "raw")
    assert changed.value.session == 7


@pytest.mark.parametrize("url", ["", "mysql://u:secret@h/d", "postgresql://u:se cret%zz@[h/d"])
def test_a_url_that_is_none_is_refused_without_being_shown(url):
    with pytest.raises(SourceUnavailable) as refused:
        Database(url)
    assert "secret" not in str(refused.value)
    assert "cret" not in str(refused.value)


def test_the_password_is_in_no_text(postgres, collected):
    url = postgres.url("faults")
    database = Database(url, FAST, id)
    assert PASSWORD not in repr(database) + str(vars(database).keys())
    for text in (url, f"password={PASSWORD} host=x", f"password='{PASSWORD}'", ENCODED):
        shown = redacted(f"failed: {text}", url)
        assert "canary" not in shown
    wrong = url.replace(ENCODED, "canary-wrong")
    with pytest.raises(SourceUnavailable) as refused:
        DatabaseSessions(Database(wrong, FAST, id)).infos()
    assert "password authentication failed" in str(refused.value)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@contextmanager
def pooler(server, database):
    """PgBouncer in transaction mode in front of a server; gives the folder of its socket."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("no pgbouncer on this machine")
    folder = server.folder / "pooler"
    folder.mkdir(exist_ok=True)
    (folder / "users.txt").write_text(f'"{READER}" "{PASSWORD}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{database} = host={server.folder} dbname={database}\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\nlisten_port = 5432\n"
        f"auth_type = plain\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        f"default_pool_size = 2\nserver_reset_query_always = 1\nlogfile = {folder}/log\n"
    )
    who = unprivileged()
    if who:
        shutil.chown(folder, who["user"], who["group"])
        for path in folder.iterdir():
            shutil.chown(path, who["user"], who["group"])
    process = subprocess.Popen(
        [program, "-q", str(folder / "pgbouncer.ini")], cwd="/", **who,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield folder
    finally:
        process.terminate()
        process.wait(10)


def test_a_transaction_pooler_may_stand_in_between(postgres, collected, tmp_path):
    direct = read(Database(postgres.url("faults"), FAST), tmp_path / "direct")
    with pooler(postgres, "faults") as folder:
        url = postgres.url("faults").replace(str(postgres.folder), str(folder))
        # the pooler takes a moment to start: that, too, is waited for
        config = replace(FAST, tries=8)
        pooled = read(Database(url, config), tmp_path / "pooled")
        with pytest.raises(SourceUnavailable, match="read-only transaction"):
            Database(url, config).rows(psycopg.sql.SQL("CREATE TEMP TABLE t ()"), {})
    assert pooled[0] == direct[0]
    assert pooled[1].equals(direct[1])
