"""Runs that end with their code server, outlive it, or meet one another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.resources.environment import open_warehouse
from tests.deployment import Deployment, deployed
from tests.drills.copies import copied, published

pytestmark = pytest.mark.drill

SESSIONS = ["1", "2", "3"]


@pytest.fixture(scope="module")
def deployment(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Three sessions that nobody has asked for."""
    with deployed(tmp_path_factory.mktemp("served"), "code", "web") as found:
        copied(generated / "902", found.recordings, *SESSIONS)
        found.register(*SESSIONS)
        found.stop_sensors()
        found.start("daemon")
        yield found


def test_x04_a_run_that_ended_with_its_code_server_is_found_and_tried_again(deployment):
    session, warehouse = SESSIONS[0], open_warehouse(str(deployment.warehouse))
    run = deployment.launch(job="session_data", partition=session)
    deployment.worker(run)
    deployment.kill("code")  # and the process of the run: nobody is left who could tell
    time.sleep(15)  # a look of run monitoring: failed now, the run would never be tried again
    assert deployment.status(run) == "STARTED"
    deployment.start("code")
    assert deployment.finished(run) == "FAILURE"
    assert any("is gone" in told for told in deployment.failures(run))
    assert deployment.finished(deployment.retry(run)) == "SUCCESS"
    assert published(warehouse, session)


def test_x04_a_run_outlives_the_code_server_alone(deployment):
    session, warehouse = SESSIONS[1], open_warehouse(str(deployment.warehouse))
    run = deployment.launch(job="session_data", partition=session)
    deployment.worker(run)
    deployment.processes.pop("code").kill()
    deployment.start("code")
    assert deployment.finished(run) == "SUCCESS"
    assert published(warehouse, session)


def test_x07_two_runs_of_one_session_at_once_publish_one_generation(deployment):
    session, warehouse = SESSIONS[2], open_warehouse(str(deployment.warehouse))
    runs = [deployment.launch(job="session_data", partition=session) for _ in range(2)]
    over, seen = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            if (warehouse.home(stages.BOOKS, session) / "CURRENT").exists():
                seen.append(warehouse.current(stages.BOOKS, session).verified())
            time.sleep(0.05)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        assert [deployment.finished(run) for run in runs] == ["SUCCESS"] * 2
    finally:
        over.set()
        reader.join()
    assert len(set(seen)) == 1
    assert published(warehouse, session)
    assert all(len(list(warehouse.home(stage, session).glob("gen=*"))) == 1
               for stage in stages.SESSION_STAGES)  # fmt: skip
