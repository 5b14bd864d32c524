"""Message tables -> validated order books."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.automation import SESSION, on_changed_inputs
from kalshi_pipeline.assets.groups import MARKET_DATA
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import (
    columns_of,
    picture,
    published,
    table_facts,
    table_metadata,
)
from kalshi_pipeline.assets.raw_messages import raw_messages
from kalshi_pipeline.books.schemas import (
    BOOK_SCHEMA,
    LADDER_SCHEMA,
    MARKET_SCHEMA,
    SEGMENT_SCHEMA,
)
from kalshi_pipeline.books.traded import DEPLETION_SCHEMA
from kalshi_pipeline.books.traded_size import TRADED_SCHEMA
from kalshi_pipeline.names import session_id
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.storage.tables import read_table


@dg.asset(
    deps=[raw_messages],
    partitions_def=sessions,
    group_name=MARKET_DATA,
    kinds={"numba", "parquet"},
    owners=["team:market-data"],
    tags={"stage": "books"},
    metadata=columns_of(
        stages.BOOKS,
        BOOK_SCHEMA,
        SEGMENT_SCHEMA,
        QUARANTINE_SCHEMA,
        LADDER_SCHEMA,
        MARKET_SCHEMA,
        TRADED_SCHEMA,
        DEPLETION_SCHEMA,
    ),
    code_version=stages.CODE_VERSIONS[stages.BOOKS],
    automation_condition=on_changed_inputs(SESSION),
)
def books(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """The order book of every market after every message, cut into trusted segments.

    A message that breaks a rule goes to quarantine with its reason. Every row that came in was
    applied, is in quarantine, or precedes the first snapshot: the sum is exact. Beside the books:
    their segments, full ladders to rebuild any book, and the session's measured quality.
    """
    from kalshi_pipeline.pictures.sessions import busiest_market, spreads

    generation = stages.build_session_books(warehouse.open(), session_id(context.partition_key))
    segments = read_table(generation.path("segments.parquet"), SEGMENT_SCHEMA).to_pylist()
    return published(
        generation,
        context,
        quarantined=generation.summary["quarantined"],
        **picture("spreads", spreads(generation)),
        **picture("busiest market", busiest_market(generation)),
        **table_facts(generation, stages.BOOKS),
        **{"first segments": table_metadata(segments)},
    )
