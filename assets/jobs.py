"""What can be launched as one: the data of a session, or a whole plan."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from kalshi_pipeline.assets.automation import SESSION, TOGETHER
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.plan_stages import EVALUATION
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.stages import SESSION_STAGES

SESSION_JOB = "session_data"

session_data = dg.define_asset_job(
    SESSION_JOB,
    selection=dg.AssetSelection.assets(*SESSION_STAGES),
    partitions_def=sessions,
    tags={TOGETHER: SESSION},
    description="One session: ingest, books, features, suitable markets and their checks.",
)


def _keys(plan: Plan) -> list[dg.AssetKey]:
    made = [*(phase.name for phase in plan.phases), EVALUATION]
    return [dg.AssetKey([plan.name, name]) for name in made]


def plan_jobs(plans: Iterable[Plan]) -> list[Any]:
    """One job a plan, named after it: its phases in order, then the evaluation."""
    return [
        dg.define_asset_job(
            plan.name,
            selection=dg.AssetSelection.assets(*_keys(plan)),
            tags={TOGETHER: plan.name},
            description=f"{plan.title}: its phases in order, then the evaluation.",
        )
        for plan in plans
    ]
