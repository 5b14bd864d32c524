"""The units of `deploy/systemd`, started: who can reach them, and what a viewer can do."""

from __future__ import annotations

import configparser
import json
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.deployment import LAUNCH, LOCATION, RELOAD, ROOT, Deployment, free_port, wait_until

UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/kalshi-pipeline"
MODULES = {
    "dagster": "dagster",
    "dagster-daemon": "dagster._daemon",
    "dagster-webserver": "dagster_webserver",
}
ADD_PARTITION = """mutation($where: RepositorySelector!) { addDynamicPartition(
  repositorySelector: $where, partitionsDefName: "session", partitionKey: "7") { __typename } }"""


def unit(name: str) -> configparser.SectionProxy:
    """What a unit says of its service."""
    told = configparser.ConfigParser(interpolation=None, strict=False)
    told.optionxform = str
    assert told.read(UNITS / f"kalshi-{name}.service")
    return told["Service"]


class Units(Deployment):
    """A deployment whose processes are started as the units say, but for folders and ports."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ports["viewer"] = free_port()
        shipped = (ROOT / "deploy" / "workspace.yaml").read_text()
        self.workspace.write_text(shipped.replace("4266", str(self.ports["code"])))

    def command(self, name: str) -> list[str]:
        line = unit(name)["ExecStart"]
        line = line.replace(f"{INSTALLED}/deploy/workspace.yaml", str(self.workspace))
        for said, which in (("4266", "code"), ("3000", "web"), ("3001", "viewer")):
            line = line.replace(f"-p {said}", f"-p {self.ports[which]}")
        program, *rest = shlex.split(line)
        assert program.startswith(f"{INSTALLED}/.venv/bin/")
        return [sys.executable, "-m", MODULES[Path(program).name], *rest]

    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports its processes listen at."""
        return {
            (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
            for process in self.members()
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

    def ask(self, server: str, query: str, **variables: object) -> dict[str, object]:
        """Ask one of the two web servers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[server]}/graphql",
            body,
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as refused:
            return dict(json.load(refused))


@pytest.mark.drill
def test_the_units_listen_on_loopback_and_a_viewer_launches_nothing(tmp_path):
    live = Units(tmp_path)
    try:
        live.start("code", "daemon", "web", "viewer")
        wait_until(lambda: live._listens("viewer"), "the viewer listens")
        ports = {
            (address, port) for address, port in live.listening() if port in live.ports.values()
        }
        assert ports == {("127.0.0.1", port) for port in live.ports.values()}
        assert {address for address, _ in live.listening()} <= {"127.0.0.1", "::1"}

        params = {
            "selector": {
                "repositoryLocationName": LOCATION,
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": ["warehouse_views"]}],
            },
            "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": []},
        }  # fmt: skip
        where = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}
        told = live.ask("viewer", LAUNCH, params=params)["data"]
        assert told["launchRun"]["__typename"] == "UnauthorizedError"
        told = live.ask("viewer", RELOAD, name=LOCATION)["data"]
        assert told["reloadRepositoryLocation"]["__typename"] == "UnauthorizedError"
        told = live.ask("viewer", ADD_PARTITION, where=where)["data"]
        assert told["addDynamicPartition"]["__typename"] == "UnauthorizedError"
        assert live.runs() == []
        # it shows all there is; and the other one does launch
        told = live.ask("viewer", "{ assetNodes { assetKey { path } } }")["data"]
        assert {"path": ["books"]} in [node["assetKey"] for node in told["assetNodes"]]
        told = live.ask("web", LAUNCH, params=params)["data"]
        assert told["launchRun"]["__typename"] == "LaunchRunSuccess"
    finally:
        live.stop()


def test_no_documented_command_listens_beyond_loopback():
    places = [
        ROOT / "Makefile",
        ROOT / "README.md",
        *UNITS.glob("*.service"),
        ROOT / "deploy" / "workspace.yaml",
    ]
    text = "\n".join(path.read_text() for path in [*places, *(ROOT / "docs").glob("*.md")])
    assert "0.0.0.0" not in text
    for line in text.splitlines():
        if "dagster dev" in line or ("ExecStart" in line and "dagster-webserver" in line):
            assert "127.0.0.1" in line, line


@pytest.mark.parametrize("name", ["code", "daemon", "web", "viewer"])
def test_a_unit_keeps_its_secrets_in_a_file_and_can_write_one_folder(name):
    told = unit(name)
    assert told["EnvironmentFile"] == "/etc/kalshi-pipeline/environment"
    assert "Environment" not in told
    assert told["UMask"] == "0077"
    assert (told["ProtectSystem"], told["NoNewPrivileges"]) == ("strict", "yes")
    assert told["ReadWritePaths"] == "/var/lib/kalshi-pipeline"
    assert told["User"] == "kalshi"
