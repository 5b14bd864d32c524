"""Checkpoints -> verdicts: one evaluation a training plan."""

import json
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from kalshi_pipeline import plan_evaluation, plan_stages
from kalshi_pipeline.assets.automation import on_changed_inputs
from kalshi_pipeline.assets.checkpoints import of_sessions
from kalshi_pipeline.assets.groups import plan_group
from kalshi_pipeline.assets.published import (
    page_link,
    picture,
    published,
    table_facts,
    table_metadata,
)
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.sealed import open_for
from kalshi_pipeline.storage.publish import Generation, Warehouse


class EvaluationRun(dg.Config):
    """What a run may ask of an evaluation. How it judges is the plan's: a file, not a form."""

    open_sealed: list[int] = Field(
        default_factory=list,
        description="Sealed sessions to open for the checkpoint that is judged now, once and for "
        "good: afterwards no look at them is a first one. Empty: they stay sealed.",
    )
    reason: str = Field(
        default="",
        description="Why they are opened now; it stands in the report. Needed to open any.",
    )


def evaluation_asset(plan: Plan) -> dg.AssetsDefinition:
    """The evaluation of a plan's last phase."""
    last = plan.phases[-1].name
    tested = ", ".join(
        f"{session} ({role}{', sealed' if session in plan.sealed else ''})"
        for session, role in plan.roles.items()
    )

    @dg.asset(
        name=plan_stages.EVALUATION,
        key_prefix=[plan.name],
        deps=[*of_sessions(tuple(plan.roles)), dg.AssetDep(dg.AssetKey([plan.name, last]))],
        group_name=plan_group(plan),
        kinds={"parquet", "html"},
        owners=["team:evaluation"],
        tags={"stage": "evaluation", "plan": plan.name},
        code_version=plan_evaluation.EVALUATION_VERSION,
        automation_condition=on_changed_inputs(plan.name),
        pool="evaluation",
        description=f"The verdict on {last}: the learned policy beside every baseline, on sessions "
        f"{tested}; fees on, cross fills, liquidation marks, cluster bootstrap over Kalshi events, "
        "every candidate that was tried counted. `report.html` stands alone.",
    )
    def evaluation(
        context: dg.AssetExecutionContext, config: EvaluationRun, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[Any]:
        from kalshi_pipeline.pictures.plans import equity, intervals

        store = warehouse.open()
        open_sealed(store, plan, config)
        generation = plan_evaluation.evaluate_plan(store, plan, context.log.info)
        report = json.loads(generation.path("report.json").read_bytes())
        return published(
            generation,
            context,
            verdict=generation.summary["verdict"],
            report=page_link(generation.path("report.html"), store),
            **picture("cumulative P&L", equity(report)),
            **picture("P&L per event", intervals(report)),
            **_told(report),
            **table_facts(generation, plan_stages.EVALUATION, is_table=False),
        )

    return evaluation


def open_sealed(warehouse: Warehouse, plan: Plan, config: EvaluationRun) -> None:
    """Open what a run's config asks for, dated now, for the plan's present last checkpoint."""
    judged: Generation | None = None
    for session in config.open_sealed:
        judged = judged or warehouse.current(plan_stages.phase_name(plan, plan.phases[-1].name))
        now_ms = time.time_ns() // 1_000_000
        open_for(warehouse, session, judged.content_hash, plan.name, config.reason, now_ms)


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report is shown where the asset is: decisions first, then what they rest on."""
    chosen = report["selection"] or {}
    tables = {
        "decisions": [
            {name: decision[name] for name in ("point", "question", "when", "outcome", "action")}
            for decision in report["decisions"]
        ],
        "figures of the decisions": [
            {"point": decision["point"], **figure}
            for decision in report["decisions"]
            for figure in decision["figures"]
        ],
        "criteria": [
            {name: answer[name] for name in ("group", "text", "value", "status", "events", "note")}
            for answer in report["criteria"]
        ],
        "failure modes": [
            {name: mode[name] for name in ("mode", "status", "rule", "mitigation")}
            for mode in report["failure_modes"]
        ],
        "recommendations": report["recommendations"],
        "labels": [{"label": label, **count} for label, count in report["labels"].items()],
        "sealed sessions": report["sealed"],
        "trials by training": chosen.get("by", []),
    }
    figures = {
        "claims success": report["verdict"]["claim"],
        "trials": chosen.get("trials"),
        "effective trials": chosen.get("effective_trials"),
        "Sharpe ratio an event": chosen.get("sharpe"),
        "deflated Sharpe ratio": chosen.get("deflated_sharpe"),
        "PBO": chosen.get("pbo"),
    }
    return {
        **{name: value for name, value in figures.items() if value is not None},
        **{name: table_metadata(rows) for name, rows in tables.items() if rows},
    }
