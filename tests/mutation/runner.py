"""Runs tests on a mutant: in a forked process that imports it in place of the module on the disk.

What takes long to import is imported once, before the fork; no file is ever changed. A test that
starts processes of its own sees the unchanged module there, so that it kills too little, never too
much. The compiler is off: else mutants of what a compiled kernel calls would not be seen.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import NoReturn

import pytest

PREPARED = (
    "hypothesis", "hypothesis.strategies", "hypothesis.extra.numpy", "numba", "numpy", "pyarrow",
    "pyarrow.parquet", "scipy.stats", "msgspec", "llvmlite.ir", "anyio.pytest_plugin",
    "dagster",  # the warnings that pytest is told to ignore are its
)  # fmt: skip
SETTINGS = {
    "NUMBA_DISABLE_JIT": "1",
    "HYPOTHESIS_PROFILE": "unshrunk",  # that it fails is enough
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "",
}
MEMORY = Path("/dev/shm")  # no device to wait for
OPTIONS = (
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # hypothesis has been imported
)  # fmt: skip


class _Mutated(importlib.machinery.SourceFileLoader):
    code = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.code, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, path: Path, code: str) -> None:
        self.module, self.path, self.code = module, path, code

    def find_spec(self, fullname, path, target=None):
        if fullname != self.module:
            return None
        loader = _Mutated(fullname, str(self.path))
        loader.code = self.code
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def prepare() -> None:
    """Import what is never mutated."""
    os.environ.update(SETTINGS)
    for name in PREPARED:
        importlib.import_module(name)
    gc.freeze()  # no child looks through all this for garbage


def outcome(
    module: str, path: Path, code: str, tests: Sequence[str], limit_s: float
) -> tuple[str, float]:
    """Run tests on a module with other code.

    Args:
        module: its name.
        path: where it lies.
        code: what it is instead.
        tests: arguments of pytest; it stops at the first failure.
        limit_s: a mutant that takes longer is killed: it may loop for ever.

    Returns:
        "survived" or "killed", and the seconds it took.
    """
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        _run(module, path, code, tests)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - begin
        if ended:
            survived = os.waitstatus_to_exitcode(status) == 0
            return "survived" if survived else "killed", seconds
        if seconds > limit_s:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "killed", seconds
        time.sleep(0.02)


def _run(module: str, path: Path, code: str, tests: Sequence[str]) -> NoReturn:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.meta_path.insert(0, _Finder(module, path, code))
    status = 1
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
            status = int(pytest.main([*OPTIONS, f"--basetemp={place}/tests", *tests]))
    finally:
        os._exit(status)
