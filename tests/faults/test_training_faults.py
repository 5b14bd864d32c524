"""Faults that end a training say what happened, what to do, and leave everything whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline import session_data
from kalshi_pipeline.errors import (
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    MissingParent,
    NotPublished,
    OutOfMemory,
)
from kalshi_pipeline.learning import memory, phase_run
from kalshi_pipeline.learning.records import Snapshot
from kalshi_pipeline.learning.run_checkpoints import load_checkpoint
from kalshi_pipeline.learning.runs import open_run
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import (
    ENVIRONMENT,
    OPTIMIZER,
    POLICY,
    TRAINER,
    Checkpoint,
    encode,
)
from kalshi_pipeline.storage.publish import Files, Warehouse
from kalshi_pipeline.storage.whole_folder import write_folder
from tests.checkpoints import small_checkpoint
from tests.faults.killed_training import (
    CONFIG,
    UNIVERSE,
    publish_phase,
    small_plan,
    use_random_markets,
)
from tests.learning.test_runs import AT_MS, KEY, save_all
from tests.learning.test_training import ROLLOUT, train
from tests.storage.test_publish import Unflushed


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    use_random_markets(monkeypatch.setattr)
    return Warehouse(tmp_path)


# --- T4: out of memory


@pytest.mark.parametrize("sizes", [{"n_steps": 10**11}, {"hidden": (8, 10**15)}], ids=str)
def test_t4_sizes_that_do_not_fit_are_named_with_the_flags_to_use(
    warehouse: Warehouse, sizes: dict[str, Any]
) -> None:
    with pytest.raises(OutOfMemory, match="Nothing was changed") as caught:
        publish_phase(warehouse, plan=small_plan(**sizes))
    said = str(caught.value)
    assert all(flag in said for flag in ("--batch-size 128", "--n-steps 2048", "--device cpu"))
    assert all(f"{name} {value}" in said for name, value in sizes.items())
    with pytest.raises(NotPublished):
        warehouse.current("quick/phase_1")
    assert publish_phase(warehouse).verified()  # what does fit is trained as ever


def raising(error: BaseException) -> Callable[..., None]:
    def train_phase(*_: object, **__: object) -> None:
        raise error

    return train_phase


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory"
        ),
    ],
    ids=["cuda", "python", "torch"],
)
def test_t4_every_way_of_running_out_of_memory_is_one_error(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(phase_run, "train_phase", raising(error))
    with pytest.raises(OutOfMemory, match=r"batch_size 32.*rollouts of 64 steps") as caught:
        publish_phase(warehouse)
    assert caught.value.__cause__ is error


def test_t4_another_failure_stays_what_it_is() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught, memory.sizes_named(UNIVERSE, CONFIG):
        raise error
    assert caught.value is error


def test_t4_sessions_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = MemoryError()
    monkeypatch.setattr(session_data, "load_session", raising(error))
    with pytest.raises(OutOfMemory, match=r"name fewer.*\(32, 25\)") as caught:
        session_data.universe_of(Warehouse(Path()), iter((32, 25)), 50)
    assert caught.value.__cause__ is error


# --- T5: corrupt checkpoints


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_t5_a_damaged_parent_stops_the_child_until_it_is_made_again(warehouse: Warehouse) -> None:
    parent = publish_phase(warehouse)
    flip(parent.folder / "seed_7" / POLICY)
    with pytest.raises(CorruptCheckpoint, match="materialize quick/phase_1 again"):
        publish_phase(warehouse, "phase_2")
    again = publish_phase(warehouse)
    assert again.content_hash == parent.content_hash
    assert publish_phase(warehouse, "phase_2").verified()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_t5_any_change_of_a_byte_of_a_checkpoint_is_a_typed_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    root = tmp_path / "run"
    with open_run(root, KEY, AT_MS, Unflushed()) as run:
        if not (run.folder / "checkpoint_20").exists():
            save_all(run, 2)
        folder = run.folder / "checkpoint_20"
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        original = path.read_bytes()
        damaged = bytearray(original)
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.sampled_from([0, place, len(damaged)]))
        try:
            path.write_bytes(damaged[:cut])
            with pytest.raises(CorruptCheckpoint, match="use checkpoint_10"):
                load_checkpoint(folder)
            point = run.resume_point()
            assert point is not None
            assert point.checkpoint.state.timesteps == 10
        finally:
            path.write_bytes(original)


def wrong_tensors(change: Callable[[dict[str, Any]], object]) -> Checkpoint:
    made = small_checkpoint(20)
    policy = dict(made.policy)
    change(policy)
    return replace(made, policy=policy)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy.pop("action_net.bias"),
        lambda policy: policy.update({"action_net.bias": np.zeros(8, np.float32)}),
        lambda policy: policy.update({"action_net.bias": np.full(7, np.nan, np.float32)}),
    ],
    ids=["missing tensor", "wrong shape", "nan"],
)
def test_t5_tensors_that_are_wrong_under_a_right_manifest_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object]
) -> None:
    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        save_all(run, 1)
        wrong = wrong_tensors(change)
        with pytest.raises(CorruptCheckpoint):
            run.save(Snapshot(wrong))
        with monkeypatch.context() as context:
            context.setattr(checkpoints, "check_tensors", lambda _: None)
            write_folder(run.folder / "checkpoint_20", encode(wrong), Files())
        with pytest.raises(CorruptCheckpoint, match="use checkpoint_10"):
            load_checkpoint(run.folder / "checkpoint_20")


@pytest.mark.parametrize("name", [POLICY, OPTIMIZER, TRAINER])
def test_t5_a_file_that_the_manifest_does_not_know_is_missing(tmp_path: Path, name: str) -> None:
    contents = encode(small_checkpoint())
    del contents[name]
    write_folder(tmp_path / "checkpoint_8", contents, Unflushed())
    with pytest.raises(CorruptCheckpoint, match=f"{name} is missing"):
        load_checkpoint(tmp_path / "checkpoint_8")


@pytest.mark.parametrize("change", ["drop", "shape", "type"])
def test_t5_lanes_that_do_not_fit_are_refused_before_any_is_set(change: str) -> None:
    kept: list[Snapshot] = []
    train(keep=kept.append, checkpoint_every=ROLLOUT)
    lanes = dict(kept[0].checkpoint.environment)
    if change == "drop":
        lanes.pop("observation")
    else:
        lanes["observation"] = (
            lanes["observation"][1:] if change == "shape" else lanes["observation"].astype(float)
        )
    spoiled = replace(kept[0], checkpoint=replace(kept[0].checkpoint, environment=lanes))
    with pytest.raises(CorruptCheckpoint, match="observation"):
        train(resume=spoiled)
    assert ENVIRONMENT in encode(spoiled.checkpoint)


# --- T7 and X11: no parent, or one of another kind


def test_t7_a_phase_whose_parent_is_missing_or_failed_refuses_to_start(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingParent, match="materialize quick/phase_1 first"):
        publish_phase(warehouse, "phase_2")
    with monkeypatch.context() as context:
        context.setattr(phase_run, "train_phase", raising(ZeroDivisionError()))
        with suppress(ZeroDivisionError):
            publish_phase(warehouse)
    with pytest.raises(MissingParent, match="materialize quick/phase_1 first"):
        publish_phase(warehouse, "phase_2")


def test_x11_another_network_is_refused_and_both_are_named(warehouse: Warehouse) -> None:
    publish_phase(warehouse)
    with pytest.raises(IncompatibleCheckpoint) as caught:
        publish_phase(warehouse, "phase_2", small_plan(hidden=(8, 8)))
    assert "(16, 16, 8)" in str(caught.value)
    assert "(8, 8)" in str(caught.value)
    with pytest.raises(NotPublished):
        warehouse.current("quick/phase_2")


def test_x11_another_feature_table_is_refused_and_both_are_named(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_phase(warehouse)
    ours = checkpoints.FEATURE_TABLE_VERSION
    monkeypatch.setattr(checkpoints, "FEATURE_TABLE_VERSION", "another")
    with pytest.raises(IncompatibleCheckpoint, match="train it anew") as caught:
        publish_phase(warehouse, "phase_2")
    assert repr(ours) in str(caught.value)
    assert "'another'" in str(caught.value)
    with pytest.raises(NotPublished):
        warehouse.current("quick/phase_2")
