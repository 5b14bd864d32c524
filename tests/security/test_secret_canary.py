"""A marked password in both URLs: whatever the pipeline leaves behind is searched for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import cli
from tests.deployment import Deployment, deployed, wait_until
from tests.postgres import ENCODED, PASSWORD, Server

# Databases are told by their names, so none is named after a mark.
MARKS = ("canary", PASSWORD, ENCODED, "Y2FuYXJ5")  # as it is, as the URL has it, in base64
SESSIONS = ("901", "902", "903")
STAGES = ("raw_messages", "books", "feature_tensors", "suitable_markets")
INFO = "{ instance { info } workspaceOrError { __typename } }"


def marked(content: bytes | str) -> bool:
    text = content if isinstance(content, str) else content.decode(errors="replace")
    return any(mark.lower() in text.lower() for mark in MARKS)


def strings(table: pa.Table) -> Iterator[pa.ChunkedArray]:
    for column in table.itercolumns():
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            yield column


def found_in_files(folder: Path) -> list[Path]:
    """Files with a mark in them; those of Parquet are unpacked."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        hit = marked(path.read_bytes())
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            hit |= any(
                pc.any(pc.match_substring(column, mark, ignore_case=True)).as_py()
                for column in strings(table)
                for mark in MARKS
            )
        if hit:
            found.append(path)
    return found


def found_in_database(server: Server, name: str) -> list[str]:
    """Lines with a mark in a whole database, as SQL text."""
    dumped = subprocess.run(
        [server.programs / "pg_dump", "--data-only", "--column-inserts", "--dbname",
         server.url(name, user="postgres")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "INSERT INTO public.event_logs" in dumped
    return [line[:300] for line in dumped.splitlines() if marked(line)]


@pytest.fixture
def collector(postgres: Server, pipeline_home, monkeypatch) -> str:
    """A collector's database with the sessions of the quick plan; the reader's URL."""
    name = postgres.create("collected")
    monkeypatch.setenv("DATABASE_URL", postgres.url(name, user="postgres"))
    assert cli.main(["sessions", "export", *SESSIONS, "--to-postgres"]) == 0
    with postgres.admin(name) as rows:
        rows.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    monkeypatch.delenv("DATABASE_URL")
    return name


def command_lines(live: Deployment) -> str:
    told = []
    for process in live.members():
        try:
            told.append(" ".join(process.cmdline()))
        except Exception:  # it has ended meanwhile
            continue
    return "\n".join(told)


def run_sessions(live: Deployment, stages: tuple[str, ...], *sessions: str) -> None:
    runs = [live.launch(*stages, partition=session) for session in sessions]
    seen = ""

    def over() -> bool:
        nonlocal seen
        seen += command_lines(live)
        return all(live.status(run) in {"SUCCESS", "FAILURE", "CANCELED"} for run in runs)

    wait_until(over, "the sessions are done", 900)
    assert "multiprocessing" in seen, "run workers were looked at too"
    assert not marked(seen)
    for run in runs:
        assert live.status(run) == "SUCCESS", live.failures(run)


@pytest.mark.drill
@pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["session", "plan"]
)
def test_a_marked_password_is_in_nothing_that_is_left_behind(whole, tmp_path, postgres, collector):
    place = tmp_path / "deployment"
    secrets = {
        "DATABASE_URL": postgres.url(collector),
        "DAGSTER_POSTGRES_URL": postgres.create_owned("watched"),
    }
    assert all(marked(url) for url in secrets.values())
    with deployed(place, **secrets) as live:
        live.register(*SESSIONS, "78")
        run_sessions(live, *((STAGES, *SESSIONS) if whole else (STAGES[:2], SESSIONS[2])))
        if whole:
            plan = live.launch(job="quick")
            assert live.finished(plan, 1800) == "SUCCESS", live.failures(plan)
        # and what goes wrong: no such session; a database that answers no more
        absent = live.launch("raw_messages", partition="78")
        assert live.finished(absent) == "FAILURE"
        with postgres.admin() as server:
            server.execute(f'DROP DATABASE "{collector}" WITH (FORCE)')
        gone = live.launch("raw_messages", partition="903")
        assert live.finished(gone) == "FAILURE"
        said = "\n".join(live.failures(gone))
        assert "cannot be read" in said
        assert "***" in said or "does not exist" in said
        shown = str(live.graphql(INFO)) + said + "\n".join(live.failures(absent))
        assert "PostgresRunStorage" in shown
        assert not marked(shown)
    left = place / "warehouse" / "raw_messages"
    assert list(left.rglob("messages.parquet")), "it was read from the database"
    assert bool(list(place.rglob("report.html"))) is whole
    assert list((place / "dagster_home").rglob("*.err")), "what steps print is searched too"
    assert found_in_files(place) == []
    assert found_in_database(postgres, "watched") == []


def test_the_search_finds_what_is_there(tmp_path, postgres):
    (tmp_path / "log.txt").write_text(f"failed: {ENCODED}")
    pq.write_table(pa.table({"note": [PASSWORD] * 3}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "fine.txt").write_text("nothing to see")
    assert {path.name for path in found_in_files(tmp_path)} == {"log.txt", "a.parquet"}
    name = postgres.create("searched", "CREATE TABLE event_logs (event text)")
    with psycopg.connect(postgres.url(name, user="postgres"), autocommit=True) as rows:
        rows.execute("INSERT INTO event_logs VALUES (%s), ('fine')", [PASSWORD])
    assert len(found_in_database(postgres, name)) == 1
