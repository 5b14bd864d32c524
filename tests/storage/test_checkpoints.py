"""Checkpoints: equal bytes for equal checkpoints, whole or refused, and never a pickle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import CorruptCheckpoint, IncompatibleCheckpoint
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION, OBSERVATION_WIDTH
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import (
    ACTION_COUNT,
    OPTIMIZER,
    POLICY,
    TRAINER,
    load,
    save,
    tensor_shapes,
)
from kalshi_pipeline.storage.sb3 import export_sb3_zip, tensors_of
from kalshi_pipeline.trading.actions import Action
from tests.checkpoints import small_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(small_checkpoint(), tmp_path)
    return tmp_path


def test_a_checkpoint_comes_back_equal(saved: Path) -> None:
    original, loaded = small_checkpoint(), load(saved)
    assert loaded.state == original.state
    assert loaded.content_hash == original.content_hash
    for name, tensor in original.policy.items():
        np.testing.assert_array_equal(loaded.policy[name], tensor)
    for name, tensor in original.optimizer.items():
        np.testing.assert_array_equal(loaded.optimizer[name], tensor)


def test_equal_checkpoints_give_equal_bytes_whatever_the_order_of_their_tensors(
    tmp_path: Path,
) -> None:
    first = small_checkpoint()
    second = replace(first, policy=dict(reversed(first.policy.items())))
    for name, checkpoint in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        save(checkpoint, tmp_path / name)
    for name in (POLICY, OPTIMIZER, TRAINER):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_strided_tensor_is_saved_as_it_reads(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    weight = checkpoint.policy["action_net.weight"]
    strided = np.ascontiguousarray(weight.T).T
    save(replace(checkpoint, policy={**checkpoint.policy, "action_net.weight": strided}), tmp_path)
    np.testing.assert_array_equal(load(tmp_path).policy["action_net.weight"], weight)


def test_the_content_hash_tells_weights_moments_and_state_apart() -> None:
    original = small_checkpoint()
    bias = original.policy["action_net.bias"]
    others = [
        replace(original, policy={**original.policy, "action_net.bias": bias + 1}),
        replace(
            original,
            optimizer={**original.optimizer, "step.action_net.bias": np.array(9, np.float32)},
        ),
        replace(original, state=replace(original.state, timesteps=9)),
    ]
    assert len({checkpoint.content_hash for checkpoint in [original, *others]}) == 4


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_what_else_an_algorithm_carries_comes_back_or_is_refused(
    tmp_path: Path, value: float
) -> None:
    checkpoint = small_checkpoint()
    more = replace(checkpoint, extra={"q_net.bias": np.full(3, value, np.float32)})
    assert more.content_hash != checkpoint.content_hash
    if np.isnan(value):
        with pytest.raises(CorruptCheckpoint, match=r"q_net\.bias"):
            save(more, tmp_path)
        return
    save(more, tmp_path)
    assert load(tmp_path).content_hash == more.content_hash


@pytest.mark.parametrize("algorithm", ["alchemy", ["ppo"], None])
def test_a_checkpoint_of_an_unknown_algorithm_is_refused(saved: Path, algorithm: object) -> None:
    document = json.loads((saved / TRAINER).read_text())
    (saved / TRAINER).write_text(json.dumps({**document, "algorithm": algorithm}))
    with pytest.raises(IncompatibleCheckpoint, match="ppo"):
        load(saved)


def test_the_actions_are_those_of_the_simulator() -> None:
    assert len(Action) == ACTION_COUNT


@pytest.mark.parametrize("name", [POLICY, OPTIMIZER, TRAINER])
def test_a_missing_file_is_a_corrupt_checkpoint(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CorruptCheckpoint, match=name):
        load(saved)


@pytest.mark.parametrize("name", [POLICY, OPTIMIZER, TRAINER])
@pytest.mark.parametrize("keep", [0, 1, 8, 100, -1])
def test_a_truncated_file_is_a_corrupt_checkpoint(saved: Path, name: str, keep: int) -> None:
    path = saved / name
    path.write_bytes(path.read_bytes()[: keep if keep >= 0 else -2])
    with pytest.raises(CorruptCheckpoint):
        load(saved)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([POLICY, OPTIMIZER, TRAINER]), st.data())
def test_damaged_bytes_give_a_whole_checkpoint_or_a_typed_error(
    saved: Path, name: str, data: st.DataObject
) -> None:
    original = (saved / name).read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(damaged), 2_000) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        (saved / name).write_bytes(damaged)
        loaded = load(saved)
    except (CorruptCheckpoint, IncompatibleCheckpoint):
        pass
    else:
        assert {n: t.shape for n, t in loaded.policy.items()} == tensor_shapes((8, 8, 4))
    finally:
        (saved / name).write_bytes(original)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy.pop("action_net.bias"),
        lambda policy: policy.update({"extra": np.zeros(1, np.float32)}),
        lambda policy: policy.update({"action_net.bias": np.zeros(8, np.float32)}),
        lambda policy: policy.update({"action_net.bias": np.full(7, np.nan, np.float32)}),
        lambda policy: policy.update({"action_net.bias": np.full(7, np.inf, np.float32)}),
    ],
    ids=["missing", "extra", "shape", "nan", "inf"],
)
def test_a_wrong_tensor_is_refused_at_saving_and_at_loading(
    tmp_path: Path, change, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = small_checkpoint()
    policy = dict(checkpoint.policy)
    change(policy)
    wrong = replace(checkpoint, policy=policy)
    with pytest.raises(CorruptCheckpoint):
        save(wrong, tmp_path)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as context:
        context.setattr(checkpoints, "check_tensors", lambda _: None)
        save(wrong, tmp_path)
    with pytest.raises(CorruptCheckpoint):
        load(tmp_path)


def test_weights_of_another_precision_are_refused(saved: Path) -> None:
    from safetensors.numpy import save_file

    policy = {name: tensor.astype(np.float64) for name, tensor in small_checkpoint().policy.items()}
    save_file(policy, saved / POLICY)
    with pytest.raises(CorruptCheckpoint, match="float32"):
        load(saved)


def test_a_tensor_of_no_kind_that_a_checkpoint_has_is_refused(saved: Path) -> None:
    from safetensors.numpy import save_file

    halves = {name: tensor.astype(np.float16) for name, tensor in small_checkpoint().policy.items()}
    save_file(halves, saved / POLICY)
    with pytest.raises(CorruptCheckpoint, match="not a number") as wrong:
        load(saved)
    assert (wrong.value.rule, wrong.value.value) == ("dtype", "F16")


@pytest.mark.parametrize("name", [POLICY, OPTIMIZER, TRAINER])
def test_files_without_one_of_them_are_no_checkpoint(name: str) -> None:
    contents = checkpoints.encode(small_checkpoint())
    assert (
        checkpoints.decode({**contents, "more": b"x"}, "memory").state == small_checkpoint().state
    )
    del contents[name]
    with pytest.raises(CorruptCheckpoint, match=f"{name} is missing") as wrong:
        checkpoints.decode(contents, "memory")
    assert wrong.value.value == "memory"


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [("feature_table_version", "0", FEATURE_TABLE_VERSION), ("format_version", 99, 1)],
)
def test_another_version_is_incompatible_and_both_are_named(
    saved: Path, name: str, theirs: object, ours: object
) -> None:
    document = json.loads((saved / TRAINER).read_text())
    (saved / TRAINER).write_text(json.dumps({**document, name: theirs}))
    with pytest.raises(IncompatibleCheckpoint) as caught:
        load(saved)
    assert repr(theirs) in str(caught.value)
    assert repr(ours) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"format_version": 1, "feature_table_version": "1"}',
    ],
)
def test_json_that_is_no_trainer_state_is_refused(saved: Path, content: bytes) -> None:
    (saved / TRAINER).write_bytes(content)
    with pytest.raises((CorruptCheckpoint, IncompatibleCheckpoint)):
        load(saved)


def test_a_file_beyond_the_limit_is_not_even_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MAX_FILE_BYTES", 10)
    with pytest.raises(CorruptCheckpoint, match="larger"):
        load(saved)


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    payload = f"cpathlib\nPath.touch\n(cpathlib\nPath\n(S'{canary}'\ntRtR.".encode()
    for name in (POLICY, OPTIMIZER, TRAINER):
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(payload)
        with pytest.raises(CorruptCheckpoint):
            load(saved)
        (saved / name).write_bytes(content)
    assert not canary.exists()


def test_stock_ppo_opens_the_exported_zip_and_holds_the_same_numbers(tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    checkpoint = small_checkpoint()
    export_sb3_zip(checkpoint, tmp_path / "model.zip")
    model = PPO.load(tmp_path / "model.zip", device="cpu")
    assert model.num_timesteps == 8
    policy, optimizer = tensors_of(model)
    for name, tensor in checkpoint.policy.items():
        np.testing.assert_array_equal(policy[name], tensor)
    for name, tensor in checkpoint.optimizer.items():
        np.testing.assert_array_equal(optimizer[name], tensor)
    observation = np.zeros((3, OBSERVATION_WIDTH), np.float32)
    assert model.predict(observation, deterministic=True)[0].shape == (3,)


def test_exporting_does_not_move_the_random_generators(tmp_path: Path) -> None:
    import torch

    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    export_sb3_zip(small_checkpoint(), tmp_path / "model.zip")
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
