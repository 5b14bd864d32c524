"""Tables are read as they were written or not at all, in memory that is known before."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage import tables
from kalshi_pipeline.storage.tables import count_rows, read_row_groups, read_table

SCHEMA = pa.schema(
    [
        ("market", pa.dictionary(pa.int32(), pa.string())),
        ("reason", pa.string()),
        ("seq", pa.int64()),
        ("valid", pa.bool_()),
        ("ranges", pa.list_(pa.list_(pa.int32()))),
    ]
)
ROWS = 700
TABLE = pa.table(
    {
        "market": ["KXA-1", None, "KXB-2", "KXA-1", "KXA-1", "KXB-2", "KXA-1"] * 100,
        "reason": ["gap", "", None, "gap", "é", "gap", "a b"] * 100,
        "seq": [*range(ROWS - 1), None],
        "valid": [True, False] * 350,
        "ranges": [[[0, 100, 1]], [], None, [[1], [2, 3]], [[]], [[4]], [None]] * 100,
    },
    schema=SCHEMA,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=150, compression="zstd")
    return tmp_path / "t.parquet"


def test_a_table_is_read_as_it_was_written(path):
    read = read_table(path, SCHEMA)
    assert read.schema == SCHEMA
    assert read.to_pylist() == TABLE.to_pylist()
    assert count_rows(path, SCHEMA) == ROWS


def test_columns_come_in_the_order_they_were_asked_for(path):
    read = read_table(path, SCHEMA, ["seq", "market"])
    assert read.column_names == ["seq", "market"]
    assert read.to_pylist() == TABLE.select(["seq", "market"]).to_pylist()


def test_row_groups_put_together_are_the_table(path):
    groups = list(read_row_groups(path, SCHEMA, ["reason", "ranges"]))
    assert [group.num_rows for group in groups] == [150, 150, 150, 150, 100]
    assert pa.concat_tables(groups).to_pylist() == TABLE.select(["reason", "ranges"]).to_pylist()


def test_an_empty_table_has_its_schema_and_no_rows(tmp_path):
    pq.write_table(SCHEMA.empty_table(), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", SCHEMA).equals(SCHEMA.empty_table())
    assert sum(g.num_rows for g in read_row_groups(tmp_path / "t.parquet", SCHEMA)) == 0


def test_text_is_text_whether_stored_or_asked_for_as_a_dictionary(path):
    at = SCHEMA.get_field_index("market")
    plain = SCHEMA.set(at, pa.field("market", pa.string()))
    read = read_table(path, plain, ["market"])
    assert read.schema.field("market").type == pa.string()
    assert read["market"].to_pylist() == TABLE["market"].to_pylist()


OTHER_SCHEMAS = {
    "a column is missing": SCHEMA.remove(4),
    "a column more": SCHEMA.append(pa.field("more", pa.int8())),
    "another type": SCHEMA.set(2, pa.field("seq", pa.int32())),
    "another name": SCHEMA.set(2, pa.field("sequence", pa.int64())),
    "another order": pa.schema([SCHEMA.field(i) for i in (1, 0, 2, 3, 4)]),
    "other lists": SCHEMA.set(4, pa.field("ranges", pa.list_(pa.int32()))),
    "never null": SCHEMA.set(2, pa.field("seq", pa.int64(), nullable=False)),
    "bytes for text": SCHEMA.set(1, pa.field("reason", pa.binary())),
}


@pytest.mark.parametrize("difference", OTHER_SCHEMAS)
def test_a_file_of_another_schema_is_refused_by_name(path, difference):
    for read in (read_table, lambda *given: list(read_row_groups(*given)), count_rows):
        with pytest.raises(CorruptFile) as refused:
            read(path, OTHER_SCHEMAS[difference])
        assert (refused.value.rule, refused.value.value) == ("schema", str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CorruptFile) as missing:
        read_table(tmp_path / "t.parquet", SCHEMA)
    assert missing.value.value == str(tmp_path / "t.parquet")


def test_a_folder_in_place_of_a_file_is_no_table(tmp_path):
    with pytest.raises(CorruptFile):
        read_table(tmp_path, SCHEMA)


def test_trouble_of_the_machine_is_not_blamed_on_the_file(path, monkeypatch):
    def too_many_open(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pq, "ParquetFile", too_many_open)
    with pytest.raises(OSError, match="Too many open files"):
        read_table(path, SCHEMA)


def test_the_limit_is_rows_times_width_whatever_the_footer_says(path):
    # 700 rows of codes (4), codes (4), 8, 1, lists (4) and the 1,000 numbers in them (8 each)
    values = sum(len(ranges or ()) for ranges in TABLE["ranges"].to_pylist())
    assert values > 0
    with pytest.raises(CorruptFile, match="bytes decoded") as refused:
        read_table(path, SCHEMA, limit_bytes=ROWS * 21)
    assert refused.value.rule == "size"
    assert read_table(path, SCHEMA, ["seq"], limit_bytes=ROWS * 8).num_rows == ROWS
    with pytest.raises(CorruptFile):
        read_table(path, SCHEMA, ["seq"], limit_bytes=ROWS * 8 - 1)


def test_a_stream_is_limited_by_its_row_groups(path):
    groups = list(read_row_groups(path, SCHEMA, ["seq"], limit_bytes=150 * 8))
    assert len(groups) == 5
    with pytest.raises(CorruptFile):
        list(read_row_groups(path, SCHEMA, ["seq"], limit_bytes=150 * 8 - 1))


def test_strings_are_counted_before_each_row_has_its_own(tmp_path, monkeypatch):
    schema = pa.schema([("reason", pa.string())])
    pq.write_table(pa.table({"reason": ["x" * 100] * 1_000}, schema), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", schema, limit_bytes=100_000).num_rows == 1_000
    with pytest.raises(CorruptFile, match="take 100,000 bytes, the longest of them 100"):
        read_table(tmp_path / "t.parquet", schema, limit_bytes=99_999)
    monkeypatch.setattr(tables, "MAX_STRING_BYTES", 99)
    with pytest.raises(CorruptFile, match="the longest of them 100"):
        read_table(tmp_path / "t.parquet", schema)


def test_a_dictionary_keeps_long_strings_once(tmp_path):
    schema = pa.schema([("market", pa.dictionary(pa.int32(), pa.string()))])
    pq.write_table(pa.table({"market": ["x" * 100] * 1_000}).cast(schema), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", schema, limit_bytes=4_000).num_rows == 1_000


def test_values_are_validated_not_believed(tmp_path):
    schema = pa.schema([("reason", pa.string())])
    bad = pa.Array.from_buffers(
        pa.binary(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    ).view(pa.string())
    pq.write_table(pa.table([bad], schema=schema), tmp_path / "t.parquet")
    with pytest.raises(CorruptFile, match="UTF"):
        read_table(tmp_path / "t.parquet", schema)


def test_rows_that_a_footer_counts_in_two_ways_or_that_are_not_there_are_no_table(tmp_path):
    path, schema = tmp_path / "t.parquet", pa.schema([pa.field("a", pa.int64(), nullable=False)])
    pq.write_table(
        pa.table({"a": [5, 6, 7]}, schema=schema), path, compression="none", use_dictionary=False
    )
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    # an i64 field of three: of the file, of its row group, and of the column's values
    three = [at for at in range(footer, len(whole) - 8) if whole[at : at + 2] == b"\x16\x06"]
    told = set()
    for changed in itertools.chain.from_iterable(
        itertools.combinations(three, count) for count in range(1, len(three) + 1)
    ):
        damaged = bytearray(whole)
        for at in changed:
            damaged[at + 1] = 8  # four
        path.write_bytes(damaged)
        try:
            assert read_table(path, schema).to_pydict() == {"a": [5, 6, 7]}
        except CorruptFile as error:
            told.add((str(error).partition(" [")[0], error.rule, error.value))
    refused = ("a footer contradicts itself", "a table has 3 rows where its footer declares 4")
    assert told == {(text, "rows", str(path)) for text in refused}
