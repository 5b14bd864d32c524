"""Parquet files with changed bytes, read in a process of their own: a reader may take it down.

Run as a program with a seed and a number of files; it prints one line of JSON for its parent.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.books.schemas import BOOK_SCHEMA, MARKET_SCHEMA
from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from kalshi_pipeline.storage.tables import read_row_groups, read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA
from tests.recordings.spoilt import spoilt

LONGEST_S = 5
MEMORY = 4 << 30
SCHEMAS = {
    "books": BOOK_SCHEMA, "markets": MARKET_SCHEMA, "quarantine": QUARANTINE_SCHEMA,
    "suitable": SUITABLE_SCHEMA,
}  # fmt: skip


def a_table(schema: pa.Schema, random: Random) -> pa.Table:
    """Rows of every type a schema has, some of them missing where they may be."""

    def value(kind: pa.DataType, may_be_missing: bool = True) -> object:
        if random.random() < 0.1 and may_be_missing:
            return None
        if pa.types.is_list(kind):
            return [value(kind.value_type) for _ in range(random.randint(0, 3))]
        if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            return random.choice(("KXA-26", "KXB-26", "gap", "", "é"))
        if pa.types.is_boolean(kind):
            return random.random() < 0.5
        if pa.types.is_floating(kind):
            return random.random()
        return random.choice((0, 1, 7, random.randint(0, 100)))

    rows = [{field.name: value(field.type, field.nullable) for field in schema} for _ in range(200)]
    return pa.Table.from_pylist(rows, schema=schema)


def published(root: Path, random: Random) -> tuple[Generation, dict[str, pa.Table]]:
    """One generation with a table of each schema, stored in different ways."""
    tables = {name: a_table(schema, random) for name, schema in SCHEMAS.items()}
    with Warehouse(root).stage("changed", None, Recipe("1")) as staging:
        for name, table in tables.items():
            pq.write_table(
                table,
                staging.folder / f"{name}.parquet",
                compression=random.choice(("zstd", "none")),
                row_group_size=random.choice((50, 200)),
                use_dictionary=random.random() < 0.7,
                data_page_version=random.choice(("1.0", "2.0")),
            )
    return staging.generation, tables


def changed(content: bytes, random: Random) -> bytes:
    """A file cut short, or with one to six faults."""
    if random.random() < 0.1:
        return content[: random.randrange(len(content))]
    return spoilt(content, random)


def outcome(generation: Generation, name: str, table: pa.Table, content: bytes) -> str:
    """What becomes of a file that now has this content."""
    path = generation.folder / f"{name}.parquet"
    path.write_bytes(content)
    try:
        generation.path(path.name)
        published_bytes = True
    except CorruptFile:
        published_bytes = False
    try:
        read = read_table(path, SCHEMAS[name])
        groups = pa.concat_tables(read_row_groups(path, SCHEMAS[name]))
    except CorruptFile as error:
        named = error.value == str(path)
        return "refused" if named and not published_bytes else f"refused wrongly: {error}"
    assert read.schema == groups.schema == SCHEMAS[name]
    # as text: a changed number may be none, and NaN equals nothing
    if str(read.to_pylist()) == str(groups.to_pylist()) == str(table.to_pylist()):
        return "equal"
    # only the hash can tell: nothing of what was published ever reads as something else
    assert not published_bytes
    return "another table"


def main(seed: int, count: int) -> None:
    """Change and read files; anything but an outcome ends the process with an error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    random, found = Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        generation, tables = published(Path(place), random)
        paths = {name: generation.path(f"{name}.parquet") for name in tables}
        honest = {name: path.read_bytes() for name, path in paths.items()}
        for name, content in honest.items():
            assert outcome(generation, name, tables[name], content) == "equal"
        for _ in range(count):
            name = random.choice(list(tables))
            content = changed(honest[name], random)
            signal.alarm(LONGEST_S)
            found[outcome(generation, name, tables[name], content)] += 1
            signal.alarm(0)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
