"""Counting over published tables in DuckDB: bounded memory, one pass, nothing but what it is given.

The engine never opens a file: tables come through the bounded reader, a row group at a time, and
access to anything outside is switched off. `lag(...) OVER ()` and running sums follow the order of
the file and are computed as the rows stream by.

Source: DuckDB's security page (SQL is code; data files are assumed to come from a trusted writer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from kalshi_pipeline.storage.tables import count_rows, read_row_groups

_SETTINGS = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "threads": "1",  # the order of the rows is the order of the file
    "memory_limit": "1GB",
    "lock_configuration": "true",
}


class Source(NamedTuple):
    """A published table, or some of its columns."""

    path: Path
    schema: pa.Schema
    columns: Sequence[str]


def query(sql: str, sources: Mapping[str, Source], **parameters: Any) -> dict[str, list[Any]]:
    """The columns of a result.

    Args:
        sql: a constant text; `$name` stands for a parameter.
        sources: name in the text -> table; each may be read once. A column of the schema that is a
            dictionary is a number in the text, and again its string in a result's column `market`.
        parameters: values.

    Raises:
        CorruptFile: a table is not what it should be.
    """
    import duckdb

    tickers: dict[str, int] = {}
    with duckdb.connect(config=dict(_SETTINGS)) as connection:
        for name, source in sources.items():
            count_rows(source.path, source.schema)  # a foreign file is refused by name, here
            connection.register(name, _reader(source, tickers))
        result = connection.execute(sql, parameters or None)
        names = [entry[0] for entry in result.description]
        rows = result.fetchall()
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if tickers and "market" in columns:
        known = list(tickers)
        columns["market"] = [None if code is None else known[code] for code in columns["market"]]
    return columns


def _reader(source: Source, tickers: dict[str, int]) -> pa.RecordBatchReader:
    schema = pa.schema(
        [
            pa.field(name, pa.int32()) if pa.types.is_dictionary(kind) else pa.field(name, kind)
            for name, kind in ((name, source.schema.field(name).type) for name in source.columns)
        ]
    )
    return pa.RecordBatchReader.from_batches(schema, _batches(source, schema, tickers))


def _batches(
    source: Source, schema: pa.Schema, tickers: dict[str, int]
) -> Iterator[pa.RecordBatch]:
    for group in read_row_groups(source.path, source.schema, source.columns):
        for batch in group.to_batches():
            columns = [
                _codes(column, tickers) if isinstance(column, pa.DictionaryArray) else column
                for column in batch.columns
            ]
            yield pa.record_batch(columns, schema=schema)


def _codes(column: pa.DictionaryArray, tickers: dict[str, int]) -> pa.Array:
    # one number a string, over all the batches of a query
    numbers = [tickers.setdefault(text, len(tickers)) for text in column.dictionary.to_pylist()]
    return pa.array(numbers, pa.int32()).take(column.indices)
