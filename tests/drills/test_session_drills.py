"""Sessions on a live deployment while its processes are killed: none is lost, none made twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import dagster as dg
import psutil
import pytest
from dagster import DagsterEventType

from kalshi_pipeline import stages
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import at_once, copied, made_at_once, numbers, published

pytestmark = pytest.mark.drill

CONCURRENT = 2  # of dagster.yaml
WITHIN_S = 120.0  # a backfilled session, on a machine that does other things as well


@dataclass
class Drilled:
    """A backfill that was disturbed.

    Args:
        deployment: it goes on.
        sessions: what was asked for.
        killed: stage -> the run whose process was killed in it.
        struck: every run whose process was killed.
        ended: status of the backfill.
    """

    deployment: Deployment
    sessions: list[str]
    killed: dict[str, str] = field(default_factory=dict)
    struck: set[str] = field(default_factory=set)
    ended: str = ""

    @property
    def warehouse(self) -> Warehouse:
        return open_warehouse(str(self.deployment.warehouse))

    def runs_of(self, *sessions: str) -> list[dg.RunRecord]:
        with self.deployment.instance() as instance:
            return [
                record
                for record in instance.get_run_records()
                if record.dagster_run.tags.get("dagster/partition") in sessions
            ]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(20, id="20 sessions"),
        pytest.param(200, id="200 sessions", marks=pytest.mark.slow),
    ],
)
def drilled(
    generated: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Drilled]:
    """All sessions backfilled; the daemon and a run in each stage were killed meanwhile."""
    place = tmp_path_factory.mktemp("drilled")
    with deployed(place, "code", "web") as deployment:
        names = numbers(1001, request.param)
        copied(generated / "902", deployment.recordings, *names)
        deployment.register(*names)
        deployment.stop_sensors()
        deployment.start("daemon")
        done = Drilled(deployment, names)
        backfill = deployment.backfill(*stages.SESSION_STAGES, partitions=done.sessions)
        wait_until(lambda: len(deployment.runs()) > 2, "some runs are requested")
        deployment.kill("daemon")  # while it requests the others
        deployment.start("daemon")
        for stage in stages.SESSION_STAGES:
            done.killed[stage] = kill_in(done, stage)
        deployment.kill("daemon")  # while it waits for them
        time.sleep(2)
        deployment.start("daemon")
        done.ended = deployment.backfilled(backfill, WITHIN_S * len(done.sessions))
        wait_until(
            lambda: all(record.dagster_run.is_finished for record in done.runs_of(*done.sessions)),
            "every run is over",
        )
        yield done


def kill_in(done: Drilled, stage: str) -> str:
    """Kill the process of whichever run is in a stage, amid it; the run."""
    tried: set[str] = set()
    until = time.monotonic() + WITHIN_S * len(done.sessions)
    while time.monotonic() < until:
        with done.deployment.instance() as instance:
            going = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        for run in going:
            begun = done.deployment.warehouse / stage / f"session={run.tags['dagster/partition']}"
            if run.run_id in {*tried, *done.killed.values()} or (begun / "CURRENT").exists():
                continue
            if "dagster/parent_run_id" in run.tags:  # what is killed twice is not tried again
                continue
            tried.add(run.run_id)
            with suppress(psutil.NoSuchProcess):  # it was faster
                process = done.deployment.worker(run.run_id)
                while process.is_running() and not begun.exists():
                    time.sleep(0.001)
                process.kill()
                done.struck.add(run.run_id)
                if was_in(done.deployment, run.run_id, stage):
                    return run.run_id
    raise AssertionError(f"no run was killed in {stage}")


def was_in(deployment: Deployment, run: str, stage: str) -> bool:
    with deployment.instance() as instance:
        begun, ended = (
            {entry.step_key for entry in instance.all_logs(run, of_type=kind)}
            for kind in (DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS)
        )
    return stage in begun - ended


# --- X2 and X3: the process of a run


def test_x02_a_run_killed_in_any_stage_fails_and_is_tried_again_to_the_same_result(
    drilled, tmp_path
):
    deployment = drilled.deployment
    for run in drilled.killed.values():
        assert deployment.status(run) == "FAILURE"
        assert deployment.status(deployment.retry(run)) == "SUCCESS"
    session = next(
        record.dagster_run.tags["dagster/partition"]
        for record in drilled.runs_of(*drilled.sessions)
        if record.dagster_run.run_id == drilled.killed[stages.BOOKS]
    )
    expected = made_at_once(deployment.recordings / session, Warehouse(tmp_path))
    assert published(drilled.warehouse, session) == [made.content_hash for made in expected]


def test_x03_a_killed_run_says_what_became_of_its_process(drilled):
    for run in drilled.killed.values():
        with drilled.deployment.instance() as instance:
            told = [entry.message for entry in instance.all_logs(run)]
        # of the code server and of run monitoring, whoever looked first
        assert any("terminated by signal 9" in text or "is gone" in text for text in told)


# --- X5 and X8: a backfill


def test_x05_a_backfill_goes_on_when_its_daemon_was_killed(drilled):
    assert drilled.ended == "COMPLETED_SUCCESS"


def test_x08_every_session_of_a_backfill_is_there_and_none_was_made_twice(drilled):
    runs = [record.dagster_run for record in drilled.runs_of(*drilled.sessions)]
    succeeded = [run for run in runs if run.status is dg.DagsterRunStatus.SUCCESS]
    made = Counter(run.tags["dagster/partition"] for run in succeeded)
    assert made == dict.fromkeys(drilled.sessions, 1)
    assert {run.run_id for run in runs if run not in succeeded} <= drilled.struck
    for session in drilled.sessions:
        assert published(drilled.warehouse, session)
        for stage in stages.SESSION_STAGES:
            home = drilled.warehouse.home(stage, session)
            assert len(list(home.glob("gen=*"))) == 1


def test_x08_no_more_runs_go_on_at_once_than_the_queue_allows(drilled, record_property):
    runs = drilled.runs_of(*drilled.sessions)
    spans = [(record.start_time, record.end_time) for record in runs]
    assert at_once(spans) <= CONCURRENT
    figures = seconds_beside_the_work(drilled)
    for name, value in figures.items():
        record_property(name, value)
    print(f"{len(drilled.sessions)} sessions:", figures)
    assert figures["work"] > 0


def seconds_beside_the_work(done: Drilled) -> dict[str, float]:
    """Medians over the undisturbed sessions: their stages, their run, and all of a turn."""
    work, run, turn = [], [], []
    with done.deployment.instance() as instance:
        for record in done.runs_of(*done.sessions):
            stats = instance.get_run_stats(record.dagster_run.run_id)
            steps = instance.get_run_step_stats(record.dagster_run.run_id)
            if "dagster/parent_run_id" in record.dagster_run.tags or not stats.launch_time:
                continue
            if record.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
                continue
            spent = [step for step in steps if step.end_time and step.start_time]
            work.append(sum(step.end_time - step.start_time for step in spent))
            run.append(stats.end_time - stats.start_time)
            turn.append(stats.end_time - stats.launch_time)
    told = {"work": median(work), "run": median(run), "from launch to end": median(turn)}
    return {name: round(value, 2) for name, value in told.items()}
