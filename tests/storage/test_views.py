"""The SQL database of a warehouse: names and paths of any form, replaced in one step."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.storage.publish import STAGING
from kalshi_pipeline.storage.views import (
    DATABASE,
    Part,
    Table,
    View,
    identifier,
    literal,
    relations,
    write_database,
)


def numbers(path: Path, values: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"value": values}), path)
    return path


def ask(root: Path, query: str) -> list[tuple]:
    with duckdb.connect(root / DATABASE, read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_files_become_one_relation_with_their_keys_and_rows(tmp_path):
    parts = [
        Part(numbers(tmp_path / f"{n}.parquet", [n, n + 1]), {"session": n}) for n in (901, 32)
    ]
    write_database(tmp_path, [View("v", "two files", parts, row="row")], [])
    found = ask(tmp_path, "SELECT session, row, value FROM v ORDER BY ALL")
    assert found == [(32, 0, 32), (32, 1, 33), (901, 0, 901), (901, 1, 902)]
    assert relations(tmp_path / DATABASE) == [
        {"name": "v", "kind": "view", "rows": 4, "says": "two files"}
    ]


def test_files_of_two_versions_are_joined_by_the_names_of_their_columns(tmp_path):
    old = numbers(tmp_path / "old.parquet", [1])
    pq.write_table(pa.table({"other": ["x"], "value": [2]}), tmp_path / "new.parquet")
    parts = [Part(old, {"s": 1}), Part(tmp_path / "new.parquet", {"s": 2})]
    write_database(tmp_path, [View("v", "", parts)], [])
    assert ask(tmp_path, "SELECT s, value, other FROM v ORDER BY s") == [(1, 1, None), (2, 2, "x")]


@pytest.mark.parametrize(
    "name", ["it's", "a*b", "[ab]", "a b=c", 'say "x"', "session=7", "50%", "ü", "--x; drop"]
)
def test_a_path_of_any_form_is_one_file(tmp_path, name):
    # a pattern would read the other one, too; a key in the path would become a column
    numbers(tmp_path / "aXb" / "f.parquet", [9])
    numbers(tmp_path / "a" / "f.parquet", [9])
    part = Part(numbers(tmp_path / name / "f.parquet", [1]), {"key": name})
    write_database(
        tmp_path / name, [View("v", name, [part])], [Table(name, name, pa.table({"x": [1]}))]
    )
    assert ask(tmp_path / name, "SELECT * FROM v") == [(name, 1)]
    assert {entry["name"] for entry in relations(tmp_path / name / DATABASE)} == {"v", name}


def test_quotes_are_doubled():
    assert identifier('a"b') == '"a""b"'
    assert (literal("a'b"), literal(7), literal("")) == ("'a''b'", "7", "''")


def test_a_view_without_a_file_is_none(tmp_path):
    write_database(tmp_path, [View("v", "", [])], [])
    assert relations(tmp_path / DATABASE) == []


def test_a_reader_keeps_what_it_has_opened(tmp_path):
    first = Part(numbers(tmp_path / "1.parquet", [1]), {})
    second = Part(numbers(tmp_path / "2.parquet", [2]), {})
    write_database(tmp_path, [View("v", "", [first])], [])
    with duckdb.connect(tmp_path / DATABASE, read_only=True) as reader:
        assert reader.execute("SELECT value FROM v").fetchall() == [(1,)]
        write_database(tmp_path, [View("v", "", [second])], [])
        assert reader.execute("SELECT value FROM v").fetchall() == [(1,)]
    assert ask(tmp_path, "SELECT value FROM v") == [(2,)]


def test_a_rebuild_that_fails_leaves_the_old_database_and_nothing_else(tmp_path):
    write_database(tmp_path, [], [Table("t", "", pa.table({"x": [1]}))])
    missing = View("v", "", [Part(tmp_path / "gone.parquet", {})])
    with pytest.raises(duckdb.IOException):
        write_database(tmp_path, [missing], [])
    assert ask(tmp_path, "SELECT x FROM t") == [(1,)]
    assert list((tmp_path / STAGING).iterdir()) == []
