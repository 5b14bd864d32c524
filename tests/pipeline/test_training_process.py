"""Training in a process of its own: killed, left alone or asked to stop, it is continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse
from tests.test_stages import materialize

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
PHASE = dg.AssetKey(["quick", "phase_1"])
ASK = """
import sys
import dagster as dg
from kalshi_pipeline.definitions import build_definitions
from dagster._utils.interrupts import setup_interrupt_handlers, capture_interrupts
setup_interrupt_handlers()
job = build_definitions([sys.argv[1]], sys.argv[2]).resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.ephemeral() as instance, capture_interrupts():
    done = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["quick", "phase_1"])], raise_on_error=False
    )
sys.exit(0 if done.success else 1)
"""


@pytest.fixture(scope="module")
def recordings(generated):
    return str(generated)


@pytest.fixture
def warehouse(recordings, tmp_path):
    """A warehouse in which phase 1 of the quick plan can be trained."""
    root = tmp_path / "warehouse"
    for session in ("901", "902"):
        materialize(Warehouse(root), Path(recordings, session))
    return str(root)


def trained(recordings, root):
    """Materialize the phase in this process, its trainer beside it."""
    job = build_definitions([recordings], root).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            run_config=QUIET, instance=instance, asset_selection=[PHASE], raise_on_error=False
        )


def trainer_of(parent, root, within_s=60.0, runs="*"):
    """The trainer under a process, once it has begun its run."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for child in psutil.Process(parent).children(recursive=True):
            begun = list(Path(root).glob(f"trained_models/{runs}/run.json"))
            if begun and "kalshi_pipeline.assets.trainer" in child.cmdline():
                return child
        time.sleep(0.02)
    raise AssertionError("no trainer")


def weights(root):
    return open_warehouse(root).current("quick/phase_1").content_hash


@pytest.mark.drill
def test_a_trainer_that_is_killed_is_started_again_and_ends_as_if_it_had_not_been(
    recordings, warehouse
):
    killed = threading.Thread(target=lambda: trainer_of(os.getpid(), warehouse).kill())
    killed.start()
    done = trained(recordings, warehouse)
    killed.join()
    assert done.success
    retried = [event for event in done.all_events if event.is_step_up_for_retry]
    assert len(retried) == 1
    observed = [event for event in done.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    assert observed[-1].event_specific_data.asset_observation.metadata["timesteps"].value == 8_192
    assert len(list(Path(warehouse).glob("trained_models/*/run.json"))) == 1


def test_what_cannot_be_trained_is_refused_in_a_sentence_and_not_tried_again(recordings, tmp_path):
    done = trained(recordings, str(tmp_path / "empty"))
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "NotPublished" in failure.step_failure_data.error.message
    assert "901" in failure.step_failure_data.error.message
    assert not [event for event in done.all_events if event.is_step_up_for_retry]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 1), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_cancelled_or_killed_takes_its_trainer_along_and_is_continued(
    recordings, warehouse, sent, code
):
    run = subprocess.Popen([sys.executable, "-c", ASK, recordings, warehouse])
    trainer = trainer_of(run.pid, warehouse)
    run.send_signal(sent)
    assert run.wait(30) == code
    _, alive = psutil.wait_procs([trainer], timeout=20)
    assert not alive
    assert list(Path(warehouse).glob("trained_models/*/checkpoint_*"))
    assert trained(recordings, warehouse).success
    continued = weights(warehouse)
    assert len(list(Path(warehouse).glob("trained_models/*/run.json"))) == 1
    (Path(warehouse) / "quick" / "phase_1" / "CURRENT").unlink()
    assert trained(recordings, warehouse).success
    assert weights(warehouse) == continued
