"""Reliability D21 by the thousand: whatever a file's bytes become, its reader survives it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT

BLOCK = 500


def read_changed_files(seed: int) -> dict[str, int]:
    """Outcomes of a block of files; a process that dies or hangs fails here, in its parent."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.parquet_bytes", str(seed), str(BLOCK)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: exit {done.returncode}: {done.stderr[-2_000:]}"
    found: dict[str, int] = json.loads(done.stdout)
    assert sum(found.values()) == BLOCK
    assert set(found) <= {"equal", "refused", "another table"}
    return found


def test_d21_changed_bytes_are_an_equal_table_or_a_typed_error():
    found = read_changed_files(seed=1)
    assert found["refused"] > BLOCK // 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_d21_changed_bytes_never_end_or_hang_a_process(seed):
    read_changed_files(seed)
