"""Reading our own Parquet files: exact schema, bounded memory, validated values.

Arrow takes a file's word for what it holds. Here the file must have exactly the schema it was
written with, its decoded size is bounded *before* anything is decoded (rows times the width of a
row: the byte counts of a footer say nothing, 10^8 zeros are 260 KB there), and what was decoded is
validated. Strings are decoded as dictionaries, so that one long string repeated a million times
costs its length once; how long they become as plain strings is known before they do.

Source: Arrow's security page ("array data are assumed valid unless you call Validate").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.errors import CorruptFile

MAX_TABLE_BYTES = 4 << 30  # decoded, of what one call returns
MAX_STRING_BYTES = MAX_LINE_BYTES  # no string is longer than the line it came from
_CODE_BYTES = 4  # a row of a string column, as a dictionary's code


def read_table(
    path: Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    limit_bytes: int = MAX_TABLE_BYTES,
) -> pa.Table:
    """A whole table, or some of its columns.

    Args:
        path: the file.
        schema: what it must have been written with, field by field; a string column may be asked
            for as a dictionary, or the other way round.
        columns: which of them, in this order; None = all.
        limit_bytes: refused where the decoded table would be larger.

    Raises:
        CorruptFile: missing, not Parquet, of another schema, damaged, or larger than the limit.
    """
    wanted = _wanted(schema, columns)
    with _opened(path, schema) as file:
        rows = _require_room(path, wanted, file.metadata, range(file.num_row_groups), limit_bytes)
        return _trusted(path, file.read(columns=wanted.names), wanted, rows, limit_bytes)


def read_row_groups(
    path: Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    limit_bytes: int = MAX_TABLE_BYTES,
) -> Iterator[pa.Table]:
    """A table one row group at a time, so that memory stays at one; see `read_table`.

    Args:
        path: the file.
        schema: what it must have been written with.
        columns: which of them, in this order; None = all.
        limit_bytes: refused where one decoded row group would be larger.

    Raises:
        CorruptFile: as `read_table`; a later row group may be the first to show it.
    """
    wanted = _wanted(schema, columns)
    with _opened(path, schema) as file:
        for group in range(file.num_row_groups):
            rows = _require_room(path, wanted, file.metadata, [group], limit_bytes)
            table = file.read_row_group(group, wanted.names)
            yield _trusted(path, table, wanted, rows, limit_bytes)


def count_rows(path: Path, schema: pa.Schema) -> int:
    """How many rows a table has, from its footer.

    Raises:
        CorruptFile: missing, not Parquet, or of another schema.
    """
    with _opened(path, schema) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _opened(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    # every way a reader can stumble over a file ends as CorruptFile with its path
    texts = [field.name for field in schema if _is_text(field.type)]
    try:
        with pq.ParquetFile(path) as file:
            found, footer = file.schema_arrow, file.metadata
        groups = [footer.row_group(place).num_rows for place in range(footer.num_row_groups)]
        if min(groups, default=0) < 0 or sum(groups) != footer.num_rows:
            raise CorruptFile("a footer contradicts itself", rule="rows", value=str(path))
        if _plain(found) != _plain(schema):
            raise CorruptFile(
                f"a table has another schema than was written: {_difference(found, schema)}",
                rule="schema",
                value=str(path),
            )
        with pq.ParquetFile(path, metadata=footer, read_dictionary=texts) as file:
            yield file
    except FileNotFoundError as error:
        raise CorruptFile("a table's file is missing", value=str(path)) from error
    except OSError as error:
        if error.errno is not None:  # trouble of the machine, not of the file
            raise
        raise _unreadable(path, error) from error
    except (pa.ArrowException, ValueError, MemoryError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> CorruptFile:
    told = " ".join(str(error).split())[:200]
    return CorruptFile(f"a table cannot be read: {told}", rule="parquet", value=str(path))


def _wanted(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    names = schema.names if columns is None else columns
    return pa.schema([schema.field(name) for name in names])


def _require_room(
    path: Path,
    wanted: pa.Schema,
    metadata: pq.FileMetaData,
    groups: Sequence[int] | range,
    limit_bytes: int,
) -> int:
    # how many rows the groups declare, once it is known that there is room for them
    rows = total = 0
    nested = {field.name for field in wanted if pa.types.is_nested(field.type)}
    for group in groups:
        facts = metadata.row_group(group)
        rows += facts.num_rows
        total += sum(facts.num_rows * _width(field.type) for field in wanted)
        for place in range(facts.num_columns if nested else 0):
            chunk = facts.column(place)
            if chunk.path_in_schema.split(".")[0] in nested:
                total += max(0, chunk.num_values) * 8
    if total > limit_bytes:
        raise CorruptFile(
            f"a table would take {total:,} bytes decoded, more than the limit of {limit_bytes:,}",
            rule="size",
            value=str(path),
        )
    return rows


def _trusted(
    path: Path, table: pa.Table, wanted: pa.Schema, rows: int, limit_bytes: int
) -> pa.Table:
    table.validate(full=True)
    if table.num_rows != rows:
        raise CorruptFile(
            f"a table has {table.num_rows:,} rows where its footer declares {rows:,}",
            rule="rows",
            value=str(path),
        )
    strings, arrays = 0, []
    for field in wanted:
        array = table[field.name]
        if _is_text(field.type):
            longest, total = _text_bytes(array)
            strings += 0 if pa.types.is_dictionary(field.type) else total
            if longest > MAX_STRING_BYTES or strings > limit_bytes:
                raise CorruptFile(
                    f"the strings of column {field.name} would take {total:,} bytes, "
                    f"the longest of them {longest:,}",
                    rule="size",
                    value=str(path),
                )
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.table(arrays, schema=wanted)


def _text_bytes(column: pa.ChunkedArray) -> tuple[int, int]:
    # the longest string, and all of them together once every row has its own copy
    longest = total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).fill_null(0).to_numpy()
        codes = chunk.indices.drop_null().to_numpy()
        longest = max(longest, int(lengths.max(initial=0)))
        total += int(np.bincount(codes, minlength=len(lengths)) @ lengths.astype(np.int64))
    return longest, total


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind))


def _width(kind: pa.DataType) -> int:
    # bytes a row takes decoded; what lists hold is counted by their values
    if _is_text(kind) or pa.types.is_nested(kind):
        return _CODE_BYTES
    return max(1, int(kind.bit_width) // 8)


def _plain(schema: pa.Schema) -> list[tuple[str, pa.DataType, bool]]:
    # a string column is one whether it was stored as a dictionary or not
    return [
        (field.name, pa.string() if _is_text(field.type) else field.type, field.nullable)
        for field in schema
    ]


def _difference(found: pa.Schema, declared: pa.Schema) -> str:
    for theirs, ours in zip(_plain(found), _plain(declared), strict=False):
        if theirs != ours:
            return f"{theirs[0]} {theirs[1]} where {ours[0]} {ours[1]} was"
    return f"{len(found)} columns where {len(declared)} were"
