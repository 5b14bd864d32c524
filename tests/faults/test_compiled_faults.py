"""Reliability X13: compiled code that cannot be kept, or is no longer what was kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalshi_pipeline.compiler import _CacheFiles
from tests.test_compiled import MODULES, environment

PROGRAM = """
from tiny.kernels import scale
from tiny.others import double
print(scale(3.0), double(3.0))
"""
OTHERS = """
from kalshi_pipeline.compiled import kernel
@kernel
def double(x):
    return 2.0 * x
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with two kernels."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, text in {**MODULES, "others.py": OTHERS}.items():
        (folder / name).write_text(text)
    return folder


def said_by_kernels(package: Path, **variables: str) -> list[str]:
    """Warnings of a process that calls both kernels, whose results are right."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(package.parent, **variables),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["6.0", "6.0"]
    return [line for line in done.stderr.splitlines() if "Warning" in line]


def test_x13_where_compiled_code_cannot_be_kept_it_is_compiled_with_one_warning(package):
    (package / "__pycache__").write_text("no folder")
    nowhere = {"NUMBA_CACHE_DIR": "/proc/no", "XDG_CACHE_HOME": "/proc/no"}
    (said,) = said_by_kernels(package, **nowhere)
    assert "NUMBA_CACHE_DIR" in said


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes, place: int | None = None) -> bytes:
    place = len(content) // 2 if place is None else place
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(("suffix", "damage"), [("nbi", cut), ("nbc", flipped)])
def test_x13_damaged_compiled_code_is_never_run_and_made_anew(package, tmp_path, suffix, damage):
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert said_by_kernels(package, **kept) == []
    paths = list((tmp_path / "cache").rglob(f"*.{suffix}"))
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    (said,) = said_by_kernels(package, **kept)
    assert "compiled anew" in said
    assert said_by_kernels(package, **kept) == []  # it is whole again


def changes(content: bytes) -> Iterator[bytes]:
    yield from (b"", cut(content), b"no machine code" * 9)
    yield from (flipped(content, place) for place in range(len(content)))


def test_x13_no_change_of_a_kept_file_is_overlooked(tmp_path):
    files = _CacheFiles(str(tmp_path), "kernel", "stamp")
    files.save("key", ["some", "code"])
    assert files.load("key") == ["some", "code"]
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        for changed in changes(whole):
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=f"{path.name} is damaged"):
                files.load("key")
        path.write_bytes(whole)
    files.flush()
    assert files.load("key") is None
