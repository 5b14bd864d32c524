"""Recordings -> message tables."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.automation import on_changed_code
from kalshi_pipeline.assets.groups import MARKET_DATA
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import columns_of, picture, published, table_facts
from kalshi_pipeline.names import session_id
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.resources.warehouse import WarehouseResource


@dg.asset(
    partitions_def=sessions,
    group_name=MARKET_DATA,
    kinds={"parquet"},
    owners=["team:market-data"],
    tags={"stage": "ingest"},
    metadata=columns_of(stages.RAW, MESSAGE_SCHEMA, QUARANTINE_SCHEMA),
    code_version=stages.CODE_VERSIONS[stages.RAW],
    automation_condition=on_changed_code(),
)
def raw_messages(
    context: dg.AssetExecutionContext, recordings: Recordings, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """Every frame a collector received in one session, decoded into one table.

    Both generations of Kalshi's wire format, or the rows of a collector's database; exact integers;
    what cannot be read is kept in a quarantine table with its byte offset or row id. The raw
    capture itself is never changed.
    """
    from kalshi_pipeline.pictures.sessions import activity

    recording = recordings.sources().open(session_id(context.partition_key), context.log.info)
    generation = stages.ingest_session(warehouse.open(), recording)
    if generation.summary.get("ladder_convention") == "mixed":
        context.log.warning("snapshots of both ladder conventions in one session")
    return published(
        generation,
        context,
        title=recording.info.title,
        generated=recording.info.generated,
        **picture("activity", activity(generation)),
        **table_facts(generation, stages.RAW),
    )
