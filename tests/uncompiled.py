"""For a run with the compiler off (`make coverage`): a test it makes too slow is left off.

    NUMBA_DISABLE_JIT=1 python -m pytest -p tests.uncompiled

Kernels take a hundred times as long in plain Python. A test that has taken `MOST_CPU_S` is skipped
where it stands; what it has executed until then is counted, and compiled it is run by `make test`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / name) for name in ("kalshi_pipeline", "tests"))

MOST_CPU_S = 10.0
FIXTURES_CPU_S = 60.0  # shared by many tests


def pytest_configure(config: pytest.Config) -> None:
    # numbers of 64 bits wrap around in kernels, as is meant; NumPy warns of it
    config.addinivalue_line("filterwarnings", "ignore:overflow encountered:RuntimeWarning")
    signal.signal(signal.SIGPROF, _leave)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _at_most(FIXTURES_CPU_S):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _at_most(MOST_CPU_S):
        return (yield)


@contextmanager
def _at_most(cpu_s: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _leave(_: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_filename.startswith(OURS):
        pytest.skip("too slow without the compiler")
    # in the middle of somebody else's code, with his locks held: a little later
    signal.setitimer(signal.ITIMER_PROF, 0.01)
