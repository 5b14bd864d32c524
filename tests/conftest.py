"""Where the tests find recordings, a Dagster home and generated sessions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import Server, running_server

ROOT = Path(__file__).parents[1]
RECORDINGS = Path(os.environ.get("KALSHI_RECORDINGS") or ROOT.parent / "shared" / "recordings")

# no deadlines: a first example may wait for the compiler, and any for a busy machine
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("drawn", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


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
