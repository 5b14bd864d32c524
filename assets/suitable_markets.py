"""Books and steps -> the markets worth an episode."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.automation import SESSION, on_changed_inputs
from kalshi_pipeline.assets.books import books
from kalshi_pipeline.assets.feature_tensors import feature_tensors
from kalshi_pipeline.assets.groups import FEATURES
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import (
    DESCRIBED_ROWS,
    columns_of,
    picture,
    published,
    table_facts,
    table_metadata,
)
from kalshi_pipeline.names import session_id
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA


@dg.asset(
    deps=[books, feature_tensors],
    partitions_def=sessions,
    group_name=FEATURES,
    kinds={"parquet"},
    owners=["team:features"],
    tags={"stage": "suitability"},
    metadata=columns_of(stages.SUITABLE, SCHEMA),
    code_version=stages.CODE_VERSIONS[stages.SUITABLE],
    automation_condition=on_changed_inputs(SESSION),
)
def suitable_markets(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """Markets with at least 50 steps, in at least 2 quarters of their observed life.

    Every market is listed, with the reason where it is left out, and with its activity tier,
    temporal pattern, spread, volatility and traded size. Two universes: chosen with the whole
    session in sight, and causally from its first part.
    """
    from kalshi_pipeline.pictures.sessions import market_map

    generation = stages.choose_session_markets(warehouse.open(), session_id(context.partition_key))
    table = read_table(generation.path("suitable_markets.parquet"), SCHEMA)
    return published(
        generation,
        context,
        **picture("markets", market_map(generation)),
        **table_facts(generation, stages.SUITABLE),
        **{"most active markets": table_metadata(table.slice(0, DESCRIBED_ROWS).to_pylist())},
    )
