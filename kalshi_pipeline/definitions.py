"""The composition root: all assets, checks, jobs, schedules, sensors and resources, no more."""

from __future__ import annotations

import dagster as dg

from kalshi_pipeline.assets import checks, sensors
from kalshi_pipeline.assets.books import books
from kalshi_pipeline.assets.checkpoints import phase_asset
from kalshi_pipeline.assets.evaluations import evaluation_asset
from kalshi_pipeline.assets.feature_tensors import feature_tensors
from kalshi_pipeline.assets.freshness import with_freshness
from kalshi_pipeline.assets.jobs import judging_steps, plan_jobs, session_jobs, training_steps
from kalshi_pipeline.assets.raw_messages import raw_messages
from kalshi_pipeline.assets.retraining import (
    retraining_assets,
    retraining_checks,
    retraining_sensor,
)
from kalshi_pipeline.assets.schedules import schedules
from kalshi_pipeline.assets.suitable_markets import suitable_markets
from kalshi_pipeline.assets.warehouse_views import warehouse_views
from kalshi_pipeline.plans import load_plan, plan_names
from kalshi_pipeline.resources.console import console
from kalshi_pipeline.resources.engine import Engine, engine_settings, executor
from kalshi_pipeline.resources.environment import recording_roots, warehouse_root
from kalshi_pipeline.resources.fixed import fixed
from kalshi_pipeline.resources.no_values import NoValues
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.resources.warehouse import WarehouseResource


def build_definitions(recordings: list[str], warehouse: str) -> dg.Definitions:
    """The whole pipeline over these roots.

    Args:
        recordings: folders of recordings.
        warehouse: root of everything published.
    """
    plans = [load_plan(name) for name in plan_names()]
    assets = [
        raw_messages,
        books,
        feature_tensors,
        suitable_markets,
        *(phase_asset(plan, phase) for plan in plans for phase in plan.phases),
        *(evaluation_asset(plan) for plan in plans),
        *retraining_assets(plans),
        warehouse_views,
    ]
    return dg.Definitions(
        assets=[with_freshness(made) for made in assets],
        asset_checks=[
            *checks.session_checks,
            *checks.plan_checks(plans),
            *retraining_checks(plans),
        ],
        jobs=[*session_jobs, *plan_jobs(plans)],
        schedules=schedules(plans),
        sensors=[
            *sensors.watchers,
            *sensors.automations(plans),
            retraining_sensor(plans, warehouse),
        ],
        resources={
            "recordings": fixed(Recordings, roots=recordings, warehouse=warehouse),
            "warehouse": fixed(WarehouseResource, root=warehouse),
            "engine": fixed(Engine, **engine_settings()),
            "io_manager": NoValues(),
        },
        loggers={"console": console},
        executor=executor(training_steps(plans), judging_steps(plans)),
    )


defs = build_definitions(recording_roots(), warehouse_root())
