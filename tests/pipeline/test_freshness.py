"""Which assets may grow how old, and what the daemon says when they do."""

from __future__ import annotations

import shutil
import time
import uuid
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan, plan_names
from tests.deployment import deployed, wait_until

DAY_S = 86_400
STATE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
  ... on AssetNode { freshnessStatusInfo { freshnessStatus } } } }"""


def test_data_and_verdicts_are_daily_phases_weekly(tmp_path):
    graph = build_definitions([], str(tmp_path)).resolve_asset_graph()
    windows = {}
    for key in graph.materializable_asset_keys:
        policy = graph.get(key).freshness_policy
        if policy is not None:
            windows[key.to_user_string()] = (
                policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta(),
            )  # fmt: skip
    daily, weekly = (2, 7), (8, 15)
    expected = dict.fromkeys(
        ("raw_messages", "books", "feature_tensors", "suitable_markets", "warehouse_views"), daily
    )
    for plan in plan_names():
        expected[f"{plan}/evaluation"] = daily
        expected |= {f"{plan}/{phase.name}": weekly for phase in load_plan(plan).phases}
    assert windows == {
        name: tuple(timedelta(days=days) for days in window) for name, window in expected.items()
    }


def materialized_days_ago(instance: dg.DagsterInstance, asset: str, days: float) -> None:
    """Log a materialization as if it had been then."""
    happened = dg.AssetMaterialization(asset, partition="901")
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="session_data",
        event_specific_data=StepMaterializationData(happened),
    )
    instance.store_event(
        dg.EventLogEntry(
            error_info=None, level="debug", user_message="", run_id=str(uuid.uuid4()),
            timestamp=time.time_ns() / 1e9 - days * DAY_S, dagster_event=event,
            job_name="session_data",
        )
    )  # fmt: skip


@pytest.mark.drill
def test_the_daemon_says_fresh_then_late_then_overdue(tmp_path, generated):
    shutil.copytree(generated / "901", tmp_path / "recordings" / "901")
    with deployed(tmp_path, FRESHNESS_DAEMON_INTERVAL_SECONDS="2") as deployment:

        def state() -> str:
            told = deployment.graphql(STATE, key={"path": ["raw_messages"]})
            return str(told["assetNodeOrError"]["freshnessStatusInfo"]["freshnessStatus"])

        assert state() == "UNKNOWN"  # never materialized
        deployment.register(901)
        run = deployment.launch("raw_messages", partition="901")
        assert deployment.finished(run) == "SUCCESS", deployment.failures(run)
        for days, told in ((0, "HEALTHY"), (3, "WARNING"), (8, "DEGRADED")):
            if days:
                with deployment.instance() as instance:
                    materialized_days_ago(instance, "raw_messages", days)
            wait_until(lambda told=told: state() == told, f"{days} days old it is {told}")
