"""Validated books -> feature tensors."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.books import books
from kalshi_pipeline.assets.groups import FEATURES
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import published
from kalshi_pipeline.feature_table import TENSOR_FEATURES
from kalshi_pipeline.resources.warehouse import WarehouseResource

_COLUMNS = dg.TableSchema(
    [
        dg.TableColumn(feature.name, "float32", description=feature.formula)
        for feature in TENSOR_FEATURES
    ]
)


@dg.asset(
    deps=[books],
    partitions_def=sessions,
    group_name=FEATURES,
    kinds={"numba", "numpy"},
    owners=["team:features"],
    tags={"stage": "features"},
    code_version=stages.CODE_VERSIONS[stages.TENSORS],
)
def feature_tensors(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """What an agent may know at each step: 21 market and 14 temporal features, nothing ahead.

    One row a step; a step is when the agent may act. Scaling is fixed in the feature table, never
    fitted, so that training, evaluation and a live feed see the same numbers.
    """
    generation = stages.build_session_tensors(warehouse.open(), int(context.partition_key))
    return published(
        generation,
        context,
        **{"dagster/row_count": generation.summary["steps"], "dagster/column_schema": _COLUMNS},
    )
