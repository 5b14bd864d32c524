"""A real deployment in a temporary folder: code server, daemon and web server as processes.

As in production they are started, killed and started again one by one; runs are launched through
the web server's GraphQL, as the UI does it, and their steps run in run workers of the daemon's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster import DagsterEventType

ROOT = Path(__file__).parents[1]
LOCATION = "kalshi_pipeline"
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
WORKSPACE = """
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: kalshi_pipeline}}
"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message } } }"""
TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) {
  __typename
  ... on TerminateRunFailure { message }
  ... on PythonError { message } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
  __typename
  ... on LaunchBackfillSuccess { backfillId }
  ... on PythonError { message } } }"""
SENSORS = """query($where: RepositorySelector!) { sensorsOrError(repositorySelector: $where) {
  ... on Sensors { results { sensorState { id status } } } } }"""
STOP_SENSOR = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"
RELOAD = """mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename
  ... on WorkspaceLocationEntry { loadStatus }
  ... on PythonError { message } } }"""

SENSOR = """query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
  ... on Sensor { id sensorState { status } } } }"""
START = """mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) {
  __typename ... on PythonError { message } } }"""
STOP = """mutation($id: String!) { stopSensor(id: $id) {
  __typename ... on PythonError { message } } }"""
LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  locationOrLoadError { __typename } } } } }"""


def free_port() -> int:
    """A TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(happened: Callable[[], Any], what: str, within_s: float = 300.0) -> Any:
    """What `happened` returns once that is true.

    Raises:
        AssertionError: it was not, in time.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if found := happened():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {within_s:g} s")


