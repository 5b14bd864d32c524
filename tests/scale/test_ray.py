"""The same sessions and the same weights on a Ray cluster, and workers that are killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from kalshi_pipeline import plan_stages, stages
from kalshi_pipeline.assets.training import _seeds
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.resources.engine import Engine, engine_settings, side_by_side
from kalshi_pipeline.storage.publish import STAGING, Warehouse
from kalshi_pipeline.storage.trials import read_trials
from tests.conftest import environment_of
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import published
from tests.scale.clusters import SESSIONS, Workers, ray_cluster

pytestmark = pytest.mark.scale

QUICK = load_plan("quick")
PHASE = dg.AssetKey(["quick", "phase_1"])
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with ray_cluster(2) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(
    workers: Workers, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("on_ray"), "code", "web", **workers.variables) as found:
        shutil.copytree(recordings, found.recordings, dirs_exist_ok=True)
        found.register(*SESSIONS)
        found.stop_sensors()
        found.start("daemon")
        yield found


def test_training_through_ray_gives_the_weights_it_gives_here(
    workers, at_once, tmp_path, monkeypatch
):
    for name in ("here", "there"):
        shutil.copytree(at_once.root, tmp_path / name)
    here = plan_stages.train_phase(Warehouse(tmp_path / "here"), QUICK, QUICK.phases[0], now_ms=0)
    for name, value in workers.variables.items():
        monkeypatch.setenv(name, value)
    job = build_definitions([], str(tmp_path / "there")).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(run_config=QUIET, instance=instance, asset_selection=[PHASE])
    there = Warehouse(tmp_path / "there").current("quick/phase_1")
    assert there.verified()
    assert there.content_hash == here.content_hash
    (ran,) = [job for job in workers.jobs.list_jobs() if "kalshi/training" in (job.metadata or {})]
    assert ran.status == "SUCCEEDED"
    seen = [event for event in done.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    assert seen[-1].event_specific_data.asset_observation.metadata["timesteps"].value == 8_192


def test_the_seeds_of_a_phase_are_trained_side_by_side(workers, at_once, tmp_path, monkeypatch):
    warehouse = Warehouse(Path(shutil.copytree(at_once.root, tmp_path / "warehouse")))
    for name, value in workers.variables.items():
        monkeypatch.setenv(name, value)
    plan = replace(QUICK, seeds=2)
    (phase, *_) = plan.phases
    commands = _seeds(Engine(**engine_settings()), warehouse, plan, phase)
    side_by_side(commands, {"of": "seeds"})
    ran = [job for job in workers.jobs.list_jobs() if (job.metadata or {}).get("of") == "seeds"]
    assert [job.status for job in ran] == ["SUCCEEDED"] * 2
    assert {job.driver_node_id for job in ran} == {node.node_id for node in workers.nodes}
    told: list[int] = []
    plan_stages.train_phase(warehouse, plan, phase, lambda seed, _: told.append(seed), now_ms=0)
    assert told == []  # both were found, trained


def test_sessions_are_runs_on_the_workers_and_come_out_as_here(deployment, workers, at_once):
    made = deployment.backfill(*stages.SESSION_STAGES, partitions=["901", "951", "952"])
    assert deployment.backfilled(made) == "COMPLETED_SUCCESS"
    runs = {run.run_id for run in deployment.runs()}
    assert len(runs) == 3
    assert {workers.of(run) for run in runs} == {node.node_id for node in workers.nodes}
    warehouse = Warehouse(deployment.warehouse)
    for session in ("901", "951", "952"):
        assert published(warehouse, session) == published(at_once, session)


def test_a_session_whose_worker_is_killed_is_finished_by_another(deployment, workers, at_once):
    run = deployment.launch(*stages.SESSION_STAGES, partition="902")
    begun = deployment.warehouse / "raw_messages" / "session=902"
    lost = wait_until(lambda: workers.of(run), "it is on a worker")
    wait_until(begun.exists, "the session has begun")
    workers.kill(lost)
    assert deployment.finished(run) == "FAILURE"
    again = deployment.retry(run)
    assert deployment.finished(again) == "SUCCESS"
    assert workers.of(again) != lost
    warehouse = Warehouse(deployment.warehouse)
    assert published(warehouse, "902") == published(at_once, "902")
    for stage in stages.SESSION_STAGES:  # one generation, what was begun and not published apart
        left = [path.name for path in (deployment.warehouse / stage / "session=902").iterdir()]
        assert len([name for name in left if name not in {"CURRENT", STAGING}]) == 1, left


def test_a_run_that_waits_for_a_training_leaves_it_the_last_processor(deployment, workers):
    assert len(workers.nodes) == 1  # the other has been killed, and it has one processor
    try:
        run = deployment.launch("quick/phase_1")
        assert deployment.finished(run) == "SUCCESS", deployment.failures(run)
    finally:
        workers.add()


def test_trials_of_a_sweep_go_side_by_side_on_the_workers(workers, at_once, tmp_path):
    shutil.copytree(at_once.root, tmp_path / "warehouse")
    environment = {**environment_of(tmp_path), **workers.variables}
    command = [sys.executable, "-m", "kalshi_pipeline.cli", "sweep", "--plan", "quick",
               "--trials", "4", "--timesteps", "2048", "--side-by-side", "2"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[phase.ppo]" in done.stdout
    sweeping = [job for job in workers.jobs.list_jobs() if " sweep " in job.entrypoint]
    assert [job.status for job in sweeping] == ["SUCCEEDED"] * 2
    scored = read_trials(Warehouse(tmp_path / "warehouse")).to_pylist()
    assert len({row["recipe"] for row in scored}) == 4
