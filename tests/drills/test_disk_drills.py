"""A disk that fills up under a live deployment, and is emptied again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import STAGING
from tests.deployment import Deployment, deployed, wait_until
from tests.drills.copies import copied, published

pytestmark = pytest.mark.drill

DISK_MB = 64
LEFT_BYTES = 150_000  # where the disk is filled but for a little


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own under a folder."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def deployment(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Warehouse and Dagster's state each on a small disk."""
    place = tmp_path_factory.mktemp("small")
    with (
        small_disk(place / "warehouse"),
        small_disk(place / "dagster_home"),
        deployed(place, "code", "web") as found,
    ):
        copied(generated / "902", found.recordings, "1", "2", "3")
        found.register("1", "2", "3")
        found.stop_sensors()
        found.start("daemon")
        yield found


@contextmanager
def filled(folder: Path, left: int = 0) -> Iterator[None]:
    """A disk of which only so many bytes are free."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            os.posix_fallocate(file.fileno(), 0, free - left)
        yield
    finally:
        ballast.unlink()


def test_x06_a_full_warehouse_is_said_and_the_same_session_succeeds_once_there_is_room(deployment):
    warehouse = open_warehouse(str(deployment.warehouse))
    assert deployment.finished(deployment.launch(job="session_data", partition="1")) == "SUCCESS"
    before = published(warehouse, "1")
    with filled(deployment.warehouse, LEFT_BYTES):
        run = deployment.launch(job="session_data", partition="2")
        assert deployment.finished(run) == "FAILURE"
    assert any("no room to publish" in told for told in deployment.failures(run))
    assert published(warehouse, "1") == before
    assert not list(deployment.warehouse.glob(f"*/{STAGING}/*"))
    assert deployment.finished(deployment.launch(job="session_data", partition="2")) == "SUCCESS"
    assert published(warehouse, "2")


def test_x06_a_full_disk_under_dagster_is_recovered_from_once_there_is_room(deployment):
    run = deployment.launch(job="session_data", partition="3")
    worker = deployment.worker(run)
    with filled(deployment.home):
        wait_until(lambda: not alive(worker), "the run cannot go on")
    deployment.revive()
    if deployment.finished(run) != "SUCCESS":
        assert deployment.finished(deployment.retry(run)) == "SUCCESS"
    assert published(open_warehouse(str(deployment.warehouse)), "3")


def alive(process: psutil.Process) -> bool:
    """Whether a process lives; one that has ended and was not asked how does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
