"""The command line and an asset on a database's sessions; the password is nowhere."""

from __future__ import annotations

import json
import logging

import dagster as dg
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.assets.raw_messages import raw_messages
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.resources.warehouse import WarehouseResource

CANARY = "canary"


@pytest.fixture
def database(postgres, pipeline_home, monkeypatch):
    """A database with a generated session, exported under the id 77; read through DATABASE_URL."""
    name = postgres.create("pipeline")
    monkeypatch.setenv("DATABASE_URL", postgres.url(name, user="postgres"))
    command = ["sessions", "export", "903", "--to-postgres", "--as", "77"]
    assert cli.main([*command, "--collector", "faulty"]) == 0
    with postgres.admin(name) as rows:
        rows.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    monkeypatch.setenv("DATABASE_URL", postgres.url(name))
    return pipeline_home


def said(capsys, *arguments, code=0):
    capsys.readouterr()
    assert cli.main(list(arguments)) == code
    captured = capsys.readouterr()
    assert CANARY not in captured.out + captured.err
    return captured


def test_sessions_of_the_database_are_listed_analyzed_and_viewed(database, capsys):
    listed = json.loads(said(capsys, "sessions", "list", "--json").out)
    entry = next(entry for entry in listed if entry["session_id"] == 77)
    assert entry["source"] == "database"
    facts = json.loads(said(capsys, "sessions", "analyze", "77", "--json").out)
    assert facts["generated"] is True
    assert facts["deltas"] > 0
    assert facts["markets"] > 0
    assert "mid" in said(capsys, "sessions", "view", "77").out
    absent = said(capsys, "sessions", "analyze", "32", code=1)
    assert "the database has no such session" in absent.err
    assert "session 32" in absent.err


def test_the_password_is_in_no_log_metadata_or_file(database, caplog, postgres):
    home = database
    caplog.set_level(logging.DEBUG)
    resources = {
        "recordings": Recordings(roots=[], warehouse=str(home / "warehouse")),
        "warehouse": WarehouseResource(root=str(home / "warehouse")),
    }
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("session", ["77", "78"])
        done = dg.materialize(
            [raw_messages], partition_key="77", resources=resources, instance=instance
        )
        assert done.success
        shown = done.asset_materializations_for_node("raw_messages")[0].metadata
        assert shown["ladder convention"].value == "legacy"
        assert shown["recovery policy"].value == "uncross"
        postgres.create("pipeline")  # the tables are gone: the next one fails
        failed = dg.materialize(
            [raw_messages], partition_key="78", resources=resources, instance=instance,
            raise_on_error=False,
        )  # fmt: skip
        assert not failed.success
        texts = [str(record) for run in (done, failed) for record in instance.all_logs(run.run_id)]
    assert any("lacks a table" in text for text in texts)
    assert CANARY not in "".join(texts) + caplog.text
    for path in home.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
