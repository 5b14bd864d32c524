"""What an asset tells Dagster about a published generation."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.published_tables import Columns, tables_of
from kalshi_pipeline.resources.environment import report_address
from kalshi_pipeline.stages import SESSION_STAGES
from kalshi_pipeline.storage.publish import Generation, Warehouse, read_manifest

DESCRIBED_ROWS = 25
_MOMENTS = ("started_ms", "ended_ms")  # Unix milliseconds, shown as dates
_YEAR_2000_MS = 946_684_800_000  # what is less is a duration


def published(
    generation: Generation, context: dg.AssetExecutionContext, **metadata: Any
) -> dg.MaterializeResult[Any]:
    """A materialization whose data version is the content hash.

    Args:
        generation: what the stage returned.
        context: to say in the log whether anything was computed.
        metadata: shown before the figures the stage itself reported, its tables after them.
    """
    known = "unchanged, nothing was computed" if generation.reused else "computed and published"
    context.log.info(f"{known}: {generation.content_hash}")
    figures = dict(
        _figure(name, value)
        for name, value in generation.summary.items()
        if isinstance(value, int | float | str | bool)
    )
    # the UI keeps this order: what is read at a glance comes first, long tables last
    tables = {k: v for k, v in metadata.items() if isinstance(v, dg.TableMetadataValue)}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(generation.content_hash),
        metadata={
            "outcome": known,
            **{name: value for name, value in metadata.items() if name not in tables},
            **{name: value for name, value in figures.items() if name not in metadata},
            "made from": _made_from(generation, context),
            "folder": dg.MetadataValue.path(str(generation.folder)),
            **tables,
        },
    )


def _figure(name: str, value: Any) -> tuple[str, Any]:
    if name in _MOMENTS:
        return name.removesuffix("_ms"), dg.MetadataValue.timestamp(value / 1000)
    return name.replace("_", " "), value


def table_facts(generation: Generation, asset: str, *, is_table: bool = True) -> dict[str, Any]:
    """Row count and columns of its main Parquet file, and a row about each file.

    Args:
        generation: what was published.
        asset: as `published_tables.py` knows it.
        is_table: whether that file is what the asset is: its page then begins with the columns.
    """
    tables = tables_of(asset)
    files = {table.file: pq.ParquetFile(generation.path(table.file)) for table in tables}
    main = files[tables[0].file]
    return {
        "dagster/row_count": main.metadata.num_rows,
        "dagster/column_schema" if is_table else f"columns of {tables[0].file}": column_schema(
            main.schema_arrow, tables[0].columns
        ),
        "tables": table_metadata(
            [
                {
                    "file": table.file,
                    "what it holds": table.says,
                    "rows": files[table.file].metadata.num_rows,
                    "bytes": generation.path(table.file).stat().st_size,
                    "in SQL": table.view or "",
                }
                for table in tables
            ]
        ),
    }


def columns_of(asset: str, *schemas: pa.Schema) -> dict[str, Any]:
    """What an asset's definition shows of its tables, before anything is materialized.

    Args:
        asset: as `published_tables.py` knows it.
        schemas: of its tables, in that order.
    """
    first, *others = (
        (table.file, column_schema(schema, table.columns))
        for table, schema in zip(tables_of(asset), schemas, strict=True)
    )
    shown = {
        f"columns of {file}": dg.MetadataValue.table_schema(columns) for file, columns in others
    }
    return {"dagster/column_schema": first[1], **shown}


def column_schema(schema: pa.Schema, says: Columns) -> dg.TableSchema:
    """An Arrow schema as Dagster shows it, with what each column holds."""
    kinds = {
        field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        for field in schema
    }
    return dg.TableSchema(
        [dg.TableColumn(name, str(kind), says.get(name)) for name, kind in kinds.items()]
    )


def _made_from(generation: Generation, context: dg.AssetExecutionContext) -> dg.MetadataValue[Any]:
    # each input, the data version it had, and a way to its page
    inputs = read_manifest(generation.folder)["recipe"]["inputs"]
    own = context.partition_key if context.has_partition_key else None
    rows = [
        f"| {_upstream(name, context, own)} | `{version}` |" for name, version in inputs.items()
    ]
    return dg.MetadataValue.md("\n".join(["| input | data version |", "|---|---|", *rows]))


def _upstream(name: str, context: dg.AssetExecutionContext, own: str | None) -> str:
    asset, _, session = name.partition("/")
    parents = {key.path[-1]: key for key in context.assets_def.keys_by_input_name.values()}
    if asset not in parents:
        return name  # a recording, or the ledger of trials
    page = "/assets/" + "/".join(parents[asset].path)
    session = session or (own if asset in SESSION_STAGES and own else "")
    if not session:
        return f"[{name}]({page})"
    return f"[{asset}, session {session}]({page}?view=partitions&partition={session})"


def page_link(page: Path, warehouse: Warehouse) -> dg.MetadataValue[Any]:
    """A page of the warehouse as a link that opens from Dagster's: `kalshi report serve` has it.

    A browser follows no link from a page of the web to a file of the machine.
    """
    path = page.relative_to(warehouse.root).as_posix()
    return dg.MetadataValue.url(f"{report_address()}/{quote(path, safe='/=')}")


def picture(name: str, png: bytes | None) -> dict[str, dg.MetadataValue[Any]]:
    """A small picture, which Dagster keeps and shows where it is asked for; none where none is."""
    if png is None:
        return {}
    data = base64.b64encode(png).decode()
    return {f"picture: {name}": dg.MetadataValue.md(f"![{name}](data:image/png;base64,{data})")}


def table_metadata(rows: list[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """The first rows of a table, as a table."""
    shown = [{k: _shown(k, value) for k, value in row.items()} for row in rows[:DESCRIBED_ROWS]]
    columns = [dg.TableColumn(name, _kind(shown, name)) for name in (shown[0] if shown else ())]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown], schema=dg.TableSchema(columns)
    )


def _shown(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if name.endswith("_ms") and isinstance(value, int) and value > _YEAR_2000_MS:
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return round(value, 3) if isinstance(value, float) else value


def _kind(rows: list[dict[str, Any]], name: str) -> str:
    kinds = {type(row[name]) for row in rows if row[name] != ""}
    numbers = {int: "int", float: "float", bool: "bool"}
    return numbers.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
