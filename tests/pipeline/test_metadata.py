"""What the pages of assets show beside their lineage: columns, rows, where it was made from."""

from __future__ import annotations

import base64

import dagster as dg
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.assets.published import page_link
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.published_tables import PUBLISHED_TABLES, TENSOR_COLUMNS, tables_of
from kalshi_pipeline.storage.publish import Warehouse

SESSION = "902"
PICTURES = {
    stages.RAW: ["activity"],
    stages.BOOKS: ["spreads", "busiest market"],
    stages.TENSORS: ["features"],
    stages.SUITABLE: ["markets"],
}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return Warehouse(tmp_path_factory.mktemp("warehouse"))


@pytest.fixture(scope="module")
def shown(generated, warehouse):
    """Metadata of each data asset of one session, by the asset's name."""
    definitions = build_definitions([str(generated)], str(warehouse.root))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("session", [SESSION])
        job = definitions.resolve_job_def("session_data")
        done = job.execute_in_process(partition_key=SESSION, instance=instance)
    found = [event.materialization for event in done.get_asset_materialization_events()]
    return {entry.asset_key.to_user_string(): entry.metadata for entry in found}


@pytest.mark.parametrize("stage", stages.SESSION_STAGES)
def test_rows_are_counted(shown, warehouse, stage):
    generation = warehouse.current(stage, SESSION)
    rows = {
        entry.data["file"]: entry.data["rows"] for entry in shown[stage]["tables"].value.records
    }
    assert rows == {
        table.file: pq.read_metadata(generation.folder / table.file).num_rows
        for table in tables_of(stage)
    }
    main = generation.summary["steps"] if stage == stages.TENSORS else next(iter(rows.values()))
    assert shown[stage]["dagster/row_count"].value == main > 0


@pytest.mark.parametrize("stage", stages.SESSION_STAGES)
def test_every_column_says_what_it_holds(shown, warehouse, stage):
    columns = shown[stage]["dagster/column_schema"].value.columns
    says = TENSOR_COLUMNS if stage == stages.TENSORS else tables_of(stage)[0].columns
    assert {column.name: column.description for column in columns} == dict(says)
    if stage != stages.TENSORS:
        file = warehouse.current(stage, SESSION).folder / tables_of(stage)[0].file
        assert [column.name for column in columns] == pq.read_schema(file).names


def test_columns_are_shown_before_anything_is_materialized(tmp_path):
    graph = build_definitions([], str(tmp_path)).resolve_asset_graph()
    for table in PUBLISHED_TABLES:
        if table.asset not in stages.SESSION_STAGES or table.asset == stages.TENSORS:
            continue
        first = tables_of(table.asset)[0] is table
        name = "dagster/column_schema" if first else f"columns of {table.file}"
        found = graph.get(dg.AssetKey(table.asset)).metadata[name]
        shown = found if isinstance(found, dg.TableSchema) else found.value
        assert {c.name: c.description for c in shown.columns} == dict(table.columns)
        assert all(c.type for c in shown.columns)


def test_what_it_was_made_from_is_named_with_its_data_version_and_its_page(shown, warehouse):
    versions = {
        name: warehouse.current(name, SESSION).content_hash for name in stages.SESSION_STAGES
    }
    page = f"?view=partitions&partition={SESSION}"
    assert shown[stages.SUITABLE]["made from"].value.splitlines()[2:] == [
        f"| [{name}, session {SESSION}](/assets/{name}{page}) | `{versions[name]}` |"
        for name in (stages.BOOKS, stages.TENSORS)
    ]
    # a recording is no asset: it has a version and no page
    assert "](" not in shown[stages.RAW]["made from"].value


def test_moments_are_shown_as_dates(shown, warehouse):
    summary = warehouse.current(stages.BOOKS, SESSION).summary
    assert shown[stages.BOOKS]["started"].value * 1000 == summary["started_ms"]
    assert "started ms" not in shown[stages.BOOKS]


@pytest.mark.parametrize("stage", stages.SESSION_STAGES)
def test_its_pictures_are_shown(shown, stage):
    pictures = {name: value for name, value in shown[stage].items() if name.startswith("picture")}
    assert list(pictures) == [f"picture: {name}" for name in PICTURES[stage]]
    for name, value in pictures.items():
        head, _, data = value.value.partition(";base64,")
        assert head == f"![{name.removeprefix('picture: ')}](data:image/png"
        assert base64.b64decode(data.removesuffix(")"), validate=True).startswith(b"\x89PNG")


def test_pages_are_linked_where_the_report_server_has_them(warehouse, monkeypatch):
    monkeypatch.setenv("KALSHI_REPORT_PORT", "4004")
    page = warehouse.root / "quick" / "evaluation" / "gen=0123456789abcdef" / "report.html"
    address = "http://127.0.0.1:4004/quick/evaluation/gen=0123456789abcdef/report.html"
    assert page_link(page, warehouse) == dg.MetadataValue.url(address)
