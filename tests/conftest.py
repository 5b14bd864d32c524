"""Where the tests find recordings, a Dagster home and generated sessions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.object_store import ObjectStoreServer, running_object_store
from tests.postgres import Server, running_server

ROOT = Path(__file__).parents[1]
RECORDINGS = Path(os.environ.get("KALSHI_RECORDINGS") or ROOT.parent / "shared" / "recordings")

# no deadlines: a first example may wait for the compiler, and any for a busy machine
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("drawn", deadline=None)
settings.register_profile(
    "unshrunk", derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# The longest files first, so that none is left over for one process while the other has nothing
# to do; the first two let each process compile another half of the kernels, where none are kept.
FIRST = (
    "evaluation/test_backtest.py",
    "pipeline/test_quick_plan.py",
    "evaluation/test_evaluate.py",
    "evaluation/test_reports.py",
    "evaluation/test_claims.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests in the order in which they are handed out."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The real recordings; tests that need them are skipped where there are none."""
    if not (RECORDINGS / "102" / "session.json").is_file():
        pytest.skip("no real recordings on this machine")
    return RECORDINGS


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three sessions of the quick plan, as recording folders."""
    from kalshi_pipeline.recordings.generator import QUICK_PROFILES, write_session

    root = tmp_path_factory.mktemp("generated")
    for profile in QUICK_PROFILES.values():
        write_session(profile, root)
    return root


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this process's own; stopped and removed at the end."""
    with running_server() as server:
        if server is None:
            pytest.skip("no PostgreSQL on this machine")
        yield server


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """An S3 server of this process's own, which the environment names; ended at the end."""
    pytest.importorskip("obstore", reason="object storage is an extra: make scale")
    pytest.importorskip("moto", reason="the S3 server of the tests is an extra: make scale")
    with (
        running_object_store(tmp_path_factory.mktemp("object_store")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


def environment_of(home: Path) -> dict[str, str]:
    """This machine's environment, with the folders of a home and nothing else of the pipeline."""
    foreign = ("KALSHI_", "DATABASE_URL", "DAGSTER_", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        "KALSHI_RECORDINGS": str(home / "recordings"),
        "KALSHI_WAREHOUSE": str(home / "warehouse"),
        "DAGSTER_HOME": str(home / "dagster_home"),
    }


@pytest.fixture
def pipeline_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project home: a Dagster instance, a warehouse, no recordings."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("KALSHI_WAREHOUSE", str(tmp_path / "warehouse"))
    for name in ("KALSHI_RECORDINGS", "DATABASE_URL", "DATABASE_URL_POOLED"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def quick_plan(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which `kalshi run --plan quick` ran from nothing; it is copied to be changed.

    `recordings/`, `warehouse/`, `dagster_home/` and `said.txt`, what the command printed.
    """
    home = tmp_path_factory.mktemp("quick_plan")
    shutil.copytree(generated, home / "recordings")
    (home / "dagster_home").mkdir()
    shutil.copy(ROOT / "dagster.yaml", home / "dagster_home")
    done = subprocess.run(
        [Path(sys.executable).parent / "kalshi", "run", "--plan", "quick"],
        env=environment_of(home), cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (home / "said.txt").write_text(done.stdout)
    return home
