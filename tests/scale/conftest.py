"""Sessions for clusters, and what one process makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kalshi_pipeline.storage.publish import Warehouse
from tests.drills.copies import made_at_once
from tests.scale.clusters import SESSIONS
from tests.sessions import arrives


@pytest.fixture(scope="session")
def recordings(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sessions, two of which no plan knows."""
    root = tmp_path_factory.mktemp("recordings")
    for session in SESSIONS:
        if session < 950:
            shutil.copytree(generated / str(session), root / str(session))
        else:
            arrives(root, session)
    return root


@pytest.fixture(scope="session")
def at_once(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """What this process makes of them."""
    warehouse = Warehouse(tmp_path_factory.mktemp("at_once"))
    for session in SESSIONS:
        made_at_once(recordings / str(session), warehouse)
    return warehouse
