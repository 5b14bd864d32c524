"""Checkpoints -> verdicts: one evaluation a training plan."""

from typing import Any

import dagster as dg

from kalshi_pipeline import plan_evaluation, plan_stages
from kalshi_pipeline.assets.checkpoints import of_sessions
from kalshi_pipeline.assets.published import parquet_facts, published
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.resources.warehouse import WarehouseResource


def evaluation_asset(plan: Plan) -> dg.AssetsDefinition:
    """The evaluation of a plan's last phase."""
    last = plan.phases[-1].name
    tested = ", ".join(f"{session} ({role})" for session, role in plan.roles.items())

    @dg.asset(
        name=plan_stages.EVALUATION,
        key_prefix=[plan.name],
        deps=[*of_sessions(tuple(plan.roles)), dg.AssetDep(dg.AssetKey([plan.name, last]))],
        group_name=plan.name,
        kinds={"parquet", "html"},
        owners=["team:evaluation"],
        code_version=plan_evaluation.EVALUATION_VERSION,
        description=f"The verdict on {last}: the learned policy beside Hold, random, each action "
        f"forever and a passive quoter, on sessions {tested}; fees on, cross fills, liquidation "
        "marks, cluster bootstrap over Kalshi events. `report.html` stands alone.",
    )
    def evaluation(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[Any]:
        generation = plan_evaluation.evaluate_plan(warehouse.open(), plan, context.log.info)
        return published(
            generation,
            context,
            report=dg.MetadataValue.url(generation.path("report.html").as_uri()),
            **parquet_facts(generation, "ledger.parquet"),
        )

    return evaluation
