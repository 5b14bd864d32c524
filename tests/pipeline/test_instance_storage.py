"""Dagster's own state: SQLite without any setting, PostgreSQL by one environment variable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.runs import SqliteRunStorage
from dagster_postgres import PostgresRunStorage

from kalshi_pipeline.errors import StorageError
from kalshi_pipeline.resources.instance_storage import with_driver
from tests.deployment import deployed
from tests.postgres import ENCODED, PASSWORD

SECRETS = (PASSWORD, ENCODED, "canary")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_the_url_names_the_driver_dagster_has(scheme):
    assert with_driver(f"{scheme}://u:p@h/d?x=1") == "postgresql+psycopg2://u:p@h/d?x=1"


@pytest.mark.parametrize(
    "url", ["mysql://u:canary@h/d", "canary", "postgresql+asyncpg://u:canary@h/d"]
)
def test_another_url_is_refused_and_not_repeated(url, pipeline_home, monkeypatch):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    with pytest.raises(StorageError, match="not a postgresql:// URL") as refused:
        dg.DagsterInstance.get()
    assert "canary" not in str(refused.value)


def test_without_the_variable_state_lies_in_sqlite_under_the_home(pipeline_home):
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_storage, SqliteRunStorage)
        instance.add_dynamic_partitions("session", ["7"])
    assert (pipeline_home / "dagster_home" / "history" / "runs.db").is_file()


def test_with_the_variable_state_lies_in_postgresql(pipeline_home, monkeypatch, postgres):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres.create_owned("dagster"))
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_storage, PostgresRunStorage)
        instance.add_dynamic_partitions("session", ["7"])
        handed_on = str(instance.get_ref()) + instance.info_str()
    assert not any(secret in handed_on for secret in SECRETS)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("session") == ["7"]
    assert not (pipeline_home / "dagster_home" / "history").exists()


def test_a_database_that_does_not_answer_is_named_without_its_password(
    pipeline_home, monkeypatch, postgres, caplog
):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres.url("absent"))
    with pytest.raises(StorageError, match='"absent" does not exist') as refused:
        dg.DagsterInstance.get()
    said = str(refused.value) + caplog.text
    assert not any(secret in said for secret in SECRETS)


def test_choosing_the_storage_loads_nothing_heavy():
    program = (
        "import sys, kalshi_pipeline.resources.instance_storage;"
        "print([m for m in ('numpy', 'numba', 'pyarrow', 'psycopg2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.drill
def test_a_deployment_keeps_its_state_in_postgresql(tmp_path: Path, postgres):
    url = postgres.create_owned("deployment")
    with deployed(tmp_path, DAGSTER_POSTGRES_URL=url) as live:
        live.register(903)
        run = live.launch("raw_messages", partition="903")
        assert live.finished(run) == "SUCCESS", live.failures(run)
    assert not (live.home / "history").exists()
    with postgres.admin("deployment") as database:
        statuses = dict(database.execute("SELECT run_id, status FROM runs").fetchall())
        beats = database.execute("SELECT count(*) FROM daemon_heartbeats").fetchone()
    assert statuses[run] == "SUCCESS"
    assert beats is not None
    assert beats[0] > 0
    # what one process hands to another: command lines, and the files under the home
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert not any(secret.encode() in path.read_bytes() for secret in SECRETS), path
    # another deployment of the same variable finds it
    with deployed(tmp_path, DAGSTER_POSTGRES_URL=url) as again:
        assert again.status(run) == "SUCCESS"
        assert again.runs()[0].tags["dagster/partition"] == "903"
