"""Runs are started by the code server, as ever; one whose process is gone is known to be dead.

Dagster leaves that to the code server, which sees the processes it started. Where it ends together
with them, as when a machine is switched off, nobody tells: the run would stay STARTED, with its
places in the queue and in a pool, until its time is up.
"""

import json
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEventType
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData

MACHINE_TAG = "kalshi/machine"  # where a run was started: a machine between two boots
PROC = Path("/proc")
_LOOKS_AT_A_SOCKET = 6  # a minute of run monitoring
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher, for a daemon and a code server on one machine.

    Run monitoring asks it for each run that goes on. Anything but Linux cannot be asked, nor a
    code server elsewhere; there a run is taken to go on, until `max_runtime_seconds`.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        # runs whose process was gone at the last looks, and at how many: the code server answered,
        # or did not
        self._missed: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()

    def launch_run(self, context: LaunchRunContext) -> None:
        """Remember where, and start it."""
        if machine := this_machine():
            self._instance.add_run_tags(context.dagster_run.run_id, {MACHINE_TAG: machine})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does, so that run monitoring asks."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run is there; where that cannot be known it is said to be."""
        started, here = run.tags.get(MACHINE_TAG), this_machine()
        if started is None or here is None or not _is_of_this_machine(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "started where nobody can look")
        if started != here:
            return self._lost(run, "the machine was started again meanwhile")
        number = self._process(run)
        if number is None or is_worker(number):
            self._forget(run)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return self._lost(run, f"process {number} is gone")

    def _lost(self, run: DagsterRun, why: str) -> CheckRunHealthResult:
        # a run is tried again in the moment it fails, or never: it fails once the code server has
        # answered at two looks in a row, so that it can be tried
        key = run.run_id
        if self._code_server_answers(run):
            looks, told = self._missed, "looked at once more"
            enough: int | None = 2
            self._unanswered.pop(key, None)
        else:
            # `dagster dev` gives its code server another socket at every start: the old one never
            # answers again, and the new one needs a while
            looks, told = self._unanswered, "and so is its code server"
            enough = _LOOKS_AT_A_SOCKET if "socket" in _server_of(run) else None
            self._missed.pop(key, None)
        looks[key] += 1
        if enough is None or looks[key] < enough:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"{why}; {told}")
        self._forget(run)
        return CheckRunHealthResult(WorkerStatus.FAILED, why)

    def _forget(self, run: DagsterRun) -> None:
        self._missed.pop(run.run_id, None)
        self._unanswered.pop(run.run_id, None)

    def _code_server_answers(self, run: DagsterRun) -> bool:
        client = self._get_grpc_client_for_termination(run.run_id)
        try:
            return client is None or bool(client.ping("") is not None)
        except DagsterUserCodeUnreachableError:
            return False

    def _process(self, run: DagsterRun) -> int | None:
        # None before it has told
        for entry in self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
            if told := _STARTED.search(entry.message):
                return int(told[1])
        return None


def _server_of(run: DagsterRun) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return told


def _is_of_this_machine(run: DagsterRun) -> bool:
    # a code server in another container or on another machine has processes nobody here can see
    server = _server_of(run)
    return "port" not in server or server.get("host") in {*_LOOPBACK, socket.gethostname()}


def this_machine() -> str | None:
    """A name of this machine since it was started; None where it tells none."""
    try:
        boot = PROC.joinpath("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {PROC.joinpath('self/ns/pid').readlink()}"
    except OSError:
        return None


def is_worker(number: int) -> bool:
    """Whether a process of this number lives, and is one that multiprocessing started."""
    try:
        command = PROC.joinpath(str(number), "cmdline").read_bytes()
    except OSError:
        return False
    return b"multiprocessing" in command  # empty where it has ended and nobody asked how
