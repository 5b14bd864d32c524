"""A Ray cluster of this machine: nodes that are processes, listening on loopback alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from tests.deployment import free_port

LOOPBACK = "127.0.0.1"
SESSIONS = (901, 902, 951, 952)
# no word to anybody; and a node that is alone takes this machine to be loopback. What tests say of
# the pipeline is not handed to the nodes: jobs get what the pipeline hands on
ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
FOREIGN = ("KALSHI_", "DATABASE_URL", "DAGSTER_", "RAY_", "COVERAGE_")


@dataclass
class Workers:
    """A head that carries out nothing, and workers of one processor each.

    Args:
        cluster: of Ray's own tests.
        address: of the dashboard, through which jobs go.
    """

    cluster: Any
    address: str
    nodes: list[Any] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """Environment of whatever is to use it."""
        return {"KALSHI_ENGINE": "ray", "RAY_ADDRESS": self.address}

    @property
    def jobs(self) -> Any:
        """Ray's own client."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.address)

    def add(self, address: str = LOOPBACK, **variables: str) -> Any:
        """One more worker, at an address of its own and with further environment."""
        node = self.cluster.add_node(num_cpus=1, node_ip_address=address, env_vars=variables)
        self.nodes.append(node)
        self.cluster.wait_for_nodes()
        return node

    def of(self, run: str) -> str | None:
        """The node that carries out a run of Dagster's; None before it has one."""
        job = f"dagster-run-{run}"
        if job not in {found.submission_id for found in self.jobs.list_jobs()}:
            return None
        return self.jobs.get_job_info(job).driver_node_id or None

    def kill(self, node_id: str) -> None:
        """End a worker and all it started at once, as a machine that is switched off."""
        (node,) = [node for node in self.nodes if node.node_id == node_id]
        self.nodes.remove(node)
        (raylet,) = node.all_processes["raylet"]
        for member in psutil.Process(raylet.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def ray_cluster(workers: int = 2) -> Iterator[Workers]:
    """A cluster that lives while the block does."""
    pytest.importorskip("dagster_ray", reason="needs the extra: pip install .[ray]")
    before = dict(os.environ)
    for name in before:
        if name.startswith(FOREIGN):
            del os.environ[name]
    os.environ.update(ALONE)
    try:
        from ray.cluster_utils import Cluster

        port = free_port()
        head = {"num_cpus": 0, "node_ip_address": LOOPBACK, "include_dashboard": True,
                "dashboard_host": LOOPBACK, "dashboard_port": port}  # fmt: skip
        found = Workers(
            Cluster(initialize_head=True, head_node_args=head), f"http://{LOOPBACK}:{port}"
        )
        try:
            for _ in range(workers):
                found.add()
            yield found
        finally:
            found.cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)
