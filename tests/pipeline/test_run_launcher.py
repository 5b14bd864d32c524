"""A run whose process is gone is known to be dead, and no other one is taken for it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from kalshi_pipeline.resources import run_launcher
from kalshi_pipeline.resources.run_launcher import (
    MACHINE_TAG,
    WatchedRunLauncher,
    is_worker,
    this_machine,
)


@dg.job
def nothing():
    pass


@pytest.fixture
def worker():
    """A process as the code server starts them."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.start()
    yield process
    process.kill()
    process.join()


def health(process, machine=None, looks=2, **server):
    """What is said of a run that was started as this process by a code server."""
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {MACHINE_TAG: machine or this_machine()}
        if server:
            tags[GRPC_INFO_TAG] = json.dumps(server)
        run = instance.create_run_for_job(nothing, tags=tags)
        launcher = WatchedRunLauncher()
        launcher.register_instance(instance)
        if process is not None:
            told = f"Started process for run (pid: {process})."
            instance.report_engine_event(told, run, EngineEventData.in_process(process))
        for _ in range(looks - 1):
            launcher.check_run_worker_health(run)
        return launcher.check_run_worker_health(run)


def test_a_run_goes_on_as_long_as_its_process_lives(worker):
    assert health(worker.pid).status is WorkerStatus.RUNNING
    worker.kill()
    while is_worker(worker.pid):  # nobody has asked how it ended: it is a zombie from then on
        time.sleep(0.01)
    assert os.path.exists(f"/proc/{worker.pid}")
    assert health(worker.pid) == (WorkerStatus.FAILED, f"process {worker.pid} is gone", None, None)
    worker.join()
    assert health(worker.pid).status is WorkerStatus.FAILED


def test_a_process_that_was_missed_once_and_is_seen_again_was_not_missed(worker, monkeypatch):
    looks = iter([False, True, False, False])
    monkeypatch.setattr(run_launcher, "is_worker", lambda number: next(looks))
    assert health(worker.pid, looks=3).status is WorkerStatus.RUNNING


def test_another_process_of_its_number_is_not_taken_for_it():
    assert health(os.getpid()).status is WorkerStatus.FAILED


def test_a_run_from_before_the_machine_was_started_again_is_dead(worker):
    found = health(worker.pid, machine="another boot")
    assert (found.status, found.msg) == (
        WorkerStatus.FAILED, "the machine was started again meanwhile",
    )  # fmt: skip


def test_a_run_that_has_not_told_its_process_yet_is_given_time(worker):
    assert health(None).status is WorkerStatus.RUNNING


@pytest.mark.parametrize("machine", [None, "another boot"])
def test_a_socket_nobody_listens_on_any_more_is_not_awaited_for_ever(tmp_path, machine):
    old = str(tmp_path / "socket")
    assert health(os.getpid(), machine, looks=5, socket=old).status is WorkerStatus.RUNNING
    assert health(os.getpid(), machine, looks=6, socket=old).status is WorkerStatus.FAILED


def test_a_port_nobody_listens_on_is_awaited_for_its_code_server_comes_back_there():
    found = health(os.getpid(), looks=20, host="127.0.0.1", port=1)
    assert found.status is WorkerStatus.RUNNING


@pytest.mark.parametrize("machine", [None, "another boot"])
def test_a_run_of_a_code_server_elsewhere_is_taken_to_go_on(machine):
    found = health(os.getpid(), machine, host="code_server", port=4000)
    assert (found.status, found.msg) == (
        WorkerStatus.RUNNING, "started where nobody can look",
    )  # fmt: skip


def test_where_a_machine_tells_nothing_a_run_is_taken_to_go_on(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(run_launcher, "PROC", tmp_path)
    assert this_machine() is None
    assert health(worker.pid, machine="somewhere").status is WorkerStatus.RUNNING


@pytest.fixture
def monitored(pipeline_home):
    """The project's own instance, with run monitoring as `dagster.yaml` has it."""
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        assert instance.run_monitoring_enabled
        yield instance


def going_on(instance, process):
    """A run that was started here as this process, and has told so."""
    run = instance.create_run_for_job(nothing, tags={MACHINE_TAG: this_machine()})
    told = f"Started process for run (pid: {process})."
    instance.report_engine_event(told, run, EngineEventData.in_process(process))
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", nothing.name), run.run_id)
    return run.run_id


def test_x04_run_monitoring_fails_the_run_whose_process_is_gone_and_no_other(monitored, worker):
    dead, alive = (going_on(monitored, process) for process in (os.getpid(), worker.pid))
    for run in (dead, alive, dead, alive):  # it takes two looks
        record = monitored.get_run_record_by_id(run)
        monitor_started_run(monitored, None, record, logging.getLogger("monitoring"))
    found = [monitored.get_run_by_id(run).status.value for run in (dead, alive)]
    assert found == ["FAILURE", "STARTED"]
    messages = [entry.message for entry in monitored.all_logs(dead)]
    assert any(f"process {os.getpid()} is gone" in message for message in messages)
