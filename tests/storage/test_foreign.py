"""Models of others: their numbers come in, nothing of them runs, and nothing large gets in."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import ForeignModel
from kalshi_pipeline.storage import foreign, torch_tensors
from kalshi_pipeline.storage.checkpoints import check_tensors
from kalshi_pipeline.storage.foreign import import_sb3_zip
from kalshi_pipeline.storage.sb3 import export_sb3_zip
from kalshi_pipeline.storage.torch_tensors import read_tensors, unzipped
from tests.checkpoints import small_checkpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "model.zip"
    export_sb3_zip(small_checkpoint(3), path)
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader without its process, to try many files quickly."""
    monkeypatch.setattr(
        foreign, "_read_in_a_process", lambda path: foreign._taken(path.read_bytes())
    )


def members(path: Path | io.BytesIO) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, contents: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


# --- what comes in


def test_a_stock_model_comes_in_with_its_numbers(exported: Path) -> None:
    original, imported = small_checkpoint(3), import_sb3_zip(exported)
    for name, tensor in original.policy.items():
        np.testing.assert_array_equal(imported.policy[name], tensor)
    for name, tensor in original.optimizer.items():
        np.testing.assert_array_equal(imported.optimizer[name], tensor)
    state = imported.state
    assert (state.phase, state.timesteps_total, state.lineage) == ("imported", 8, ())
    assert state.config.hidden == original.state.config.hidden
    assert state.foreign


def test_a_model_that_stock_ppo_trained_comes_in(tmp_path: Path, in_this_process: None) -> None:
    from stable_baselines3 import PPO

    from tests.learning.toys import Identity

    model = PPO(
        "MlpPolicy", Identity(2), n_steps=8, batch_size=16, n_epochs=1, device="cpu",
        policy_kwargs={"net_arch": {"pi": [8, 4], "vf": [8, 4]}, "activation_fn": torch.nn.ReLU},
    ).learn(32)  # fmt: skip
    model.save(tmp_path / "model.zip")
    imported = import_sb3_zip(tmp_path / "model.zip")
    assert imported.state.config.hidden == (8, 4)
    assert imported.state.timesteps_total == 32
    theirs = model.policy.state_dict()
    assert set(imported.policy) == set(theirs)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(imported.policy[name], tensor.numpy())
    adam = model.policy.optimizer.state_dict()["state"]
    for index, (name, _) in enumerate(model.policy.named_parameters()):
        np.testing.assert_array_equal(imported.optimizer[f"exp_avg.{name}"], adam[index]["exp_avg"])


def test_without_moments_adam_begins_afresh(
    tmp_path: Path, exported: Path, in_this_process: None
) -> None:
    contents = members(exported)
    contents["policy.optimizer.pth"] = saved({"state": {}, "param_groups": [{"lr": 0.1}]})
    imported = import_sb3_zip(zipped(tmp_path / "model.zip", contents))
    assert not any(moment.any() for moment in imported.optimizer.values())


def test_what_continues_from_a_foreign_model_is_foreign(exported: Path) -> None:
    from tests.learning.test_training import CONFIG, train

    parent = import_sb3_zip(exported)
    child = train(parent=parent, config=replace(CONFIG, hidden=(8, 8, 4)), timesteps=1)
    assert child.final.state.foreign
    assert not train(timesteps=1).final.state.foreign


@pytest.mark.parametrize(
    "value",
    [
        {"a": torch.arange(12.0).reshape(3, 4).T, "b": torch.tensor(3.0)},
        OrderedDict(a=torch.arange(10.0)[2:8:3], n=torch.arange(3)),
        {
            "state": {0: {"step": torch.tensor(1.0)}},
            "more": [1, 2.5, None, True, "text", (1, 2, 3)],
        },
        {"big": 2**40, "negative": -5, "list": [[]], "pairs": [(1,), (1, 2), (1, 2, 3, 4)]},
    ],
)
def test_it_reads_what_torch_reads(value: Any) -> None:
    content = saved(value)
    theirs = torch.load(io.BytesIO(content), weights_only=True)  # noqa: TID251 - the peer

    def plain(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: plain(entry) for key, entry in found.items()}
        if isinstance(found, list | tuple):
            return type(found)(plain(entry) for entry in found)
        return found.tolist() if isinstance(found, torch.Tensor | np.ndarray) else found

    assert plain(read_tensors(content)) == plain(theirs)


# --- what stays out


