"""Recordings -> message tables."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import parquet_facts, published
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.resources.warehouse import WarehouseResource


@dg.asset(
    partitions_def=sessions,
    group_name="market_data",
    kinds={"parquet"},
    owners=["team:market-data"],
    code_version=stages.CODE_VERSIONS[stages.RAW],
)
def raw_messages(
    context: dg.AssetExecutionContext, recordings: Recordings, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """Every frame a collector received in one session, decoded into one table.

    Both generations of Kalshi's wire format; exact integers; lines that cannot be read are kept in
    a quarantine table with their byte offset. The raw capture itself is never changed.
    """
    recording = recordings.sources().open(int(context.partition_key), context.log.info)
    generation = stages.ingest_session(warehouse.open(), recording)
    return published(
        generation,
        context,
        title=recording.info.title,
        generated=recording.info.generated,
        **parquet_facts(generation, "messages.parquet"),
    )
