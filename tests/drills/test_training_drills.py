"""Training and evaluation on a live deployment: killed, they end as if they had not been."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DagsterEventType

from kalshi_pipeline import plan_stages, stages
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import made_at_once

pytestmark = pytest.mark.drill

QUICK = load_plan("quick")


@pytest.fixture(scope="module")
def deployment(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All that the quick plan needs is published; nothing is trained."""
    with deployed(tmp_path_factory.mktemp("trained"), "code", "web") as found:
        for folder in sorted(generated.iterdir()):
            shutil.copytree(folder, found.recordings / folder.name)
            made_at_once(folder, open_warehouse(str(found.warehouse)))
            found.register(folder.name)
        found.stop_sensors()
        found.start("daemon")
        yield found


@pytest.fixture(scope="module")
def undisturbed(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Content hashes of the phases, trained one after the other in this process."""
    root = tmp_path_factory.mktemp("undisturbed") / "warehouse"
    for stage in stages.SESSION_STAGES:
        shutil.copytree(deployment.warehouse / stage, root / stage)
    return {
        phase.name: plan_stages.train_phase(Warehouse(root), QUICK, phase, now_ms=0).content_hash
        for phase in QUICK.phases
    }


def begun(deployment: Deployment) -> int:
    return len(list(deployment.warehouse.glob("trained_models/*/run.json")))


def trainer_of(deployment: Deployment, run: str, before: int) -> psutil.Process:
    """The trainer of a run, once it has begun a training of its own."""
    worker = deployment.worker(run)

    def found() -> psutil.Process | None:
        if begun(deployment) == before:
            return None
        return next(
            (child for child in worker.children(recursive=True)
             if "kalshi_pipeline.assets.trainer" in child.cmdline()),
            None,
        )  # fmt: skip

    process = wait_until(found, "a training has begun")
    assert isinstance(process, psutil.Process)
    return process


def weights(deployment: Deployment, phase: str) -> str:
    return open_warehouse(str(deployment.warehouse)).current(f"quick/{phase}").content_hash


def test_x02_a_killed_trainer_is_started_again_within_its_run(deployment, undisturbed):
    before = begun(deployment)
    run = deployment.launch("quick/phase_1")
    trainer_of(deployment, run, before).kill()
    assert deployment.finished(run) == "SUCCESS"
    with deployment.instance() as instance:
        retried = instance.all_logs(run, of_type=DagsterEventType.STEP_UP_FOR_RETRY)
    assert len(retried) == 1
    assert begun(deployment) == before + 1  # it was continued
    assert weights(deployment, "phase_1") == undisturbed["phase_1"]


def test_x03_a_killed_run_takes_its_trainer_along_and_another_run_goes_on(deployment, undisturbed):
    before = begun(deployment)
    run = deployment.launch("quick/phase_2")
    trainer = trainer_of(deployment, run, before)
    deployment.worker(run).kill()
    _, alive = psutil.wait_procs([trainer], timeout=60)
    assert not alive
    assert deployment.finished(run) == "FAILURE"
    # the place in the pool that the dead run held is free again, else this one would wait for ever
    assert deployment.finished(deployment.retry(run)) == "SUCCESS"
    assert begun(deployment) == before + 1
    assert weights(deployment, "phase_2") == undisturbed["phase_2"]


def test_x12_a_cancelled_training_keeps_what_it_has_and_is_not_tried_again(
    deployment, undisturbed, record_property
):
    before = begun(deployment)
    run = deployment.launch("quick/phase_3")
    trainer = trainer_of(deployment, run, before)
    asked = time.monotonic()
    deployment.terminate(run)
    _, alive = psutil.wait_procs([trainer], timeout=60)
    assert not alive
    stopped_s = time.monotonic() - asked
    assert deployment.finished(run) == "CANCELED"
    record_property("stopped_s", stopped_s)
    print(f"stopped {stopped_s:.1f} s after it was asked to")
    assert list(deployment.warehouse.glob("trained_models/*/checkpoint_*/manifest.json"))
    again = deployment.launch("quick/phase_3")
    assert deployment.finished(again) == "SUCCESS"
    assert begun(deployment) == before + 1
    assert weights(deployment, "phase_3") == undisturbed["phase_3"]
    with deployment.instance() as instance:
        assert not instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run}))


def test_x02_a_killed_evaluation_is_tried_again(deployment, undisturbed):
    assert weights(deployment, "phase_3") == undisturbed["phase_3"]
    run = deployment.launch("quick/evaluation")
    worker = deployment.worker(run)

    def started() -> bool:
        with deployment.instance() as instance:
            return bool(instance.all_logs(run, of_type=DagsterEventType.STEP_START))

    wait_until(started, "the evaluation has begun")
    worker.kill()
    assert deployment.finished(run) == "FAILURE"
    assert deployment.finished(deployment.retry(run), within_s=600) == "SUCCESS"
    published = open_warehouse(str(deployment.warehouse)).current("quick/evaluation")
    assert published.verified()
