"""What the database of a warehouse shows, and the example queries over it."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import stages, warehouse_views
from kalshi_pipeline.assets.warehouse_views import warehouse_views as asset
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.published_tables import tables_of
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.views import relations
from kalshi_pipeline.warehouse_views import refresh_views
from tests.queries import MAY_BE_EMPTY, PAGE, QUERIES, answers, of_plans

SESSIONS = (901, 903)


@pytest.fixture(scope="module")
def root(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of two sessions."""
    warehouse = Warehouse(tmp_path_factory.mktemp("published"))
    for session in SESSIONS:
        stages.ingest_session(warehouse, open_folder(generated / str(session)))
        stages.build_session_books(warehouse, session)
        stages.build_session_tensors(warehouse, session)
        stages.choose_session_markets(warehouse, session)
    return warehouse.root


@pytest.fixture(scope="module")
def database(root: Path) -> Path:
    return refresh_views(Warehouse(root))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(Path(shutil.copytree(root, tmp_path / "moved")))


def ask(database: Path, query: str) -> list[tuple]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("query", [query for query in QUERIES if not of_plans(query)])
def test_an_example_query_answers(database, query):
    rows = answers(database, [query])[query]
    assert rows or MAY_BE_EMPTY in query


def test_every_column_of_a_view_says_what_it_holds(database):
    silent = ask(
        database,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal "
        "AND comment IS NULL AND table_name IN (SELECT view_name FROM duckdb_views())",
    )
    assert silent == []


def test_published_files_are_the_tables_described(root):
    for stage in stages.SESSION_STAGES:
        folder = Warehouse(root).current(stage, "901").folder
        files = {path.name for path in folder.glob("*.parquet")}
        assert files == {table.file for table in tables_of(stage)}


def test_every_relation_says_what_it_is_and_has_an_example(database):
    for relation in relations(database):
        assert len(relation["says"]) > 10, relation
        if relation["name"] not in ("ladders", "markets", "tensors"):
            assert relation["name"] in PAGE.read_text(), relation


def test_views_hold_what_the_files_hold(database, root):
    for table in (table for stage in stages.SESSION_STAGES for table in tables_of(stage)):
        for session in SESSIONS if table.view else ():
            path = Warehouse(root).current(table.asset, str(session)).path(table.file)
            rows = ask(database, f"SELECT count(*) FROM {table.view} WHERE session = {session}")
            assert rows == [(pq.read_metadata(path).num_rows,)], table


def test_depletion_points_at_the_rows_of_the_books(database):
    wrong = ask(
        database,
        "SELECT count(*) FROM depletion d LEFT JOIN books b USING (session, row) "
        "WHERE b.market IS DISTINCT FROM d.market "
        "OR b.size_centi IS DISTINCT FROM -(d.traded_centi + d.cancelled_centi)",
    )
    assert wrong == [(0,)]
    assert ask(database, "SELECT count(*) > 1000 FROM depletion") == [(True,)]


def test_the_feature_sample_holds_rows_of_the_tensors(copy, monkeypatch):
    monkeypatch.setattr(warehouse_views, "SAMPLE_STEPS", 100)
    database = refresh_views(copy)
    assert ask(database, "SELECT session, count(*) FROM feature_sample GROUP BY 1 ORDER BY 1") == [
        (901, 100),
        (903, 100),
    ]
    tensors = read_tensors(copy.current(stages.TENSORS, "901").folder)
    query = "SELECT step, row, mid FROM feature_sample WHERE session = 901"
    for step, row, mid in ask(database, query):
        assert tensors.step_row[step] == row
        assert np.float32(mid) == tensors.features[step, 2]


def test_a_moved_warehouse_is_asked_after_a_rebuild(copy, root):
    database = refresh_views(copy)
    (folder,) = ask(database, "SELECT folder FROM generations WHERE session = 901 LIMIT 1")[0]
    assert Path(folder).is_relative_to(copy.root)
    shutil.rmtree(copy.root / "raw_messages" / "session=903")
    assert {session for (session,) in ask(refresh_views(copy), "SELECT session FROM messages")} == {
        901
    }


def test_a_damaged_generation_is_left_out_and_named(copy):
    manifest = copy.current(stages.BOOKS, "901").folder / "manifest.json"
    manifest.write_text("{}")
    database = refresh_views(copy)
    damaged = ask(database, "SELECT asset, session FROM generations WHERE damaged")
    assert damaged == [("books", 901)]
    assert ask(database, "SELECT DISTINCT session FROM books") == [(903,)]
    assert ask(database, "SELECT count(DISTINCT session) FROM messages") == [(2,)]


def test_a_file_that_is_gone_is_left_out_and_the_others_are_asked(copy):
    (copy.current("books", "901").folder / "segments.parquet").unlink()
    found = ask(refresh_views(copy), "SELECT DISTINCT session FROM segments")
    assert found == [(903,)]


def test_dagster_shows_what_the_database_holds(copy):
    done = dg.materialize([asset], resources={"warehouse": WarehouseResource(root=str(copy.root))})
    (event,) = done.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    names = {record.data["name"] for record in metadata["relations"].value.records}
    assert {"books", "sessions", "depletion"} <= names
    assert Path(metadata["file"].value).is_file()


def test_an_empty_warehouse_has_a_database_too(tmp_path):
    names = {entry["name"] for entry in relations(refresh_views(Warehouse(tmp_path)))}
    assert names == {"features", "row_kinds", "message_kinds"}