@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth"])
def test_a_model_that_would_run_code_does_not(tmp_path: Path, exported: Path, member: str) -> None:
    canary = tmp_path / "ran"
    contents = members(exported)
    contents[member] = saved({"action_net.weight": Bomb(canary)})
    with pytest.raises(ForeignModel, match="would call something"):
        import_sb3_zip(zipped(tmp_path / "model.zip", contents))
    assert not canary.exists()
    with warnings.catch_warnings():  # it is a bomb, for whoever opens it as everybody does
        warnings.simplefilter("ignore")
        torch.load(io.BytesIO(contents[member]), weights_only=False)  # noqa: TID251
    assert canary.exists()


def test_code_in_the_settings_is_never_looked_at(tmp_path: Path, exported: Path) -> None:
    import base64

    import cloudpickle  # noqa: TID251 - what an attacker writes with
    from stable_baselines3 import PPO

    canary = tmp_path / "ran"
    contents = members(exported)
    data = json.loads(contents["data"])
    bomb = base64.b64encode(cloudpickle.dumps(Bomb(canary))).decode()
    data["innocent"] = {":type:": "<class 'x'>", ":serialized:": bomb}
    contents["data"] = json.dumps(data).encode()
    path = zipped(tmp_path / "model.zip", contents)
    assert import_sb3_zip(path).state.timesteps == 8
    assert not canary.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PPO.load(path, device="cpu")
    assert canary.exists()  # stock Stable-Baselines3 runs it


@pytest.mark.parametrize("counted", [-1, 1 << 63])
def test_an_impossible_number_of_timesteps_is_refused(
    tmp_path: Path, exported: Path, in_this_process: None, counted: int
) -> None:
    contents = members(exported)
    told = json.loads(contents["data"]) | {"num_timesteps": counted}
    contents["data"] = json.dumps(told).encode()
    with pytest.raises(ForeignModel, match="impossible number of timesteps"):
        import_sb3_zip(zipped(tmp_path / "model.zip", contents))


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "would call"),
        (b"\x80\x02cbuiltins\neval\n.", "not a model"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "more than tensors"),
        (b"\x80\x02(ios\nsystem\n.", "more than tensors"),
        (b"\x80\x02]cos\nsystem\nb.", "sets attributes"),
        (b"\x80\x02c__main__\nX\n)\x81.", "more than tensors"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"", "damaged"),
        (b"\x80\x02}}s.", "damaged"),
    ],
)
def test_a_program_that_is_no_list_of_tensors_ends_the_reading(
    tmp_path: Path, exported: Path, in_this_process: None, program: bytes, match: str
) -> None:
    contents = members(exported)
    inner = members(io.BytesIO(contents["policy.pth"]))
    inner["archive/data.pkl"] = program
    contents["policy.pth"] = zipped(tmp_path / "policy.zip", inner).read_bytes()
    with pytest.raises(ForeignModel, match=match):
        import_sb3_zip(zipped(tmp_path / "model.zip", contents))


def test_a_tensor_beyond_its_numbers_is_refused() -> None:
    content = saved({"a": torch.arange(4.0)})
    inner = members(io.BytesIO(content))
    inner["archive/data/0"] = inner["archive/data/0"][:8]
    with pytest.raises(ForeignModel, match="not as long"):
        read_tensors(rezipped(inner))
    inner["archive/data/0"] += b"\0\0\0"
    with pytest.raises(ForeignModel, match="damaged"):
        read_tensors(rezipped(inner))
    for offset, shape, strides in ((1, (4,), (1,)), (0, (2, 2), (4, 1)), (0, (9, 9), (0, 0)),
                                   (-1, (1,), (1,)), (0, (-1,), (1,)), (0, (0,), (1,)),
                                   (0, (2,), (-1,)), (0, (2**62, 4), (0, 0))):  # fmt: skip
        with pytest.raises(ValueError, match=r"beyond|none"):
            torch_tensors._tensor(np.zeros(4, np.float32), offset, shape, strides)


def test_other_numbers_and_other_byte_orders_are_refused() -> None:
    with pytest.raises(ForeignModel, match="other numbers"):
        read_tensors(saved({"a": torch.zeros(4, dtype=torch.complex64)}))
    inner = members(io.BytesIO(saved({})))
    with pytest.raises(ForeignModel, match="little-endian"):
        read_tensors(rezipped({**inner, "archive/byteorder": b"big"}))
    with pytest.raises(ForeignModel, match=r"torch\.save"):
        read_tensors(rezipped({"a": b""}))


