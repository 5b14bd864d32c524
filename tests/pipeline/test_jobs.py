"""What can be launched as one, with what the launchpad offers and what the instance is told."""

from __future__ import annotations

import dagster as dg
import pytest

from kalshi_pipeline.assets.evaluations import EvaluationRun
from kalshi_pipeline.assets.training import TrainingRun
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan, plan_names


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    return build_definitions([], str(tmp_path_factory.mktemp("warehouse")))


def assets_of(definitions, job):
    keys = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
    return {key.to_user_string() for key in keys}


@pytest.mark.parametrize(
    ("job", "stages"),
    [
        ("ingest", {"raw_messages", "books"}),
        ("features", {"feature_tensors", "suitable_markets"}),
        ("session_data", {"raw_messages", "books", "feature_tensors", "suitable_markets"}),
    ],
)
def test_a_sessions_data_is_launched_whole_or_in_parts(definitions, job, stages):
    assert assets_of(definitions, job) == stages
    launched = definitions.resolve_job_def(job)
    assert launched.partitions_def.name == "session"
    assert launched.tags["kalshi/work"] == "data"


@pytest.mark.parametrize("plan", plan_names())
def test_a_plan_is_launched_whole_or_in_parts(definitions, plan):
    phases = {f"{plan}/{phase.name}" for phase in load_plan(plan).phases}
    assert assets_of(definitions, plan) == phases | {f"{plan}/evaluation"}
    assert assets_of(definitions, f"{plan}_train") == phases
    assert assets_of(definitions, f"{plan}_evaluate") == {f"{plan}/evaluation"}
    for job in (plan, f"{plan}_train", f"{plan}_evaluate"):
        assert definitions.resolve_job_def(job).tags["kalshi/plan"] == plan


@pytest.mark.parametrize("plan", plan_names())
def test_what_trains_says_on_which_device(definitions, plan):
    for job, device in ((plan, "cpu"), (f"{plan}_train", "cpu"), (f"{plan}_evaluate", None)):
        assert definitions.resolve_job_def(job).tags.get("kalshi/accelerator") == device


def test_every_job_describes_itself_and_every_check_goes_with_its_assets(definitions):
    for job in definitions.resolve_all_job_defs():
        if job.name.startswith("__"):
            continue
        assert len(job.description or "") > 60, job.name
        checked = {key.asset_key for key in job.asset_layer.asset_graph.asset_check_keys}
        assert {key.to_user_string() for key in checked} == assets_of(definitions, job.name)


def test_one_training_and_one_evaluation_at_a_time_whoever_asks(definitions):
    graph = definitions.resolve_asset_graph()
    pools = {
        key.path[-1].split("_")[0]: graph.get(key).pools
        for key in graph.materializable_asset_keys
        if len(key.path) == 2
    }
    assert pools["phase"] == {"training"}
    assert pools["evaluation"] == {"evaluation"}


def test_the_launchpad_shows_what_can_be_set_and_its_defaults(definitions):
    config = definitions.resolve_job_def("quick").run_config["ops"]
    assert config["quick__phase_1"] == {"config": {"niceness": 0, "reports": 40}}
    assert config["quick__evaluation"] == {"config": {"open_sealed": [], "reason": ""}}
    assert set(config) == {
        "quick__phase_1",
        "quick__phase_2",
        "quick__phase_3",
        "quick__evaluation",
    }


@pytest.mark.parametrize("settings", [TrainingRun, EvaluationRun])
def test_every_setting_is_described(settings):
    for name, field in settings.model_fields.items():
        assert len(field.description or "") > 40, name
        assert not field.is_required(), name


@pytest.mark.parametrize("values", [{"niceness": 20}, {"niceness": -1}, {"reports": 0}])
def test_a_setting_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainingRun(**values)


def test_what_would_change_the_weights_cannot_be_set_in_the_launchpad(definitions):
    job = definitions.resolve_job_def("quick_train")
    for name in ("device", "seed", "timesteps"):
        config = {"ops": {"quick__phase_1": {"config": {name: 1}}}}
        with pytest.raises(dg.DagsterInvalidConfigError, match=name):
            dg.validate_run_config(job, config)
