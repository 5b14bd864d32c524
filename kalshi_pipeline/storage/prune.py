"""Old generations: which of them nothing needs any more, and how they go.

A generation stays while any of this holds:

* it is the current one, or among the newest few before it;
* it has not been superseded for long: a run that resolved the pointer then may still read it;
* one that stays for these reasons was made from it, directly or by way of others: the books the
  present checkpoint has learned from, and that which an evaluation has judged;
* it holds a checkpoint. What was learned from and chosen on stands nowhere else, and a session it
  has seen is never clean forward again; nor can a sealed session be opened for another. It is
  small: what it was made from may go.

It goes as a whole: moved out of sight in one step, with the lock of its folder held alone, so that
no writer can make it current in that moment; then it is deleted.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kalshi_pipeline.errors import CorruptFile, InvalidName, NotPublished, StorageError
from kalshi_pipeline.storage.checkpoints import TRAINER
from kalshi_pipeline.storage.folder_lock import locked
from kalshi_pipeline.storage.publish import (
    CURRENT,
    MANIFEST,
    STAGING,
    Warehouse,
    read_manifest,
)
from kalshi_pipeline.storage.shared import SharedWarehouse

_GENERATION = "gen="
_PARTITION = "session="


@dataclass(frozen=True)
class Superseded:
    """A generation that is not current.

    Args:
        asset: whose.
        partition: session, or None of an unpartitioned asset.
        generation: content hash.
        since_ms: since when it has not been; Unix milliseconds. Never too early, may be too late.
    """

    asset: str
    partition: str | None
    generation: str
    since_ms: int

    def folder(self, warehouse: Warehouse) -> Path:
        """Where its files lie."""
        return warehouse.home(self.asset, self.partition) / f"{_GENERATION}{self.generation}"


def prunable(
    warehouse: Warehouse, older_than_ms: int, now_ms: int, *, keep: int
) -> list[Superseded]:
    """Generations that nothing needs any more, in the order of their folders.

    Args:
        warehouse: where they are.
        older_than_ms: how long a generation must have been superseded.
        now_ms: Unix milliseconds.
        keep: how many of a partition's newest superseded generations stay in any case.

    Raises:
        CorruptFile: what one that stays was made from cannot be read, so that nothing can go.
        StorageError: the warehouse is shared: no lock of this machine holds off the others' runs.
    """
    if isinstance(warehouse, SharedWarehouse):
        raise StorageError(
            "a warehouse in an object store is not pruned; this machine's copy of it can be "
            "removed whenever nothing runs",
            value=str(warehouse.root),
        )
    stay: set[Path] = set()
    candidates: list[Superseded] = []
    for asset, partition in _homes(warehouse):
        home = warehouse.home(asset, partition)
        folders = set(home.glob(f"{_GENERATION}*"))
        old = _superseded(warehouse, asset, partition)
        gone = [entry for entry in old[keep:] if now_ms - entry.since_ms >= older_than_ms]
        stay |= folders - {entry.folder(warehouse) for entry in gone}
        candidates += gone
    needed = _made_from(warehouse, stay, candidates)
    left = {
        entry.folder(warehouse): entry for entry in candidates if entry.generation not in needed
    }
    return [left[folder] for folder in sorted(left) if not any(folder.rglob(TRAINER))]


def remove(warehouse: Warehouse, entry: Superseded) -> bool:
    """Remove a generation; False where it has become current again, or is gone already."""
    folder = entry.folder(warehouse)
    aside = warehouse.root / entry.asset / STAGING / uuid.uuid4().hex
    aside.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent, alone=True):
        if entry not in _superseded(warehouse, entry.asset, entry.partition):
            return False
        warehouse.files.rename(folder, aside)
        warehouse.files.sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)  # what is left of it goes with the next sweep
    return True


def size_bytes(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _homes(warehouse: Warehouse) -> Iterator[tuple[str, str | None]]:
    for found, folders, _ in os.walk(warehouse.root):  # what vanishes meanwhile is passed over
        inside = [name for name in folders if name.startswith(_GENERATION)]
        folders[:] = sorted({*folders} - {*inside, STAGING})
        place = Path(found)
        if not inside or place == warehouse.root:
            continue
        *parents, last = place.relative_to(warehouse.root).parts
        partition = last.removeprefix(_PARTITION) if last.startswith(_PARTITION) else None
        asset = "/".join(parents if partition else [*parents, last])
        try:
            if warehouse.home(asset, partition) == place:
                yield asset, partition
        except InvalidName:  # none of ours
            continue


def _superseded(warehouse: Warehouse, asset: str, partition: str | None) -> list[Superseded]:
    """A partition's generations but the current one, the newest first."""
    home = warehouse.home(asset, partition)
    try:
        current: str | None = warehouse.current(asset, partition).content_hash
        pointed_ns = (home / CURRENT).stat().st_mtime_ns
    except NotPublished:  # a run died before its first pointer
        current, pointed_ns = None, 0
    except CorruptFile:  # which is current nobody knows: all of them stay
        return []
    found = []
    for folder in home.glob(f"{_GENERATION}*"):
        written = folder / MANIFEST
        made_ns = (written if written.exists() else folder).stat().st_mtime_ns
        generation = folder.name.removeprefix(_GENERATION)
        if generation != current:
            found.append((made_ns, generation))
    return [
        Superseded(asset, partition, generation, max(made_ns, pointed_ns) // 1_000_000)
        for made_ns, generation in sorted(found, reverse=True)
    ]


def _made_from(
    warehouse: Warehouse, stay: Iterable[Path], candidates: Iterable[Superseded]
) -> set[str]:
    """Content hashes that what stays was made from, however far back."""
    folders = defaultdict(list)  # equal content may lie in several partitions, made of other inputs
    for entry in candidates:
        folders[entry.generation].append(entry.folder(warehouse))
    waiting = list(stay)
    needed: set[str] = set()
    while waiting:
        inputs = set(read_manifest(waiting.pop())["recipe"]["inputs"].values())
        waiting += [folder for name in inputs - needed for folder in folders[name]]
        needed |= inputs
    return needed