@pytest.mark.parametrize(
    "name", ["../policy.pth", "/etc/passwd", "extra", "policy.pth/", "POLICY.PTH"]
)
def test_a_member_that_no_model_has_is_refused(
    tmp_path: Path, exported: Path, in_this_process: None, name: str
) -> None:
    path = zipped(tmp_path / "model.zip", {**members(exported), name: b""})
    with pytest.raises(ForeignModel, match="no model has"):
        import_sb3_zip(path)


def test_limits_are_looked_at_before_anything_is_unpacked(
    tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = members(exported)
    bomb = {**contents, "system_info.txt": b"\0" * (1 << 20)}
    path = zipped(tmp_path / "bomb.zip", bomb, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ForeignModel, match="times its size"):
        unzipped(path.read_bytes(), lambda _: True)
    monkeypatch.setattr(torch_tensors, "MAX_TOTAL_BYTES", 1_000)
    with pytest.raises(ForeignModel, match="too large unpacked"):
        unzipped(exported.read_bytes(), lambda _: True)
    monkeypatch.setattr(torch_tensors, "MAX_MEMBERS", 2)
    with pytest.raises(ForeignModel, match="too many members"):
        unzipped(exported.read_bytes(), lambda _: True)


def test_a_member_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("data", b"{}")
        archive.writestr("data", b"[]")
    with pytest.raises(ForeignModel, match="one twice"):
        unzipped((tmp_path / "model.zip").read_bytes(), lambda _: True)


def test_a_file_beyond_the_limit_is_not_even_opened(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "MAX_TOTAL_BYTES", 100)
    with pytest.raises(ForeignModel, match="too large"):
        import_sb3_zip(exported)


@pytest.mark.parametrize("missing", ["data", "policy.pth", "policy.optimizer.pth"])
def test_a_zip_that_lacks_a_part_of_a_model_is_refused(
    tmp_path: Path, exported: Path, in_this_process: None, missing: str
) -> None:
    contents = members(exported)
    del contents[missing]
    with pytest.raises(ForeignModel, match=missing):
        import_sb3_zip(zipped(tmp_path / "model.zip", contents))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("action_net.bias"),
        lambda weights: weights.update(log_std=torch.zeros(1)),
        lambda weights: weights.update({"action_net.bias": torch.zeros(9)}),
        lambda weights: weights.update({"action_net.bias": torch.zeros(7, dtype=torch.int64)}),
        lambda weights: weights.update({"action_net.bias": torch.full((7,), torch.nan)}),
        lambda weights: weights.clear(),
    ],
    ids=["missing", "extra", "shape", "integers", "nan", "empty"],
)
def test_a_network_that_is_not_ours_is_refused(
    tmp_path: Path, exported: Path, in_this_process: None, change: Any
) -> None:
    contents = members(exported)
    weights = {name: torch.tensor(t) for name, t in small_checkpoint(3).policy.items()}
    change(weights)
    contents["policy.pth"] = saved(weights)
    with pytest.raises(ForeignModel, match="network is not one of ours"):
        import_sb3_zip(zipped(tmp_path / "model.zip", contents))


def test_the_reader_says_from_its_own_process_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(ForeignModel, match="cannot be imported: a zip of it cannot be read"):
        import_sb3_zip(path)


def test_a_reader_that_takes_too_long_is_stopped(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "MAX_SECONDS", 0.001)
    with pytest.raises(ForeignModel, match="too long"):
        import_sb3_zip(exported)


def test_a_reader_that_runs_out_of_memory_harms_nobody(tmp_path: Path, exported: Path) -> None:
    contents = members(exported)
    contents["system_info.txt"] = np.random.default_rng(0).bytes(1 << 20)
    script = (
        "import sys; from kalshi_pipeline.storage import foreign;"
        "foreign.MAX_MEMORY_BYTES = 1 << 20; sys.exit(foreign._main())"
    )
    path = zipped(tmp_path / "model.zip", contents)
    with path.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", script], stdin=file, capture_output=True)
    assert done.returncode == 1
    assert b"emory" in done.stderr


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_damaged_bytes_give_the_model_or_a_typed_error(
    tmp_path: Path, exported: Path, in_this_process: None, data: st.DataObject
) -> None:
    contents = members(exported)
    name = data.draw(st.sampled_from(["policy.pth", "policy.optimizer.pth", "data"]))
    damaged = bytearray(contents[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    contents[name] = bytes(damaged)
    path = zipped(tmp_path / "model.zip", contents)
    with suppress(ForeignModel):
        imported = import_sb3_zip(path)
        check_tensors(imported)


def rezipped(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()
