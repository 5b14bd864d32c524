"""The asset graph: what a stranger sees in the UI, and what it costs to load."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan, plan_names
from tests.pipeline.asset_graph import SNAPSHOT, asset_graph

SESSION_FLOW = ["raw_messages", "books", "feature_tensors", "suitable_markets"]
HEAVY = "torch stable_baselines3 great_expectations pandas duckdb matplotlib gymnasium numba"


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    root = tmp_path_factory.mktemp("warehouse")
    return build_definitions([], str(root)).resolve_asset_graph()


def parents(graph, *key):
    return sorted("/".join(p.path) for p in graph.get(dg.AssetKey(list(key))).parent_keys)


def test_sessions_flow_from_frames_to_markets(graph):
    assert parents(graph, "raw_messages") == []
    assert parents(graph, "books") == ["raw_messages"]
    assert parents(graph, "feature_tensors") == ["books"]
    assert parents(graph, "suitable_markets") == ["books", "feature_tensors"]


@pytest.mark.parametrize("plan", plan_names())
def test_phases_follow_each_other_and_end_in_the_evaluation(graph, plan):
    data = ["books", "feature_tensors", "suitable_markets"]
    assert parents(graph, plan, "phase_1") == data
    assert parents(graph, plan, "phase_2") == sorted([*data, f"{plan}/phase_1"])
    assert parents(graph, plan, "phase_3") == sorted([*data, f"{plan}/phase_2"])
    assert parents(graph, plan, "evaluation") == sorted([*data, f"{plan}/phase_3"])


def test_the_views_come_after_everything(graph):
    evaluations = [f"{plan}/evaluation" for plan in plan_names()]
    assert parents(graph, "warehouse_views") == sorted([*evaluations, *SESSION_FLOW])


@pytest.mark.parametrize("plan", plan_names())
def test_a_phase_depends_on_exactly_the_sessions_it_learns_from_and_is_chosen_on(graph, plan):
    for phase in load_plan(plan).phases:
        sessions = (*phase.sessions, *load_plan(plan).validation_sessions(phase))
        node = graph.get(dg.AssetKey([plan, phase.name]))
        for parent in ("books", "feature_tensors", "suitable_markets"):
            mapping = node.partition_mappings[dg.AssetKey(parent)]
            assert list(mapping.partition_keys) == [str(key) for key in sessions]


def test_session_assets_are_cut_by_session(graph):
    for name in SESSION_FLOW:
        assert graph.get(dg.AssetKey(name)).partitions_def.name == "session"


def test_groups_follow_the_flow_by_their_names(graph):
    def groups(*keys):
        return {graph.get(dg.AssetKey(key)).group_name for key in keys}

    assert groups("raw_messages", "books") == {"1_market_data"}
    assert groups("feature_tensors", "suitable_markets") == {"2_features"}
    for plan in plan_names():
        of_plan = {key for key in graph.materializable_asset_keys if key.path[0] == plan}
        assert {graph.get(key).group_name for key in of_plan} == {f"3_plan_{plan}"}
    assert groups("warehouse_views") == {"4_warehouse"}


def test_a_plans_job_is_its_phases_and_its_evaluation(tmp_path):
    definitions = build_definitions([], str(tmp_path))
    for plan in map(load_plan, plan_names()):
        job = definitions.resolve_job_def(plan.name)
        made = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        names = [*(phase.name for phase in plan.phases), "evaluation"]
        assert made == {f"{plan.name}/{name}" for name in names}


def test_the_graph_is_the_one_that_was_looked_at_last():
    made = asset_graph()
    fix = "the asset graph has changed; if it should: python -m tests.pipeline.asset_graph"
    assert made == SNAPSHOT.read_text(), fix


def test_every_asset_introduces_itself(graph):
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert len(node.description or "") > 80, key
        assert node.tags["stage"], key
        assert node.group_name.startswith(("1_", "2_", "3_plan_", "4_")), key
        assert all(owner.startswith("team:") for owner in node.owners), key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version, key


def test_every_asset_has_a_check_that_can_stop_what_follows(graph):
    checked = {key.asset_key for key in graph.asset_check_keys if graph.get(key).blocking}
    without = graph.materializable_asset_keys - checked
    # nothing follows the views
    assert {key.to_user_string() for key in without} == {"warehouse_views"}


def test_loading_the_definitions_imports_nothing_heavy():
    program = (
        "import sys, kalshi_pipeline.definitions;"
        f"print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_definitions_take_less_than_100_mb_beside_dagster():
    program = """
import dagster
from pathlib import Path

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
from kalshi_pipeline.definitions import defs
defs.resolve_asset_graph()
print(resident() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 10_000_000 < int(done.stdout) < 100_000_000
