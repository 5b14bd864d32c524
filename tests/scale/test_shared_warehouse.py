"""A plan on a warehouse in an object store is the plan on a folder; another machine goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from kalshi_pipeline.storage.publish import CURRENT, Warehouse
from tests.conftest import ROOT, environment_of
from tests.object_store import BUCKET, ObjectStoreServer

pytestmark = [pytest.mark.scale, pytest.mark.slow]
KALSHI = Path(sys.executable).parent / "kalshi"
URL = f"s3://{BUCKET}/quick_plan"


@dataclass(frozen=True)
class Machine:
    """A home with an instance and a copy of its own."""

    home: Path
    server: ObjectStoreServer

    @property
    def environment(self) -> dict[str, str]:
        own = {"KALSHI_WAREHOUSE": URL, "KALSHI_CACHE": str(self.home / "copies")}
        return environment_of(self.home) | self.server.environment | own

    @property
    def copy(self) -> Path:
        (folder,) = (self.home / "copies").iterdir()
        return folder

    def kalshi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KALSHI, *arguments], env=self.environment, cwd=self.home,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def machine(home: Path, generated: Path, server: ObjectStoreServer) -> Machine:
    shutil.copytree(generated, home / "recordings")
    (home / "dagster_home").mkdir()
    shutil.copy(ROOT / "dagster.yaml", home / "dagster_home")
    return Machine(home, server)


@pytest.fixture(scope="module")
def first(generated, object_store, tmp_path_factory) -> Machine:
    """A machine on which `kalshi run --plan quick` ran, on an empty bucket."""
    made = machine(tmp_path_factory.mktemp("first"), generated, object_store)
    done = made.kalshi("run", "--plan", "quick")
    assert done.returncode == 0, done.stderr[-4000:]
    (made.home / "said.txt").write_text(done.stdout)
    return made


def objects() -> dict[str, datetime]:
    """Key -> when it was put."""
    from obstore.store import from_url

    pages = from_url(URL, client_options={"allow_http": True}).list()
    return {entry["path"]: entry["last_modified"] for page in pages for entry in page}


def published(warehouse: Warehouse) -> dict[str, str]:
    """Asset and session -> content hash, of all that is published."""
    names = (path.parent.relative_to(warehouse.root) for path in warehouse.names(f"**/{CURRENT}"))
    found = (name.as_posix().partition("/session=") for name in names)
    return {
        f"{asset} {session}": warehouse.current(asset, session or None).content_hash
        for asset, _, session in found
    }


def test_what_is_published_in_a_store_is_what_is_published_in_a_folder(first, quick_plan, tmp_path):
    from kalshi_pipeline.storage.object_store import ObjectStore
    from kalshi_pipeline.storage.shared import SharedWarehouse

    here = published(Warehouse(quick_plan / "warehouse"))
    there = published(SharedWarehouse(ObjectStore(URL), tmp_path))
    assert len(here) > 15
    # Data Docs tell when they were made
    stages = {name for name in here if not name.startswith("data_docs")}
    assert here.keys() == there.keys()
    assert {name: there[name] for name in stages} == {name: here[name] for name in stages}


def test_another_machine_computes_nothing_again(first, generated, object_store, tmp_path):
    before = objects()
    second = machine(tmp_path, generated, object_store)
    done = second.kalshi("run", "--plan", "quick")
    assert done.returncode == 0, done.stderr[-4000:]
    after = objects()
    assert {key for key in after if re.search(r"/CURRENT$|/gen=", key)} == {
        key for key in before if re.search(r"/CURRENT$|/gen=", key)
    }
    stages = [key for key in before if key.endswith(CURRENT) and not key.startswith("data_docs")]
    assert [after[key] for key in stages] == [before[key] for key in stages]
    assert (
        done.stdout.split("report:")[0] == (first.home / "said.txt").read_text().split("report:")[0]
    )


def test_sql_over_a_store_downloads_no_extension(first, generated, object_store, tmp_path):
    import duckdb

    second = machine(tmp_path, generated, object_store)
    assert second.kalshi("warehouse", "views").returncode == 0
    settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    database = second.copy / "kalshi.duckdb"
    with duckdb.connect(database, read_only=True, config=settings) as there:
        rows = "SELECT session, count(*) FROM books GROUP BY 1 ORDER BY 1"
        found = there.execute(rows).fetchall()
        assert not there.execute("SELECT damaged FROM generations WHERE damaged").fetchall()
    with duckdb.connect(first.copy / "kalshi.duckdb", read_only=True, config=settings) as here:
        assert found == here.execute(rows).fetchall()
    assert [session for session, _ in found] == [901, 902, 903]


def test_no_secret_of_the_store_is_written_anywhere(first):
    secret = first.environment["AWS_SECRET_ACCESS_KEY"].encode()
    assert secret in " ".join(os.environ.values()).encode()  # as it was known to every process
    for path in first.home.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
