"""What PostgreSQL's own programs are told of Dagster's database, and what nobody is told of it."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from kalshi_pipeline import cli
from kalshi_pipeline.errors import StorageError
from kalshi_pipeline.resources.environment import dagster_postgres_environment

URL = "DAGSTER_POSTGRES_URL"


@pytest.mark.parametrize("password", ["canary%zz", "100%canary", "canary%"])
def test_a_password_that_is_not_encoded_is_refused_and_not_repeated(
    password, pipeline_home, monkeypatch, capsys
):
    url = f"postgresql://u:{password}@127.0.0.1:1/d"
    monkeypatch.setenv(URL, url)
    with pytest.raises((psycopg.ProgrammingError, ValueError)):  # whose message may repeat it
        conninfo_to_dict(url)
    with pytest.raises(StorageError, match="%25") as refused:
        dagster_postgres_environment()
    assert "canary" not in "".join(traceback.format_exception(refused.value))
    for action in ("make", "restore"):
        assert cli.main(["backup", action, str(pipeline_home / "backup")]) == 1
    told = capsys.readouterr()
    assert "%25" in told.err
    assert "canary" not in told.out + told.err


def test_a_url_without_a_database_means_the_one_of_its_user(monkeypatch):
    monkeypatch.setenv(URL, "postgresql://collector:p@h")
    assert dagster_postgres_environment()["PGDATABASE"] == "collector"
    monkeypatch.setenv(URL, "postgresql://h:5433")
    with pytest.raises(StorageError, match="names no database"):
        dagster_postgres_environment()


def test_every_parameter_of_the_url_is_told_as_libpq_reads_it(monkeypatch):
    told = {
        "user": "u", "password": "p", "host": "h", "port": "5433", "dbname": "d",
        "application_name": "a", "connect_timeout": "7", "channel_binding": "require",
        "target_session_attrs": "read-write", "client_encoding": "UTF8", "sslmode": "verify-full",
        "ssl_min_protocol_version": "TLSv1.3", "sslrootcert": "/etc/ca.pem", "options": "-c x=1",
    }  # fmt: skip
    query = "&".join(f"{name}={quote(value)}" for name, value in list(told.items())[5:])
    monkeypatch.setenv(URL, f"postgresql+psycopg2://u:p@h:5433/d?{query}&keepalives=1")
    environment = dagster_postgres_environment()
    for name in [name for name in environment if name not in {"PATH", "HOME"}]:
        monkeypatch.setenv(name, environment[name])
    read = {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val
    }
    assert {name: read[name] for name in told} == told
    assert set(environment) == {
        "PATH", "HOME", "PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGDATABASE", "PGAPPNAME",
        "PGCONNECT_TIMEOUT", "PGCHANNELBINDING", "PGTARGETSESSIONATTRS", "PGCLIENTENCODING",
        "PGSSLMODE", "PGSSLMINPROTOCOLVERSION", "PGSSLROOTCERT", "PGOPTIONS",
    }  # fmt: skip
