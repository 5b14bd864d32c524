"""Reliability X14: the clock of the machine is set while results are made."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

from kalshi_pipeline.storage.publish import Warehouse
from tests.drills.copies import made_at_once
from tests.faults.killed_training import publish_phase, use_random_markets

DAY_S = 86_400


def wild(unit: int) -> Callable[[], int]:
    """A clock that jumps by days, forth and back, at every look."""
    jumps = itertools.cycle([3, -2, 40, -39, 1])
    now = time.time_ns()

    def clock() -> int:
        nonlocal now
        now += next(jumps) * DAY_S * 1_000_000_000
        return now // unit

    return clock


def made(session: Path, root: Path) -> list[str]:
    """Content hashes of a session's outputs and of a training."""
    warehouse = Warehouse(root)
    found = [*made_at_once(session, warehouse), publish_phase(warehouse)]
    assert not any(generation.reused for generation in found)
    return [generation.content_hash for generation in found]


def test_x14_a_clock_that_is_set_meanwhile_changes_no_result(generated, tmp_path, monkeypatch):
    use_random_markets(monkeypatch.setattr)
    expected = made(generated / "902", tmp_path / "one")
    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", wild(1))
        clock.setattr(time, "time", wild(1_000_000_000))
        found = made(generated / "902", tmp_path / "two")
    assert found == expected
