"""`kalshi.duckdb`: SQL over everything published, in one file beside it.

The file holds views over the Parquet files of the current generations, and small tables of what
their manifests and reports say. It is rebuilt aside and replaced in one step: whoever has the old
one open keeps it, and reads the generations that were current then.

DuckDB resolves a relative path of a view against the folder of the process that asks, not of the
file that holds the view; so paths are absolute, and the file is rebuilt where the warehouse has
moved. Names and paths are quoted; nothing else ever becomes SQL.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from kalshi_pipeline.storage.publish import STAGING

DATABASE = "kalshi.duckdb"
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Part:
    """One Parquet file of a view.

    Args:
        path: the file.
        keys: columns put before its own, the same for all its rows.
    """

    path: Path
    keys: Mapping[str, int | str]


@dataclass(frozen=True)
class View:
    """Parquet files of one kind as one relation.

    Args:
        name: of the view.
        says: one line for whoever lists the views.
        parts: its files; none = there is no such view.
        row: name of a column that counts the rows of each file from 0; None = no such column.
        columns: what its columns hold.
    """

    name: str
    says: str
    parts: Sequence[Part]
    row: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A small table that the database holds itself."""

    name: str
    says: str
    rows: pa.Table


def identifier(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: int | str) -> str:
    """A value as SQL."""
    return str(int(value)) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def write_database(root: Path, views: Sequence[View], tables: Sequence[Table]) -> Path:
    """Rebuild the database of a warehouse and put it in the place of the old one.

    Args:
        root: of the warehouse.
        views: over published files; a view without a file is left out.
        tables: to be held in the database itself.

    Returns:
        The file.
    """
    import duckdb

    folder = root / STAGING / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        with duckdb.connect(folder / DATABASE) as connection:
            for table in tables:
                connection.register("rows", table.rows)
                _run(connection, f"CREATE TABLE {identifier(table.name)} AS FROM rows")
                connection.unregister("rows")
                _comment(connection, "TABLE", table)
            for view in views:
                if view.parts:
                    _run(connection, f"CREATE VIEW {identifier(view.name)} AS {_union(view)}")
                    _comment(connection, "VIEW", view)
                    _comment_columns(connection, view)
        with (folder / DATABASE).open("rb") as file:
            os.fsync(file.fileno())
        (folder / DATABASE).replace(root / DATABASE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return root / DATABASE


def relations(database: Path) -> list[dict[str, Any]]:
    """What a database holds: name, kind (view or table), rows, and what each says of itself."""
    import duckdb

    with duckdb.connect(database, read_only=True) as connection:
        found = connection.execute(
            "SELECT view_name, 'view', comment FROM duckdb_views() WHERE NOT internal "
            "UNION ALL SELECT table_name, 'table', comment FROM duckdb_tables() ORDER BY 1"
        ).fetchall()
        return [
            {"name": name, "kind": kind, "rows": _count(connection, name), "says": says or ""}
            for name, kind, says in found
        ]


def _count(connection: Any, name: str) -> int:
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {identifier(name)}").fetchall()  # noqa: S608 quoted
    return int(rows)


def _union(view: View) -> str:
    # one literal branch a file: a filter on its keys leaves the other files unread
    return " UNION ALL BY NAME ".join(_select(view, part) for part in view.parts)


def _select(view: View, part: Part) -> str:
    columns = [f"{literal(value)} AS {identifier(name)}" for name, value in part.keys.items()]
    # a bracket around a pattern's character makes it an ordinary one
    path = _PATTERN.sub(r"[\g<0>]", str(part.path))
    source = f"{literal(path)}, hive_partitioning = false"
    if view.row is not None:
        columns.append(f"file_row_number AS {identifier(view.row)}")
        source += ", file_row_number = true"
    kept = "* EXCLUDE (file_row_number)" if view.row is not None else "*"
    return f"SELECT {', '.join([*columns, kept])} FROM read_parquet({source})"  # noqa: S608 quoted


def _comment(connection: Any, kind: str, relation: View | Table) -> None:
    _run(connection, f"COMMENT ON {kind} {identifier(relation.name)} IS {literal(relation.says)}")


def _comment_columns(connection: Any, view: View) -> None:
    name = identifier(view.name)
    here = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
    for column in here:
        says = view.columns.get(column, "")
        place = f"{name}.{identifier(column)}"
        _run(connection, f"COMMENT ON COLUMN {place} IS {literal(says)}")


def _run(connection: Any, statement: str) -> None:
    connection.execute(statement).fetchall()
