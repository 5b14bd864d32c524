"""Reading the checkpoints of training runs: all of one or nothing, and what else there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, IncompatibleCheckpoint
from kalshi_pipeline.learning.records import History, Snapshot
from kalshi_pipeline.storage.checkpoints import ENVIRONMENT, Checkpoint, decode
from kalshi_pipeline.storage.whole_folder import read_folder

RUN, BEST, PROGRESS = "run.json", "best.json", "progress.json"
_CHECKPOINT = re.compile(r"checkpoint_([0-9]{1,12})", re.ASCII)


def load_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint of a run, to evaluate or to continue from; without its state of resuming.

    Args:
        folder: `checkpoint_{timesteps}` of a run.

    Raises:
        CorruptCheckpoint: it is damaged; names the one before it that is whole.
        IncompatibleCheckpoint: made by another feature table or layout.
    """
    try:
        contents = {name: c for name, c in _whole(folder).items() if name != ENVIRONMENT}
        return decode(contents, str(folder))
    except CorruptCheckpoint as error:
        raise CorruptCheckpoint(
            f"{folder.name} is damaged ({error}); {_offer(folder)}",
            rule="whole",
            value=str(folder),
        ) from error


def load_snapshot(folder: Path) -> Snapshot:
    """A snapshot of a run that is not published yet, to go on from exactly there.

    Args:
        folder: `checkpoint_{timesteps}` of a run.

    Raises:
        CorruptCheckpoint: it is damaged, or can be continued from but not resumed.
        IncompatibleCheckpoint: made by another feature table or layout.
    """
    return read_snapshot(folder)[0]


def load_best(folder: Path) -> Checkpoint:
    """The checkpoint of a run that validated best; its newest where nothing validated.

    Args:
        folder: of the run, with at least one checkpoint.

    Raises:
        CorruptCheckpoint: it is damaged; names the one before it that is whole.
        IncompatibleCheckpoint: made by another feature table or layout.
    """
    present = checkpoint_timesteps(folder)
    name = f"checkpoint_{present[-1]}"
    if (folder / BEST).is_file():
        try:
            name = str(json.loads((folder / BEST).read_bytes())["checkpoint"])
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptCheckpoint(f"{BEST} is damaged", value=str(folder)) from error
    if not _CHECKPOINT.fullmatch(name):
        raise CorruptCheckpoint(f"{BEST} names no checkpoint", rule="best", value=name)
    return load_checkpoint(folder / name)


def checkpoint_timesteps(folder: Path) -> list[int]:
    """Timesteps of the checkpoints of a run, ascending."""
    found = (_CHECKPOINT.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _offer(folder: Path) -> str:
    match = _CHECKPOINT.fullmatch(folder.name)
    for timesteps in reversed(checkpoint_timesteps(folder.parent) if match else []):
        earlier = folder.with_name(f"checkpoint_{timesteps}")
        if match and timesteps < int(match[1]):
            try:
                decode(_whole(earlier), str(earlier))
            except (CorruptCheckpoint, IncompatibleCheckpoint):
                continue
            return f"the one before it is whole: use {earlier.name}, {earlier}"
    return "no earlier one is whole: train it anew"


def read_snapshot(path: Path) -> tuple[Snapshot, dict[str, int]]:
    """A snapshot, and how long each diagnostics file was when it was saved, bytes by name.

    Raises:
        CorruptCheckpoint: see `load_snapshot`.
        IncompatibleCheckpoint: see `load_snapshot`.
    """
    import msgspec

    contents = _whole(path)
    checkpoint = decode(contents, str(path))
    try:
        progress = json.loads(contents[PROGRESS])
        history = msgspec.convert(progress["history"], History)
        best, logs = progress["best"], dict(progress["logs"])
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptCheckpoint(
            f"{path.name} cannot be resumed from", rule=PROGRESS, value=str(path)
        ) from error
    if not checkpoint.environment:
        raise CorruptCheckpoint(f"{path.name} cannot be resumed from", rule=ENVIRONMENT)
    chosen = None if best is None else load_checkpoint(path.with_name(f"checkpoint_{best}"))
    return Snapshot(checkpoint, history, chosen), logs


def _whole(folder: Path) -> dict[str, bytes]:
    try:
        return read_folder(folder)
    except CorruptFile as error:
        raise CorruptCheckpoint(str(error), rule="whole", value=folder.name) from error


def described(folder: Path) -> dict[str, Any]:
    """What `run.json` says of a run: its key, its timestamp, and what it was published as.

    Raises:
        CorruptFile: it cannot be read.
    """
    try:
        found = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{RUN} of a training run cannot be read", value=str(folder)) from error
    if not isinstance(found, dict):
        raise CorruptFile(f"{RUN} of a training run is no object", value=str(folder))
    return found
