"""Everything published -> one file that answers SQL."""

from typing import Any

import dagster as dg

from kalshi_pipeline import plan_stages, stages
from kalshi_pipeline.assets.automation import on_any_change
from kalshi_pipeline.assets.groups import WAREHOUSE
from kalshi_pipeline.assets.published import table_metadata
from kalshi_pipeline.plans import plan_names
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.storage.views import relations
from kalshi_pipeline.warehouse_views import VIEWS_VERSION, refresh_views

_EVALUATIONS = [dg.AssetKey([name, plan_stages.EVALUATION]) for name in plan_names()]


@dg.asset(
    deps=[*stages.SESSION_STAGES, *_EVALUATIONS],
    group_name=WAREHOUSE,
    kinds={"duckdb"},
    owners=["team:evaluation"],
    tags={"stage": "queries"},
    code_version=VIEWS_VERSION,
    automation_condition=on_any_change(),
)
def warehouse_views(warehouse: WarehouseResource) -> dg.MaterializeResult[Any]:
    """Views over the current generation of everything published: `kalshi.duckdb`.

    Rebuilt aside and replaced in one step, so that whoever reads the old file is not disturbed;
    materialize it again after anything else. `docs/QUERIES.md` has examples.
    """
    database = refresh_views(warehouse.open())
    return dg.MaterializeResult(
        metadata={
            "file": dg.MetadataValue.path(str(database)),
            "relations": table_metadata(relations(database)),
        }
    )