@dataclass
class Deployment:
    """Processes over one `DAGSTER_HOME`, one warehouse and one folder of recordings.

    Args:
        place: temporary folder; everything lies under it.
        variables: further environment of all three processes.
    """

    place: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home, self.warehouse, self.recordings = (
            self.place / name for name in ("dagster_home", "warehouse", "recordings")
        )
        for folder in (self.home, self.warehouse, self.recordings):
            folder.mkdir(parents=True, exist_ok=True)
        if not (self.home / "dagster.yaml").exists():
            shutil.copy(ROOT / "dagster.yaml", self.home)
        self.ports = {"code": free_port(), "web": free_port()}
        self.workspace = self.place / "workspace.yaml"
        self.workspace.write_text(WORKSPACE.format(port=self.ports["code"]))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Of the web server."""
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: this deployment's folders, and nothing of the machine's own."""
        foreign = ("KALSHI_", "DATABASE_URL", "DAGSTER_", "PYTHONDONTWRITEBYTECODE")
        kept = {name: v for name, v in os.environ.items() if not name.startswith(foreign)}
        return {
            **kept,
            "DAGSTER_HOME": str(self.home),
            "KALSHI_WAREHOUSE": str(self.warehouse),
            "KALSHI_RECORDINGS": str(self.recordings),
            **self.variables,
        }

    def command(self, name: str) -> list[str]:
        """What starts one of `code`, `daemon`, `web`."""
        loopback = ["-h", "127.0.0.1", "-p"]
        program, *rest = {
            "code": ["dagster", "code-server", "start", "-m", "kalshi_pipeline.definitions",
                     *loopback, str(self.ports["code"])],
            "daemon": ["dagster._daemon", "run", "-w", str(self.workspace)],
            "web": ["dagster_webserver", *loopback, str(self.ports.get("web")),
                    "-w", str(self.workspace)],
        }[name]  # fmt: skip
        return [sys.executable, "-m", program, *rest]

    def start(self, *names: str) -> None:
        """Start these processes, all three where none is named; returns when they answer."""
        for name in names or ("code", "daemon", "web"):
            with (self.place / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    self.command(name), cwd=self.place, env=self.environment,
                    stdout=log, stderr=subprocess.STDOUT,
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )  # fmt: skip
            if name == "code":
                wait_until(lambda: self._listens("code"), "the code server listens")
            if name == "web":
                wait_until(self._serves, "the web server answers with a loaded code location")

    def kill(self, name: str) -> None:
        """End a process and all it started at once, as a machine that dies would."""
        process = self.processes.pop(name)
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            member.kill()
        process.wait(30)

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as a service manager does; what that was."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        if ended:
            self.start(*ended)
        return ended

    def stop(self) -> None:
        """End everything, runs included, and leave no process."""
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                self.kill(name)
        for left in self.members():
            left.kill()

    def members(self) -> list[psutil.Process]:
        """Every living process of this deployment, run workers and trainers included."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("DAGSTER_HOME") == str(self.home)
            except (psutil.Error, OSError):
                continue
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the web server.

        Raises:
            AssertionError: it answers with errors.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.address}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told["errors"]
        return dict(told["data"])

    def launch(
        self,
        *assets: str,
        job: str = "__ASSET_JOB",
        partition: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Launch assets (`quick/phase_1`), or a whole job, as the UI does; the run's id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "pipelineName": job,
        }
        if assets:
            selector["assetSelection"] = [{"path": name.split("/")} for name in assets]
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        params = {
            "selector": selector,
            "runConfigData": dict(config or {}),
            "mode": "default",
            "executionMetadata": {"tags": tags},
        }
        told = self.graphql(LAUNCH, params=params)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def backfill(self, *assets: str, partitions: Sequence[str]) -> str:
        """Launch a backfill of these assets, as the UI does; its id."""
        params = {
            "assetSelection": [{"path": name.split("/")} for name in assets],
            "partitionNames": list(partitions),
        }
        told = self.graphql(BACKFILL, params=params)["launchPartitionBackfill"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        return str(told["backfillId"])

    def terminate(self, run: str) -> None:
        """Cancel a run, as the UI's button does."""
        told = self.graphql(TERMINATE, run=run)["terminateRun"]
        assert told["__typename"] == "TerminateRunSuccess", told

    def stop_sensors(self) -> None:
        """Let nothing be launched but what is asked for."""
        where = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
        for sensor in self.graphql(SENSORS, where=where)["sensorsOrError"]["results"]:
            if sensor["sensorState"]["status"] == "RUNNING":
                told = self.graphql(STOP_SENSOR, id=sensor["sensorState"]["id"])
                assert told["stopSensor"]["__typename"] == "StopSensorMutationResult", told

    def turn(self, sensor: str, *, on: bool) -> None:
        """Start or stop a sensor, as the UI's switch does."""
        where = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "sensorName": sensor,
        }
        if on:
            told = self.graphql(START, sensor=where)["startSensor"]
        else:
            found = self.graphql(SENSOR, sensor=where)["sensorOrError"]
            told = self.graphql(STOP, id=found["id"])["stopSensor"]
        assert told["__typename"] in {"Sensor", "StopSensorMutationResult"}, told

    def reload(self) -> None:
        """Load the definitions anew, as the UI's button does."""
        told = self.graphql(RELOAD, name=LOCATION)["reloadRepositoryLocation"]
        assert told.get("loadStatus") == "LOADED", told

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The deployment's instance, read from this process."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            with dg.DagsterInstance.get() as instance:
                yield instance
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def register(self, *sessions: int | str) -> None:
        """Make sessions known."""
        from kalshi_pipeline.assets.partitions import register

        with self.instance() as instance:
            register(instance, sessions)

    def runs(self) -> list[dg.DagsterRun]:
        """All runs, the oldest first."""
        with self.instance() as instance:
            return list(reversed(instance.get_runs()))

    def status(self, run: str) -> str:
        """`STARTED`, `SUCCESS` and so on."""
        with self.instance() as instance:
            found = instance.get_run_by_id(run)
            assert found is not None, run
            return str(found.status.value)

    def finished(self, run: str, within_s: float = 600.0) -> str:
        """The status of a run once it is over."""
        wait_until(lambda: self.status(run) in OVER, f"run {run} is over", within_s)
        return self.status(run)

    def worker(self, run: str, within_s: float = 600.0) -> psutil.Process:
        """The process in which a run is carried out, once it goes on."""

        def told() -> psutil.Process | None:
            if self.status(run) in {"NOT_STARTED", "QUEUED", "STARTING"}:
                return None
            with self.instance() as instance:
                entries = instance.all_logs(run, of_type=DagsterEventType.ENGINE_EVENT)
            pids = (entry.dagster_event.engine_event_data.metadata.get("pid") for entry in entries
                    if entry.message.startswith("Started process for run"))  # fmt: skip
            return next((psutil.Process(int(pid.value)) for pid in pids), None)

        found = wait_until(told, f"run {run} has a process", within_s)
        assert isinstance(found, psutil.Process)
        return found

    def retry(self, run: str, within_s: float = 600.0) -> str:
        """The run by which the daemon tries a run again, once there is one."""
        wanted = dg.RunsFilter(tags={"dagster/parent_run_id": run})

        def launched() -> str | None:
            with self.instance() as instance:
                return next((found.run_id for found in instance.get_runs(wanted)), None)

        return str(wait_until(launched, f"run {run} is tried again", within_s))

    def backfilled(self, backfill: str, within_s: float = 600.0) -> str:
        """The status of a backfill once it is over."""

        def status() -> str | None:
            with self.instance() as instance:
                found = instance.get_backfill(backfill)
            assert found is not None, backfill
            going = found.status.value in {"REQUESTED", "CANCELING"}
            return None if going else str(found.status.value)

        return str(wait_until(status, f"backfill {backfill} is over", within_s))

    def failures(self, run: str) -> Sequence[str]:
        """What a run's failures say, with the errors behind them."""
        with self.instance() as instance:
            entries = instance.all_logs(run)
        events = [entry.dagster_event for entry in entries
                  if entry.dagster_event and entry.dagster_event.is_failure]  # fmt: skip
        errors = [getattr(event.event_specific_data, "error", None) for event in events]
        return [f"{event.message} {error.to_string() if error else ''}"
                for event, error in zip(events, errors, strict=True)]  # fmt: skip

    def _listens(self, name: str) -> bool:
        assert self.processes[name].poll() is None, (self.place / f"{name}.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def _serves(self) -> bool:
        if not self._listens("web"):
            return False
        try:
            told = self.graphql(LOADED)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        entries = told["workspaceOrError"]["locationEntries"]
        return [entry["locationOrLoadError"] for entry in entries] == [
            {"__typename": "RepositoryLocation"}
        ]


@contextmanager
def deployed(place: Path, *processes: str, **variables: str) -> Iterator[Deployment]:
    """A deployment whose processes (all, where none is named) run while the block does."""
    deployment = Deployment(place, variables)
    try:
        deployment.start(*processes)
        yield deployment
    finally:
        deployment.stop()
