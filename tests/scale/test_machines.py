"""Two machines over one PostgreSQL and one object store: a session is a run on one of them.

Machines are nodes of a Ray cluster at loopback addresses of their own, each with a copy of the
warehouse that no other sees; the code server, the daemon and the web server are a third.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.storage.object_store import ObjectStore
from kalshi_pipeline.storage.publish import CURRENT, STAGING
from kalshi_pipeline.storage.shared import SharedWarehouse
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import published
from tests.object_store import BUCKET
from tests.scale.clusters import SESSIONS, Workers, ray_cluster

pytestmark = pytest.mark.scale

URL = f"s3://{BUCKET}/machines"
HOSTS = ("127.0.0.2", "127.0.0.3")


@dataclass(frozen=True)
class Site:
    """The machines, and what runs on them."""

    place: Path
    workers: Workers
    deployment: Deployment
    hosts: dict[str, str]  # of a node

    def copy_of(self, node: str) -> Path:
        """Folder of a machine's own copy of the warehouse."""
        (folder,) = (self.place / self.hosts[node]).iterdir()
        return folder

    def warehouse(self, name: str) -> SharedWarehouse:
        """The warehouse as a machine sees it that has nothing of it."""
        return SharedWarehouse(ObjectStore(URL), self.place / name)


@pytest.fixture(scope="module")
def site(postgres, object_store, recordings, tmp_path_factory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("machines")
    shared = {
        "DAGSTER_POSTGRES_URL": postgres.create_owned("several_machines"),
        "KALSHI_WAREHOUSE": URL,
        **object_store.environment,
    }
    with ray_cluster(0) as workers:
        nodes = {
            host: workers.add(host, **shared, KALSHI_CACHE=str(place / host)) for host in HOSTS
        }
        own = {**shared, **workers.variables, "KALSHI_CACHE": str(place / "third")}
        own["KALSHI_RECORDINGS"] = str(recordings)
        with deployed(place, "code", "web", **own) as deployment:
            deployment.register(*SESSIONS)
            deployment.stop_sensors()
            deployment.start("daemon")
            hosts = {node.node_id: host for host, node in nodes.items()}
            yield Site(place, workers, deployment, hosts)


def test_sessions_come_out_on_two_machines_as_on_one(site, at_once):
    made = site.deployment.backfill(*stages.SESSION_STAGES, partitions=["901", "951"])
    ended = site.deployment.backfilled(made)
    told = [site.deployment.failures(run.run_id) for run in site.deployment.runs()]
    assert ended == "COMPLETED_SUCCESS", told
    runs = [run.run_id for run in site.deployment.runs()]
    assert sorted(site.hosts[site.workers.of(run)] for run in runs) == list(HOSTS)
    seen = site.warehouse("another")
    for session in ("901", "951"):
        assert published(seen, session) == published(at_once, session)
    for node in site.hosts:  # each machine has only what it made itself
        assert len({path.parent for path in site.copy_of(node).glob("books/*/gen=*")}) == 1


def test_a_machine_that_is_switched_off_loses_nothing(site, at_once):
    deployment, workers = site.deployment, site.workers
    before = {run.run_id for run in deployment.runs()}
    deployment.backfill(*stages.SESSION_STAGES, partitions=["902", "952"])

    def begun() -> str | None:
        """A node in the middle of a stage."""
        for run in deployment.runs():
            node = None if run.run_id in before else workers.of(run.run_id)
            if node and any(site.copy_of(node).glob(f"*/{STAGING}/*")):
                return node
        return None

    lost = wait_until(begun, "a machine has begun a session")
    workers.kill(lost)
    seen = site.warehouse("after")

    def whole() -> bool:
        told = seen.store.sizes("")
        return all(
            f"{stage}/session={session}/{CURRENT}" in told
            for stage in stages.SESSION_STAGES
            for session in SESSIONS
        )

    wait_until(whole, "the machine that is left has made them", 600)
    for session in SESSIONS:  # those of before the loss, too
        assert published(seen, str(session)) == published(at_once, str(session))
    runs = [run for run in deployment.runs() if run.run_id not in before]
    wait_until(lambda: all(run.is_finished for run in deployment.runs()), "all runs are over")
    failed = [run for run in runs if deployment.status(run.run_id) == "FAILURE"]
    assert {workers.of(run.run_id) for run in failed} == {lost}
    for run in failed:
        assert deployment.finished(deployment.retry(run.run_id)) == "SUCCESS"
