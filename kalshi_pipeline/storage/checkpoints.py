"""Checkpoints: what a training phase leaves behind, as tensors and JSON; nothing in them runs.

    policy.safetensors     weights, under the parameter names of Stable-Baselines3
    optimizer.safetensors  Adam: `exp_avg.<parameter>`, `exp_avg_sq.<parameter>`, `step.<parameter>`
    trainer.json           counters, configuration, lineage, generator states; no wall-clock time
    learner.safetensors    only of an algorithm that has more tensors: its Q networks and the like
    environment.safetensors  only in the middle of a phase: what lanes and learner were doing, to
                             resume

Equal checkpoints give equal bytes. `storage/sb3.py` carries them to and from Stable-Baselines3.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import CONFIGS, LearnerConfig, TradingConfig
from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, IncompatibleCheckpoint
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION, OBSERVATION_WIDTH
from kalshi_pipeline.storage.publish import read_manifest

Tensors = Mapping[str, NDArray[np.float32]]

FORMAT_VERSION = 1
ACTION_COUNT = 7  # design section 8; a test holds it equal to the actions of the simulator
MAX_FILE_BYTES = 64 << 20  # reliability section 7; the plan's networks need 2 MiB
POLICY, OPTIMIZER, TRAINER = "policy.safetensors", "optimizer.safetensors", "trainer.json"
LEARNER, ENVIRONMENT = "learner.safetensors", "environment.safetensors"
REQUIRED, OPTIONAL = (POLICY, OPTIMIZER, TRAINER), (ENVIRONMENT, LEARNER)
DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_}
MOMENTS = ("exp_avg", "exp_avg_sq")
_SEED = re.compile(r"seed_([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, order=True)
class LineageEntry:
    """One stretch of one market that reached a checkpoint's weights, or chose among them.

    Args:
        session: session id.
        event: Kalshi's event.
        market: market ticker.
        start_ms: first market time seen.
        end_ms: last market time seen.
    """

    session: int
    event: str
    market: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class TrainerState:
    """Everything of a checkpoint that is not a tensor.

    Args:
        phase: name of the phase that made it.
        algorithm: how it was trained.
        seed: seed of the phase.
        timesteps: environment steps of this phase so far.
        timesteps_total: the same, parents included.
        config: hyper-parameters of the phase.
        trading: rules of the episodes it was trained on.
        lineage: everything its weights have seen, parents included, sorted.
        selected_on: everything that chose among checkpoints or settings, parents included, sorted.
        parent: content hash of the checkpoint the phase continued from.
        feature_table_version: meaning of the observation's columns.
        generators: state of each random generator, by name, as JSON values.
        curriculum: state of the market sampler, as JSON values.
        alerts: what the alerts have seen and done so far, as JSON values.
        knobs: settings of the algorithm as they stand, which alerts may have moved.
        foreign: it, or one it continued from, was made by others (`storage/foreign.py`): what its
            weights have seen is unknown, whatever `lineage` says.
        format_version: layout of this folder.
    """

    phase: str
    seed: int
    timesteps: int
    timesteps_total: int
    config: LearnerConfig
    trading: TradingConfig
    lineage: tuple[LineageEntry, ...]
    selected_on: tuple[LineageEntry, ...]
    parent: str | None
    generators: dict[str, Any] = field(default_factory=dict)
    curriculum: dict[str, Any] = field(default_factory=dict)
    alerts: dict[str, Any] = field(default_factory=dict)
    knobs: dict[str, float] = field(default_factory=dict)
    algorithm: str = "ppo"
    foreign: bool = False
    feature_table_version: str = FEATURE_TABLE_VERSION
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A policy, its optimiser and how they came to be; compare with `content_hash`.

    Args:
        state: everything but the tensors.
        policy: parameter name -> weights, float32, of `tensor_shapes`.
        optimizer: Adam moments, float32, of `optimizer_shapes`.
        environment: state of the vector environment and of the learner between two updates, where
            the phase is to be resumed from here.
        extra: what else the algorithm carries on from phase to phase, float32.
    """

    state: TrainerState
    policy: Tensors
    optimizer: Tensors
    environment: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    extra: Tensors = field(default_factory=dict)

    @cached_property
    def content_hash(self) -> str:
        """sha256 over the bytes of its files, in hex."""
        digest = hashlib.sha256()
        for name, content in sorted(_encode(self).items()):
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()


