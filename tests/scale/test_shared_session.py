"""A session in an object store is the session in a folder; a machine that dies is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kalshi_pipeline.by_hand import prepare
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.stages import SESSION_STAGES
from kalshi_pipeline.storage.publish import CURRENT, STAGING, Warehouse
from tests.storage.places import FailingFiles, Place, StorePlace

pytestmark = pytest.mark.scale
SESSION = 901


def made(warehouse: Warehouse, recordings: Path) -> dict[str, str]:
    """Make of the session all there is before training; stage -> content hash."""
    sources = SessionSources([recordings], warehouse.root / "generated", None)
    prepare(sources, warehouse, [SESSION], lambda _: None)
    return {stage: warehouse.current(stage, str(SESSION)).content_hash for stage in SESSION_STAGES}


@pytest.fixture(scope="module")
def expected(generated, tmp_path_factory) -> dict[str, str]:
    return made(Place(tmp_path_factory.mktemp("folder")).open(), generated)


@pytest.fixture
def place(object_store, tmp_path) -> StorePlace:
    return StorePlace(tmp_path, f"s3://kalshi/sessions/{tmp_path.name}")


def test_a_session_in_a_store_is_the_session_in_a_folder_and_is_made_once(
    place, generated, expected
):
    counted = FailingFiles(0, lambda: None)
    assert made(place.open(files=counted), generated) == expected
    other = place.reader()
    puts = []
    other.store.put = lambda key, _: puts.append(key)
    assert made(other, generated) == expected
    assert not puts
    assert not list(other.root.rglob("*.npy"))  # nor is a tensor fetched for that


DYING = """
import os, sys
from pathlib import Path
from tests.scale.test_shared_session import made
from tests.storage.places import FailingFiles, StorePlace
folder, url, k, recordings = sys.argv[1:]
files = FailingFiles(int(k), lambda: os._exit(9))
made(StorePlace(Path(folder), url).open(files=files), Path(recordings))
"""


@pytest.mark.parametrize("k", [8, 30, 60])
def test_a_machine_that_dies_within_a_session_is_replaced_by_another(place, generated, expected, k):
    told = [str(place.folder / "dying"), place.url, str(k), str(generated)]
    done = subprocess.run([sys.executable, "-c", DYING, *told], env=os.environ, check=False)
    assert done.returncode == 9
    left = place.files(".", "")
    published = {path.split("/")[0] for path in left if path.endswith(CURRENT)}
    assert published < set(expected)
    for stage in published:  # what it had published is whole, and is not made again
        found = place.reader().current(stage, str(SESSION))
        assert found.verified()
        assert found.content_hash == expected[stage]
    other = place.reader()
    assert made(other, generated) == expected
    assert {path for path in left if path.endswith(CURRENT)} <= place.files(".", "")
    assert not [path for path in other.root.rglob("*") if path.parent.name == STAGING]
