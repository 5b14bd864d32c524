"""What an asset tells Dagster about a published generation."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.storage.publish import Generation

DESCRIBED_ROWS = 25


def published(
    generation: Generation, context: dg.AssetExecutionContext, **metadata: Any
) -> dg.MaterializeResult[Any]:
    """A materialization whose data version is the content hash.

    Args:
        generation: what the stage returned.
        context: to say in the log whether anything was computed.
        metadata: shown beside the figures the stage itself reported.
    """
    known = "unchanged, nothing was computed" if generation.reused else "computed and published"
    context.log.info(f"{known}: {generation.content_hash}")
    figures = {
        name.replace("_", " "): value
        for name, value in generation.summary.items()
        if isinstance(value, int | float | str | bool)
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(generation.content_hash),
        metadata={
            **figures,
            **metadata,
            "outcome": known,
            "folder": dg.MetadataValue.path(str(generation.folder)),
        },
    )


def parquet_facts(generation: Generation, name: str) -> dict[str, Any]:
    """Row count and column schema of one of its Parquet files."""
    file = pq.ParquetFile(generation.path(name))
    return {
        "dagster/row_count": file.metadata.num_rows,
        "dagster/column_schema": column_schema(file.schema_arrow),
    }


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema as Dagster shows it."""
    kinds = {
        field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        for field in schema
    }
    return dg.TableSchema([dg.TableColumn(name, str(kind)) for name, kind in kinds.items()])


def table_metadata(rows: list[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """The first rows of a table, as a table."""
    shown = [{key: _shown(value) for key, value in row.items()} for row in rows[:DESCRIBED_ROWS]]
    columns = [dg.TableColumn(name, _kind(shown, name)) for name in (shown[0] if shown else ())]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown], schema=dg.TableSchema(columns)
    )


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    return round(value, 3) if isinstance(value, float) else value


def _kind(rows: list[dict[str, Any]], name: str) -> str:
    kinds = {type(row[name]) for row in rows if row[name] != ""}
    numbers = {int: "int", float: "float", bool: "bool"}
    return numbers.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
