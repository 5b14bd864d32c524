"""The folder of a training run: what it leaves while it runs, and where it goes on after a crash.

    trained_models/{sessions}_{algorithm}_{timestamp}/
        run.json                     what is trained, by digest: so that it is found again
        checkpoint_{timesteps}/      weights, optimiser, state, history; whole or absent
        best.json                    which of them validated best so far
        unusable_{n}/                checkpoints nothing can be gone on from, set aside
        training_{timestamp}.log     for people; only ever appended to
        m10_diagnostics/*.jsonl      for machines; as long as the checkpoint a run continues from
        tensorboard/

One process writes a run: it holds a lock that ends with the process. The newest checkpoint and the
best five are kept. A phase whose output has been published keeps the five and its logs, without
what only resuming needs. See `docs/CHECKPOINTS.md`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import (
    CorruptCheckpoint,
    CorruptFile,
    KalshiPipelineError,
    RunInUse,
)
from kalshi_pipeline.learning.logs import DIAGNOSTICS
from kalshi_pipeline.learning.records import History, Snapshot
from kalshi_pipeline.learning.run_checkpoints import (
    BEST,
    PROGRESS,
    RUN,
    checkpoint_timesteps,
    described,
    read_snapshot,
)
from kalshi_pipeline.storage.checkpoints import ENVIRONMENT, encode
from kalshi_pipeline.storage.publish import STAGING, Files, canonical_json
from kalshi_pipeline.storage.whole_folder import (
    drop_files,
    remove_folder,
    replace_file,
    write_folder,
)

TRAINED_MODELS = "trained_models"
LOCK = ".lock"
UNUSABLE = "unusable"
KEPT = 5  # plan section 4.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunKey:
    """What a run trains: equal keys are one run, until it is finished.

    Args:
        plan: name of the plan.
        phase: name of the phase.
        seed: its seed.
        algorithm: how it learns.
        sessions: what it learns from.
        digest: of everything its outcome is a function of.
    """

    plan: str
    phase: str
    seed: int
    algorithm: str
    sessions: tuple[int, ...]
    digest: str

    @property
    def name(self) -> str:
        """Sessions and algorithm, as folders are called (plan section 4.5)."""
        return f"{'-'.join(map(str, self.sessions))}_{self.algorithm}"


@contextmanager
def open_run(
    root: Path, key: RunKey, now_ms: int, files: Files | None = None
) -> Iterator[TrainingRun]:
    """The unfinished run of a key, or a new one; this process alone writes it meanwhile.

    Args:
        root: the warehouse.
        key: what is trained.
        now_ms: names a new folder; Unix milliseconds.
        files: the file calls.

    Raises:
        RunInUse: another process writes it; names that process.
    """
    files = files or Files()
    home = root / TRAINED_MODELS
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / LOCK, wait=True):  # two that begin at once find the same folder
        folder = _find(home, key) or _create(home, key, now_ms, files)
    with _locked(folder / LOCK, wait=False):
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        yield TrainingRun(folder, files)


class TrainingRun:
    """A run that this process writes; made by `open_run`.

    Args:
        folder: where it lies.
        files: the file calls.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder
        self._files = files

    @property
    def timestamp(self) -> str:
        """When it was begun, as in the names of its folder and its log."""
        return str(described(self.folder)["timestamp"])

    @property
    def log_path(self) -> Path:
        """The log for people."""
        return self.folder / f"training_{self.timestamp}.log"

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, and of the earlier ones the best.

        Lines of the diagnostics that are to outlive a crash must have reached their files.

        Raises:
            CorruptCheckpoint: a tensor is missing, of the wrong shape or not finite.
            CorruptFile: a file would be too large to be read again; nothing is written.
        """
        checkpoint, history = snapshot.checkpoint, snapshot.history
        timesteps = checkpoint.state.timesteps
        best = None if snapshot.best is None else snapshot.best.state.timesteps
        progress = {"history": _builtins(history), "best": best, "logs": self._log_sizes()}
        contents = encode(checkpoint) | {PROGRESS: canonical_json(progress).encode()}
        if snapshot.best and best not in (timesteps, *self._timesteps()):
            # resumed from a snapshot of another run, which alone has it
            above = self._path(snapshot.best.state.timesteps)
            write_folder(above, encode(snapshot.best), self._files)
        write_folder(self._path(timesteps), contents, self._files)
        self._settle(snapshot)

    def resume_point(self) -> Snapshot | None:
        """The newest whole snapshot, its diagnostics as they were then; None of a new run.

        A damaged one is passed over and said in the log: what it held is trained again. Where there
        is none to go on from, all of them are set aside and the run begins anew. A crash after the
        snapshot was saved may have left an older `best.json`, or more than is kept: put right.

        Raises:
            IncompatibleCheckpoint: made by another feature table or layout.
        """
        for timesteps in reversed(self._timesteps()):
            try:
                snapshot, logs = read_snapshot(self._path(timesteps))
            except CorruptCheckpoint as error:
                _log.warning("%s is passed over: %s", self._path(timesteps), error)
                continue
            self._cut_logs(logs)
            self._settle(snapshot)
            _log.info("%s: continuing from %s", self.folder.name, self._path(timesteps).name)
            return snapshot
        if unusable := self._timesteps():
            self._set_aside(unusable)
        self._cut_logs({})
        return None

    def finish(self, published: str) -> None:
        """Mark the run as published and drop what only resuming needs.

        Args:
            published: content hash of the generation it became.
        """
        told = {**described(self.folder), "published": published}
        replace_file(self.folder / RUN, canonical_json(told).encode(), self._files)
        present = self._timesteps()
        if not present:
            return
        try:
            scores = dict(read_snapshot(self._path(present[-1]))[0].history.validations)
        except CorruptCheckpoint:
            scores = {}
        kept = self._best_few(scores, present[-1])
        for timesteps in present:
            try:
                if timesteps in kept:
                    drop_files(self._path(timesteps), (ENVIRONMENT, PROGRESS), self._files)
                    continue
            except CorruptFile as error:
                _log.warning("%s is removed: %s", self._path(timesteps), error)
            remove_folder(self._path(timesteps), self._files)

    def _settle(self, snapshot: Snapshot) -> None:
        # point to the best so far, and keep of the earlier ones the best few
        scores, timesteps = dict(snapshot.history.validations), snapshot.checkpoint.state.timesteps
        if snapshot.best is None:
            (self.folder / BEST).unlink(missing_ok=True)
        else:
            best = snapshot.best.state.timesteps
            pointer = {"checkpoint": self._path(best).name, "score": scores[best]}
            replace_file(self.folder / BEST, canonical_json(pointer).encode(), self._files)
        kept = {*self._best_few(scores, timesteps), timesteps}
        for other in self._timesteps():
            if other < timesteps and other not in kept:
                remove_folder(self._path(other), self._files)

    def _set_aside(self, unusable: list[int]) -> None:
        aside = next(
            path for n in count(1) if not (path := self.folder / f"{UNUSABLE}_{n}").exists()
        )
        aside.mkdir()
        for timesteps in unusable:
            self._files.rename(self._path(timesteps), aside / self._path(timesteps).name)
        (self.folder / BEST).unlink(missing_ok=True)
        _log.warning(
            "%s: none of its %s checkpoints can be gone on from: they are set aside in %s, and "
            "the run begins anew",
            self.folder.name, len(unusable), aside,
        )  # fmt: skip

    def _path(self, timesteps: int) -> Path:
        return self.folder / f"checkpoint_{timesteps}"

    def _timesteps(self) -> list[int]:
        return checkpoint_timesteps(self.folder)

    def _best_few(self, scores: dict[int, float], newest: int) -> set[int]:
        # highest score first, the earlier of equals; what was never scored, newest first, after it
        present = [timesteps for timesteps in self._timesteps() if timesteps <= newest]
        scored = sorted(scores.keys() & present, key=lambda at: (-scores[at], at))
        rest = sorted(set(present) - set(scored), reverse=True)
        return set([*scored, *rest][:KEPT])

    def _log_sizes(self) -> dict[str, int]:
        sizes = {}
        for path in sorted((self.folder / DIAGNOSTICS).glob("*.jsonl")):
            self._files.sync(path)
            sizes[path.name] = path.stat().st_size
        return sizes

    def _cut_logs(self, sizes: dict[str, int]) -> None:
        for path in sorted((self.folder / DIAGNOSTICS).glob("*.jsonl")):
            size = int(sizes.get(path.name, 0))
            if path.stat().st_size < size:
                _log.warning("%s has lost lines that were on disk: %s bytes remain", path, size)
            else:
                os.truncate(path, size)


def _builtins(history: History) -> Any:
    import msgspec

    return msgspec.to_builtins(history)


def _find(home: Path, key: RunKey) -> Path | None:
    wanted = json.loads(canonical_json(asdict(key)))
    for path in sorted(home.glob(f"{key.name}_*/{RUN}"), reverse=True):
        try:
            found = described(path.parent)
        except KalshiPipelineError as error:
            _log.warning("%s", error)
            continue
        if found.get("key") == wanted and "published" not in found:
            return path.parent
    return None


def _create(home: Path, key: RunKey, now_ms: int, files: Files) -> Path:
    timestamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    staged = home / STAGING / uuid.uuid4().hex
    staged.mkdir(parents=True)
    name, attempt = timestamp, 1
    while (home / f"{key.name}_{name}").exists():  # another phase or seed of the same second
        attempt += 1
        name = f"{timestamp}-{attempt}"
    told = {"key": asdict(key), "timestamp": name, "created_ms": now_ms}
    files.write(staged / RUN, canonical_json(told).encode())
    folder = home / f"{key.name}_{name}"
    files.rename(staged, folder)
    files.sync(home)
    return folder


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[None]:
    with path.open("a+") as file:  # the kernel gives the lock back when the process ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            raise RunInUse(
                f"process {file.read().strip() or 'unknown'} writes {path.parent}; wait for it or "
                "stop it, then ask again",
                rule="one writer",
                value=str(path.parent),
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
