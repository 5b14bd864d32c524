"""Files that somebody else wrote, files that are shared with everybody, and what is installed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.storage.tables import read_table

ROOT = Path(__file__).parents[2]
SCHEMA = pa.schema([("row", pa.int64())])
SECRETS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|AKIA[0-9A-Z]{16}|ghp_[0-9A-Za-z]{30}")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    canary = tmp_path / "canary"
    held = np.empty(1, object)
    held[0] = Bomb(canary)
    for name in ("tensor.npy", "step_row.npy", "step_ms.npy"):
        np.save(tmp_path / name, held)
    with pytest.raises((ValueError, OSError)):
        read_tensors(tmp_path)
    assert not canary.exists()


def test_an_extension_type_in_a_table_runs_nothing(tmp_path):
    """CVE-2023-47248: a Python class pickled into a file's schema was made as the file was read."""
    import pickle  # noqa: TID251 - an attacker does

    canary = tmp_path / "canary"
    field = pa.field(
        "row", pa.int64(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Bomb(canary)),
        },
    )  # fmt: skip
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"row": pa.array([1], pa.int64())}, schema=pa.schema([field])), path)
    assert b"py_extension_type" in path.read_bytes() or b"ARROW:schema" in path.read_bytes()
    with suppress(CorruptFile):
        read_table(path, SCHEMA)
    assert not canary.exists()


def test_no_tracked_file_holds_a_secret():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 300
    held = [path for path in files if SECRETS.search(path.read_text(errors="replace"))]
    assert held == []
    assert not [path for path in files if path.name in {".env", ".pgpass", "id_rsa"}]


def test_nothing_writes_a_file_a_spreadsheet_would_run():
    """Tickers are foreign text; a cell that begins with = is a formula. So no CSV is written."""
    writers = re.compile(r"\bcsv\.(writer|DictWriter|write_csv)\b|\.to_csv\b|\bto_excel\b")
    to_a_database = ROOT / "kalshi_pipeline" / "recordings" / "postgres" / "export.py"  # by COPY
    for package in ("kalshi_pipeline", "assets", "resources"):
        for path in (ROOT / package).rglob("*.py"):
            assert path == to_a_database or not writers.search(path.read_text()), path


def test_what_is_installed_is_past_the_known_holes_and_matches_itself():
    assert Version(version("torch")) >= Version("2.10"), "CVE-2026-24747"
    assert Version(version("pyarrow")) >= Version("14.0.1"), "CVE-2023-47248"
    assert Version(version("dagster")) >= Version("1.13.27"), "CVE-2026-41490"
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    limits = {r.name: str(r.specifier) for r in map(Requirement, declared)}
    assert limits["dagster"] == limits["dagster-webserver"] == "~=1.13.27"
    assert limits["dagster-postgres"] == "~=0.29.27"
    assert "<" in limits["numpy"], "numba lags it"
    locked = dict(
        line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )  # fmt: skip
    minors = {
        name: ".".join(locked[name].split(".")[:2]) for name in ("dagster", "dagster-webserver")
    }
    assert len(set(minors.values())) == 1


def test_compiled_kernels_are_kept_where_only_their_owner_writes():
    """Numba's cache is pickled code. Beside the sources it is as safe as they are."""
    kept = list((ROOT / "kalshi_pipeline").rglob("*.nbi"))
    for path in kept:
        assert path.parent.stat().st_mode & 0o002 == 0, path
    told = (ROOT / "docs" / "OPERATIONS.md").read_text()
    assert "NUMBA_CACHE_DIR=/var/lib/kalshi-pipeline/numba" in told
    assert re.search(r"install -d .*-m 0700 .*/var/lib/kalshi-pipeline/numba", told)
