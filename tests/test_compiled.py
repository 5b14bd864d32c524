"""A kept kernel is compiled again once a module changes whose numbers or parts are in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {
    "numbers.py": "SCALE = 2.0\n",
    "parts.py": (
        "from kalshi_pipeline.compiled import lane_part\n"
        "from tiny.numbers import SCALE\n"
        "@lane_part\n"
        "def scaled(x):\n"
        "    return SCALE * x\n"
    ),
    "kernels.py": (
        "from kalshi_pipeline.compiled import lane_kernel\n"
        "from tiny.parts import scaled\n"
        "@lane_kernel\n"
        "def scale(x):\n"
        "    return scaled(x)\n"
    ),
    "__init__.py": "",
}
PROGRAM = """
from tiny.kernels import scale
print(scale(3.0), sum(scale.compiled.stats.cache_hits.values()))
"""


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Of a process that finds the package and may keep what it compiles."""
    found = {**os.environ, "PYTHONPATH": str(folder), **variables}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def run(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.compiled
def test_a_kernel_is_kept_until_a_module_below_it_changes(tmp_path):
    package = tmp_path / "tiny"
    package.mkdir()
    for name, text in MODULES.items():
        (package / name).write_text(text)
    assert run(tmp_path) == "6.0 0"
    assert run(tmp_path) == "6.0 1"
    (package / "numbers.py").write_text("SCALE = 5.0\n")
    assert run(tmp_path) == "15.0 0"