def tensor_shapes(hidden: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of separate actor and critic with these hidden layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for net, head, outputs in (
        ("policy_net", "action_net", ACTION_COUNT),
        ("value_net", "value_net", 1),
    ):
        widths = (OBSERVATION_WIDTH, *hidden)
        for layer, (inputs, width) in enumerate(pairwise(widths)):
            name = f"mlp_extractor.{net}.{2 * layer}"  # odd places hold the ReLUs
            shapes |= {f"{name}.weight": (width, inputs), f"{name}.bias": (width,)}
        shapes |= {f"{head}.weight": (outputs, widths[-1]), f"{head}.bias": (outputs,)}
    return shapes


def optimizer_shapes(hidden: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Adam's moments for those weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in tensor_shapes(hidden).items():
        shapes |= {f"{moment}.{name}": shape for moment in MOMENTS} | {f"step.{name}": ()}
    return shapes


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint's files into an existing folder (publishing makes them visible and safe).

    Raises:
        CorruptCheckpoint: a tensor is missing, of the wrong shape or not finite.
    """
    for name, content in encode(checkpoint).items():
        (folder / name).write_bytes(content)


def seed_folder(seed: int) -> str:
    """Where a phase keeps the checkpoint it trained with this seed."""
    return f"seed_{seed}"


def load_seeds(folder: Path) -> dict[int, Checkpoint]:
    """Every checkpoint of a phase, by seed, ascending.

    Raises:
        CorruptCheckpoint: there is none, or one is damaged; see `load`.
        IncompatibleCheckpoint: see `load`.
    """
    found = (_SEED.fullmatch(path.name) for path in folder.iterdir())
    seeds = sorted(int(match[1]) for match in found if match)
    if not seeds:
        raise CorruptCheckpoint("a phase has no checkpoint of any seed", value=str(folder))
    return {seed: load(folder / seed_folder(seed)) for seed in seeds}


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint back, all of it or nothing; nothing in it is executed.

    Raises:
        CorruptCheckpoint: a file is missing, too large or damaged, or a tensor is of the wrong
            shape or not finite.
        IncompatibleCheckpoint: made for another feature table or folder layout.
    """
    optional = [name for name in OPTIONAL if (folder / name).exists()]
    return decode({name: _read(folder, name) for name in (*REQUIRED, *optional)}, str(folder))


def load_published(folder: Path) -> Checkpoint:
    """Read the checkpoint of a published phase's seed, its bytes those of the phase's manifest.

    Args:
        folder: `seed_{n}` of a generation.

    Raises:
        CorruptCheckpoint: it lies in no generation, or is not what was published.
        IncompatibleCheckpoint: see `load`.
    """
    folder = folder.resolve()
    try:
        declared = read_manifest(folder.parent)["files"]
    except CorruptFile as error:
        raise CorruptCheckpoint(
            f"{folder.name} is vouched for by no manifest of a published phase ({error})",
            rule="manifest",
            value=str(folder),
        ) from error
    inside = f"{folder.name}/"
    names = [name.removeprefix(inside) for name in declared if name.startswith(inside)]
    contents = {name: _read(folder, name) for name in names}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != declared[inside + name]["sha256"]:
            raise CorruptCheckpoint(
                f"{name} is not what was published; materialize the phase again",
                rule="sha256",
                value=str(folder),
            )
    return decode(contents, str(folder))


def encode(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Its files, name -> bytes.

    Raises:
        CorruptCheckpoint: a tensor is missing, of the wrong shape or not finite.
    """
    check_tensors(checkpoint)
    return _encode(checkpoint)


def decode(contents: Mapping[str, bytes], where: str) -> Checkpoint:
    """The checkpoint of these files, all of it or nothing; nothing in it is executed.

    Args:
        contents: file name -> bytes; names that are no part of a checkpoint are ignored.
        where: where they came from, for messages.

    Raises:
        CorruptCheckpoint: a file is missing or damaged, or a tensor is of the wrong shape or not
            finite.
        IncompatibleCheckpoint: made for another feature table or folder layout.
    """
    for name in REQUIRED:
        if name not in contents:
            raise CorruptCheckpoint(f"{name} is missing", value=where)
    checkpoint = Checkpoint(
        _decode_state(contents[TRAINER], where),
        _decode_tensors(contents, POLICY, where),
        _decode_tensors(contents, OPTIMIZER, where),
        *(_decode_tensors(contents, name, where) if name in contents else {} for name in OPTIONAL),
    )
    check_tensors(checkpoint)
    return checkpoint


def _encode(checkpoint: Checkpoint) -> dict[str, bytes]:
    import msgspec
    from safetensors.numpy import save as encode_tensors

    def encode(tensors: Mapping[str, NDArray[Any]]) -> bytes:
        # safetensors copies memory as it lies: a strided view would be saved scrambled
        return encode_tensors({name: np.asarray(t, order="C") for name, t in tensors.items()})

    state = json.dumps(
        msgspec.to_builtins(checkpoint.state), sort_keys=True, indent=1, allow_nan=False
    )
    files = {
        POLICY: encode(checkpoint.policy),
        OPTIMIZER: encode(checkpoint.optimizer),
        TRAINER: state.encode() + b"\n",
    }
    for name, tensors in ((ENVIRONMENT, checkpoint.environment), (LEARNER, checkpoint.extra)):
        if tensors:
            files[name] = encode(tensors)
    return files


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CorruptCheckpoint(
                f"{name} is larger than any checkpoint", rule=f"<= {MAX_FILE_BYTES}", value=size
            )
        return path.read_bytes()
    except OSError as error:
        raise CorruptCheckpoint(f"{name} cannot be read", value=str(path)) from error


def _decode_state(content: bytes, where: str) -> TrainerState:
    import msgspec

    try:
        document = json.loads(content)
        _check_versions(document)
        state = msgspec.convert(document, TrainerState)
        config = msgspec.convert(document["config"], CONFIGS[state.algorithm])
        return replace(state, config=config)
    except (
        ValueError,
        RecursionError,
    ) as error:  # bad JSON, bad UTF-8 and bad types are ValueErrors
        raise CorruptCheckpoint(f"{TRAINER} is damaged: {error}", value=where) from error


def _check_versions(document: Any) -> None:
    if not isinstance(document, dict):
        raise CorruptCheckpoint(f"{TRAINER} is not an object", value=type(document).__name__)
    for name, ours in (
        ("format_version", FORMAT_VERSION),
        ("feature_table_version", FEATURE_TABLE_VERSION),
    ):
        if (theirs := document.get(name)) != ours:
            raise IncompatibleCheckpoint(
                f"the checkpoint has {name} {theirs!r}, this code has {ours!r}: train it anew",
                rule=name,
                value=theirs,
            )
    if (algorithm := document.get("algorithm")) not in list(CONFIGS):
        raise IncompatibleCheckpoint(
            f"the checkpoint was trained by {algorithm!r}, this code knows {', '.join(CONFIGS)}",
            rule="algorithm",
            value=algorithm,
        )


def _decode_tensors(
    contents: Mapping[str, bytes], name: str, where: str
) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(contents[name])
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{name} is damaged: {error}", value=where) from error
    tensors: dict[str, NDArray[Any]] = {}
    for tensor, entry in entries:
        if (dtype := DTYPES.get(entry["dtype"])) is None:
            raise CorruptCheckpoint(f"{tensor} is not a number", rule="dtype", value=entry["dtype"])
        tensors[tensor] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return tensors


def check_tensors(checkpoint: Checkpoint) -> None:
    """Refuse weights or moments that are not those of the checkpoint's network.

    Raises:
        CorruptCheckpoint: a tensor is missing, of the wrong shape or not finite.
    """
    hidden = checkpoint.state.config.hidden
    for tensors, shapes in (
        (checkpoint.policy, tensor_shapes(hidden)),
        (checkpoint.optimizer, optimizer_shapes(hidden)),
    ):
        if odd := sorted(set(tensors) ^ set(shapes)):
            raise CorruptCheckpoint(
                "a tensor is missing or not expected", rule="names", value=odd[0]
            )
        for name, shape in shapes.items():
            found = (tensors[name].dtype.name, tensors[name].shape)
            if found != ("float32", shape):
                raise CorruptCheckpoint(f"{name} should be float32 {shape}", value=found)
            if not np.isfinite(tensors[name]).all():
                raise CorruptCheckpoint(f"{name} is not finite", rule="finite")
    for name, tensor in checkpoint.extra.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise CorruptCheckpoint(f"{name} is not finite float32", rule="finite")
