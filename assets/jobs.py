"""What can be launched as one: the data of a session, or a whole plan."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as Job,
)

from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.stages import SESSION_STAGES

session_data = dg.define_asset_job(
    "session_data",
    selection=dg.AssetSelection.assets(*SESSION_STAGES),
    partitions_def=sessions,
    description="One session: ingest, books, features, suitable markets and their checks.",
)


def plan_job(plan: Plan) -> Job:
    """Train and judge a plan whose sessions are there."""
    return dg.define_asset_job(
        plan.name,
        selection=dg.AssetSelection.groups(plan.name),
        description=f"{plan.title}: its phases in order, then the evaluation.",
    )


def plan_jobs(plans: Iterable[Plan]) -> list[Job]:
    """One job a plan."""
    return [plan_job(plan) for plan in plans]
