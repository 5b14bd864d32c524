"""A copy of everything that is not elsewhere: Dagster's state and the warehouse.

    <folder>/dagster/     dagster.yaml, and the SQLite files or dagster.dump of PostgreSQL
    <folder>/warehouse/   as it is, without what is unfinished; only ever added to

The state is copied first, so that it names no generation the copied warehouse lacks, and a pointer
last of its partition, for the same reason: a copy that was interrupted is whole as far as it can be
seen. Runs may go on meanwhile. A generation never changes: what is in the copy already is not
copied again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kalshi_pipeline.errors import StorageError
from kalshi_pipeline.storage.publish import CURRENT, MANIFEST, STAGING

_STATE, _WAREHOUSE, _DUMP, _SETTINGS = "dagster", "warehouse", "dagster.dump", "dagster.yaml"
_BEFORE = f"{_STATE}.before"
_DATABASES = ("history", "schedules")  # folders of SQLite files under the home
_PASSING = (".db-wal", ".db-shm", ".db-journal")


@dataclass(frozen=True)
class Deployed:
    """What is backed up, and where a backup is restored to.

    Args:
        home: `DAGSTER_HOME`.
        warehouse: root of everything published; None where an object store has it, whose own
            versions and copies are its backup.
        postgres: environment of PostgreSQL's programs (`PATH`, `PGHOST`, `PGPASSWORD`, ...), where
            Dagster's state lies there.
    """

    home: Path
    warehouse: Path | None
    postgres: dict[str, str] | None = None


def back_up(deployed: Deployed, folder: Path) -> int:
    """Copy a deployment into a folder; how many files of the warehouse were new there.

    Raises:
        StorageError: the folder and what is copied lie within each other, or PostgreSQL's programs
            are missing or fail; the backup before is as it was.
    """
    _refuse_within(deployed, folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = folder / f".{uuid.uuid4().hex}"
    try:
        state.mkdir(mode=0o700)
        _copy_state(deployed, state)
        if (folder / _STATE).exists():
            shutil.rmtree(folder / _BEFORE, ignore_errors=True)
            (folder / _STATE).rename(folder / _BEFORE)
        state.rename(folder / _STATE)
        shutil.rmtree(folder / _BEFORE, ignore_errors=True)
    finally:
        shutil.rmtree(state, ignore_errors=True)
    if deployed.warehouse is None:
        return 0
    (folder / _WAREHOUSE).mkdir(exist_ok=True, mode=0o700)
    (folder / _WAREHOUSE).chmod(0o700)  # the folder itself may be somebody's mount: it stays so
    return _copy_folder(deployed.warehouse, folder / _WAREHOUSE)


def restore(folder: Path, deployed: Deployed) -> None:
    """Make a deployment of a backup, where there is none.

    Raises:
        StorageError: no backup lies there, or something is in the place of what is restored.
    """
    state, warehouse = folder / _STATE, folder / _WAREHOUSE
    if not state.exists():  # interrupted as the new one was put into its place
        state = folder / _BEFORE
    if not state.is_dir() or (deployed.warehouse and not warehouse.is_dir()):
        raise StorageError("no backup lies here", value=str(folder))
    dumped = (state / _DUMP).is_file()
    if dumped != (deployed.postgres is not None):
        where = "in PostgreSQL: set DAGSTER_POSTGRES_URL" if dumped else "in SQLite: unset it"
        raise StorageError(f"the state of this backup lies {where}", value=str(folder))
    for place in _places(deployed):
        if place.exists() and any(place.iterdir()):
            raise StorageError("something is here already; move it away first", value=str(place))
    if deployed.postgres is not None:
        _run(deployed.postgres, "pg_restore", "--no-owner", "--exit-on-error",
             "--dbname", deployed.postgres["PGDATABASE"], str(state / _DUMP))  # fmt: skip
    left_out = shutil.ignore_patterns(_DUMP)
    shutil.copytree(state, deployed.home, ignore=left_out, dirs_exist_ok=True)
    if deployed.warehouse:
        shutil.copytree(warehouse, deployed.warehouse, dirs_exist_ok=True)


def _places(deployed: Deployed) -> list[Path]:
    return [place for place in (deployed.home, deployed.warehouse) if place]


def _refuse_within(deployed: Deployed, folder: Path) -> None:
    for name in (_STATE, _WAREHOUSE):
        target = (folder / name).resolve()
        for source in (place.resolve() for place in _places(deployed)):
            if target.is_relative_to(source) or source.is_relative_to(target):
                raise StorageError(
                    f"a backup must lie apart from {source}, which it is of", value=str(folder)
                )


def _copy_state(deployed: Deployed, state: Path) -> None:
    shutil.copy2(deployed.home / _SETTINGS, state)
    if deployed.postgres is not None:
        _run(deployed.postgres, "pg_dump", "--format=custom", "--no-owner", "--no-acl",
             f"--file={state / _DUMP}")  # fmt: skip
        return
    for name in _DATABASES:
        for source in (deployed.home / name).rglob("*.db"):
            _copy_database(source, state / source.relative_to(deployed.home))


def _copy_database(source: Path, target: Path) -> None:
    # rw, not rwc: a run's events that were pruned meanwhile are not made again, empty
    address = f"{source.absolute().as_uri()}?mode=rw"
    try:
        opened = sqlite3.connect(address, uri=True, timeout=60)
    except sqlite3.OperationalError:
        if source.exists():
            raise
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(opened), closing(sqlite3.connect(target)) as copied:
        opened.backup(copied)


def _run(postgres: dict[str, str], program: str, *arguments: str) -> None:
    # the password is in the child's environment, which only its owner and root can read
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs, our own arguments
            [program, "--no-password", *arguments],
            env=postgres, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise StorageError(f"{program} is not on the PATH: install PostgreSQL's client") from error
    if done.returncode:
        told = " ".join(done.stderr.split())[-300:]
        raise StorageError(f"{program} failed: {told}")


def _copy_folder(source: Path, target: Path) -> int:
    """Copy what is new in a folder of the warehouse; how many files that were.

    What vouches for something comes after it: a manifest after the files of its generation, a
    pointer after the generations, as it was before they were listed, for a run may move it.
    """
    pointer = _taken(source / CURRENT, target / CURRENT)
    try:
        copied = sum(_copy(path, target / path.name) for path in _inside(source))
        if pointer:
            pointer.replace(target / CURRENT)
        return copied + bool(pointer)
    finally:
        if pointer:
            pointer.unlink(missing_ok=True)


def _inside(folder: Path) -> list[Path]:
    """What is copied of a folder, but its pointer, in this order."""
    try:
        found = sorted(folder.iterdir(), key=lambda path: (path.name == MANIFEST, path.name))
    except FileNotFoundError:  # pruned meanwhile
        return []
    return [
        path
        for path in found
        if path.name not in {CURRENT, STAGING}
        and not path.is_symlink()
        and not path.name.endswith(_PASSING)
    ]


def _copy(source: Path, target: Path) -> int:
    if source.is_dir():
        return _copy_folder(source, target)
    if taken := _taken(source, target):
        taken.replace(target)
    return bool(taken)


def _taken(source: Path, target: Path) -> Path | None:
    """A copy of a file beside its place, so that it is never half there; None where it need not be.

    It is as old as the file was before it was read: what changes meanwhile is new the next time.
    """
    beside = target.with_name(f".{uuid.uuid4().hex}")
    try:
        new = source.stat()
        if target.exists():
            old = target.stat()
            if (new.st_size, new.st_mtime_ns) == (old.st_size, old.st_mtime_ns):
                return None
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, beside)
        os.utime(beside, ns=(new.st_atime_ns, new.st_mtime_ns))
    except OSError as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError) and not source.exists():
            return None  # pruned, or replaced, meanwhile
        raise
    return beside
