"""The trials ledger: what is scored is counted once, for good, and a damaged count is none."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage.publish import Files, Warehouse
from kalshi_pipeline.storage.trials import (
    TRIAL_SCHEMA,
    TRIALS,
    Trial,
    read_trials,
    record,
    weights_of,
)
from tests.checkpoints import small_checkpoint

ONE = Trial(
    kind="validation", plan="quick", phase="phase_1", seed=7, timesteps=8_192, algorithm="ppo",
    policy="likeliest action", recipe="a" * 64, config="b" * 16, weights="c" * 16,
    sessions=(902,), events=("902/A", "902/B"), pnl_micro=(10_000, -30_000),
)  # fmt: skip
OTHER = replace(ONE, weights="d" * 16, timesteps=16_384)


@pytest.fixture
def warehouse(place):
    return place.open()


def test_what_was_recorded_is_read_again(warehouse):
    record(warehouse, [ONE])
    record(warehouse, [OTHER])
    table = read_trials(warehouse)
    assert table.schema == TRIAL_SCHEMA
    assert sorted(row["weights"] for row in table.to_pylist()) == ["c" * 16, "d" * 16]
    assert table["events"][0].as_py() == ["902/A", "902/B"]
    assert table["pnl_micro"][0].as_py() == [10_000, -30_000]


def test_an_equal_set_adds_nothing(warehouse):
    first = record(warehouse, [ONE])
    before = first.stat().st_mtime_ns
    assert record(warehouse, [ONE]) == first
    assert [path.stat().st_mtime_ns for path in first.parent.glob("*.parquet")] == [before]
    assert read_trials(warehouse).num_rows == 1


def test_every_new_trial_is_a_row_of_its_own(warehouse):
    counts = [read_trials(warehouse).num_rows]
    for trial in (ONE, OTHER, replace(ONE, seed=8)):
        record(warehouse, [trial])
        counts.append(read_trials(warehouse).num_rows)
    assert counts == [0, 1, 2, 3]


def test_what_one_recipe_recorded_can_be_left_out(warehouse):
    record(warehouse, [ONE])
    before = read_trials(warehouse)
    record(warehouse, [replace(ONE, recipe="e" * 64)])
    assert read_trials(warehouse, without="e" * 64) == before != read_trials(warehouse)


def test_a_set_is_of_one_recipe(warehouse):
    with pytest.raises(ValueError, match="unpack"):
        record(warehouse, [ONE, replace(ONE, recipe="f" * 64)])
    assert read_trials(warehouse).num_rows == 0


def test_a_changed_byte_is_found_and_recording_it_again_repairs_it(warehouse):
    path = record(warehouse, [ONE])
    good = path.read_bytes()
    path.write_bytes(record(warehouse, [OTHER]).read_bytes())  # sound Parquet, other rows
    with pytest.raises(CorruptFile, match="cannot be counted"):
        read_trials(warehouse)
    record(warehouse, [ONE])
    assert path.read_bytes() == good
    assert read_trials(warehouse).num_rows == 2


def test_a_foreign_file_in_the_ledger_is_refused(warehouse):
    record(warehouse, [ONE]).with_name("more.parquet").write_bytes(b"")
    with pytest.raises(CorruptFile, match="no name of one"):
        read_trials(warehouse)


class Dying(Files):
    """Dies at its k-th call."""

    def __init__(self, k):
        self.left = k

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def write(self, path, content):
        self._count()
        super().write(path, content)

    def replace(self, source, target):
        self._count()
        super().replace(source, target)

    def sync(self, path):
        self._count()
        super().sync(path)


def test_a_crash_at_any_file_call_leaves_a_whole_row_or_none(tmp_path):
    ends = []
    for k in range(4):
        root = tmp_path / str(k)
        with contextlib.suppress(KeyboardInterrupt):
            record(Warehouse(root, Dying(k)), [ONE])
        found = read_trials(Warehouse(root)).num_rows
        record(Warehouse(root), [ONE])
        assert read_trials(Warehouse(root)).num_rows == 1
        assert len(list((root / TRIALS).glob("*.parquet"))) == 1
        ends.append(found)
    assert ends == [0, 0, 1, 1]


def test_weights_are_what_a_network_does_and_nothing_else():
    one = small_checkpoint(3)
    alike = replace(one, state=replace(one.state, timesteps=one.state.timesteps + 1))
    assert weights_of(one) == weights_of(alike)
    name = next(iter(one.policy))
    moved = dict(one.policy) | {name: one.policy[name] + np.float32(1e-6)}
    assert weights_of(replace(one, policy=moved)) != weights_of(one)
    assert weights_of(one, replace(one, policy=moved)) != weights_of(one)
