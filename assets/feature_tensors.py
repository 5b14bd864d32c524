"""Validated books -> feature tensors."""

from typing import Any

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.automation import SESSION, on_changed_inputs
from kalshi_pipeline.assets.books import books
from kalshi_pipeline.assets.groups import FEATURES
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import picture, published, table_facts
from kalshi_pipeline.names import session_id
from kalshi_pipeline.published_tables import TENSOR_COLUMNS
from kalshi_pipeline.resources.warehouse import WarehouseResource

_COLUMNS = dg.TableSchema(
    [
        dg.TableColumn(name, "float32", description=formula)
        for name, formula in TENSOR_COLUMNS.items()
    ]
)


@dg.asset(
    deps=[books],
    partitions_def=sessions,
    group_name=FEATURES,
    kinds={"numba", "numpy"},
    owners=["team:features"],
    tags={"stage": "features"},
    metadata={"dagster/column_schema": _COLUMNS},
    code_version=stages.CODE_VERSIONS[stages.TENSORS],
    automation_condition=on_changed_inputs(SESSION),
)
def feature_tensors(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """What an agent may know at each step: 21 market and 14 temporal features, nothing ahead.

    One row a step; a step is when the agent may act. Scaling is fixed in the feature table, never
    fitted, so that training, evaluation and a live feed see the same numbers.
    """
    from kalshi_pipeline.pictures.sessions import feature_ranges

    generation = stages.build_session_tensors(warehouse.open(), session_id(context.partition_key))
    return published(
        generation,
        context,
        **picture("features", feature_ranges(generation)),
        **table_facts(generation, stages.TENSORS)
        # of the tensor, which has no header; beside it lies the index
        | {"dagster/row_count": generation.summary["steps"], "dagster/column_schema": _COLUMNS},
    )
