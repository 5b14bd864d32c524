"""Models of others: the `model.zip` of Stable-Baselines3, read without running what is in it.

The zip may come from anybody, and `PPO.load` would run it. Here a process of its own, with little
memory and time and nothing to write to, takes the weights and Adam's moments out of it as data; of
the rest only the number of timesteps is read. What a foreign model has seen is unknown, and says
so: no session judges it cleanly.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.errors import CorruptCheckpoint, ForeignModel
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.storage.checkpoints import (
    ACTION_COUNT,
    MOMENTS,
    Checkpoint,
    TrainerState,
    check_tensors,
    optimizer_shapes,
)
from kalshi_pipeline.storage.torch_tensors import MAX_TOTAL_BYTES, read_tensors, unzipped

MAX_SECONDS = 30
MAX_MEMORY_BYTES = 2 << 30
_WEIGHTS, _ADAM, _DATA = "policy.pth", "policy.optimizer.pth", "data"
_MEMBERS = {
    _WEIGHTS, _ADAM, _DATA, "pytorch_variables.pth", "_stable_baselines3_version",
    "system_info.txt",
}  # fmt: skip
_COUNT = "timesteps"


def import_sb3_zip(path: Path) -> Checkpoint:
    """The weights of somebody's PPO as a checkpoint to evaluate or to continue from.

    Its network must be of ours: separate actor and critic with the same hidden layers, on
    observations and actions of our widths. That its columns mean what ours mean nobody can check.

    Args:
        path: `model.zip` as Stable-Baselines3 writes it.

    Raises:
        ForeignModel: it is none, is too large, holds more than tensors, or has another network.
    """
    tensors = _read_in_a_process(path)
    timesteps = int(tensors.pop(_COUNT))
    policy, adam = (
        {name[len(of) :]: tensor for name, tensor in tensors.items() if name.startswith(of)}
        for of in ("policy/", "adam/")
    )
    hidden = _hidden(policy)
    state = TrainerState(
        phase="imported", seed=0, timesteps=timesteps, timesteps_total=timesteps,
        config=PPOConfig(hidden=hidden), trading=TradingConfig(), lineage=(), selected_on=(),
        parent=None, foreign=True,
    )  # fmt: skip
    fresh = {name: np.zeros(shape, np.float32) for name, shape in optimizer_shapes(hidden).items()}
    checkpoint = Checkpoint(state, policy, adam or fresh)
    try:
        check_tensors(checkpoint)
    except CorruptCheckpoint as error:
        raise ForeignModel(
            f"its network is not one of ours, which have {OBSERVATION_WIDTH} inputs and "
            f"{ACTION_COUNT} actions: {error}",
            rule="network",
            value=str(path),
        ) from error
    return checkpoint


def _read_in_a_process(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    size = path.stat().st_size
    if size > MAX_TOTAL_BYTES:
        raise ForeignModel("too large", rule=f"<= {MAX_TOTAL_BYTES} bytes", value=size)
    with path.open("rb") as file:
        try:
            done = subprocess.run(  # noqa: S603 - our own reader; the file is its input
                [sys.executable, "-I", "-m", __name__],
                stdin=file, capture_output=True, timeout=MAX_SECONDS, check=False,
                env={"OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ForeignModel("reading it took too long", rule="time", value=str(path)) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ForeignModel(f"it cannot be imported: {said[:500]}", value=str(path))
    return load(done.stdout)


def _hidden(policy: dict[str, NDArray[Any]]) -> tuple[int, ...]:
    names = (f"mlp_extractor.policy_net.{2 * layer}.bias" for layer in count())
    found = (policy[name] for name in takewhile(policy.__contains__, names))
    return tuple(bias.size for bias in found)


def _taken(content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return _take(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ForeignModel(
            f"not a model of Stable-Baselines3: {type(error).__name__} {error}", rule="form"
        ) from error


def _take(content: bytes) -> dict[str, NDArray[Any]]:
    members = unzipped(content, _MEMBERS.__contains__)
    if missing := sorted({_WEIGHTS, _ADAM, _DATA} - set(members)):
        raise ForeignModel("not a model of Stable-Baselines3", rule="members", value=missing[0])
    weights = read_tensors(members[_WEIGHTS])
    adam = read_tensors(members[_ADAM])
    counted = json.loads(members[_DATA]).get("num_timesteps")
    if type(counted) is int and not 0 <= counted < 1 << 63:
        raise ForeignModel(
            "it counts an impossible number of timesteps", rule="num_timesteps", value=counted
        )
    taken = {f"policy/{name}": tensor for name, tensor in weights.items()}
    # torch numbers the parameters in the order in which the network lists them
    for index, name in enumerate(weights):
        if index in adam["state"]:
            for moment in ("step", *MOMENTS):
                taken[f"adam/{moment}.{name}"] = adam["state"][index][moment]
    taken[_COUNT] = np.array(counted if type(counted) is int else 0, np.int64)
    if not all(isinstance(tensor, np.ndarray) for tensor in taken.values()):
        raise ForeignModel("its weights are not tensors", rule="tensors")
    return taken


# its process knows no environment, and so nobody who measures
def _main() -> int:  # pragma: no cover
    from safetensors.numpy import save

    for limit, value in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_SECONDS),
        (resource.RLIMIT_FSIZE, 0),  # and no file can be written
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        taken = _taken(sys.stdin.buffer.read(MAX_TOTAL_BYTES + 1))
        sys.stdout.buffer.write(save(taken))
    except (ForeignModel, MemoryError) as error:
        sys.stderr.write(str(error) or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
