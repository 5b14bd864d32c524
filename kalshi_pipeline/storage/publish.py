"""The only writer of the warehouse: a partition a reader can see is whole.

    <root>/<asset>/.staging/<unique>/      what is unfinished lies here, manifest.json last in it
    <root>/<asset>/<partition>/gen=<hash>/ then the folder is renamed to its content hash
    <root>/<asset>/<partition>/CURRENT     and one atomic replace moves the pointer

A reader resolves CURRENT once and then sees only that generation. Two writers need no lock: equal
content is the same generation, unequal content leaves two whole generations and one pointer.

The content hash covers the summary and every file but those under `exports/` (conveniences whose
bytes are not reproducible): all that a stage downstream may read. It is the data version Dagster
sees. What a generation was made from, its recipe, is kept in the pointer, so that unchanged inputs
are never computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from kalshi_pipeline.errors import CorruptFile, DiskFull, InvalidName, NotPublished
from kalshi_pipeline.names import session_id
from kalshi_pipeline.storage.folder_lock import locked
from kalshi_pipeline.storage.staged_file import StagedFile, Written, buffered

MANIFEST, CURRENT, EXPORTS, STAGING = "manifest.json", "CURRENT", "exports", ".staging"
LAYOUT_VERSION = 2

_ASSET = re.compile(r"[a-z][a-z0-9_]{0,63}(/[a-z][a-z0-9_]{0,63}){0,3}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True)
class Recipe:
    """What an output is a function of: change any of it and it is made anew.

    Args:
        code_version: version of the stage's code.
        config: every setting the stage reads, JSON values only.
        inputs: name of each upstream partition -> its content hash.
    """

    code_version: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of the recipe, order of keys irrelevant."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()


@dataclass(frozen=True)
class Generation:
    """One published version of a partition.

    Args:
        folder: where its files lie.
        content_hash: hash of its content, 16 hex digits.
        summary: what the stage said about it (row counts and the like).
        recipe_digest: recipe it was last published for.
        reused: True where it was found, not made.
    """

    folder: Path
    content_hash: str
    summary: Mapping[str, Any]
    recipe_digest: str
    reused: bool = False

    def path(self, name: str) -> Path:
        """One of its files, its bytes checked against the manifest.

        Raises:
            CorruptFile: missing, or not the bytes that were published.
        """
        return _checked(self.folder, name)

    def verified(self) -> Path:
        """Its folder, once every file in it is known to be what was published.

        Raises:
            CorruptFile: a file is missing, or not the bytes that were published.
        """
        for name in read_manifest(self.folder)["files"]:
            self.path(name)
        return self.folder


@dataclass
class Staging:
    """A folder being filled; it becomes a generation when its `with` block ends well."""

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    published: Generation | None = None
    written: dict[str, Written] = field(default_factory=dict)

    def open(self, name: str) -> IO[bytes]:
        """A new file in it, to be written and closed; it is hashed and flushed meanwhile."""
        return buffered(StagedFile(self.folder / name, self.written, name))

    def sha256(self, name: str) -> str:
        """Hash of one of its files: as its writer told, or read again."""
        told, path = self.written.get(name), self.folder / name
        return told.sha256 if told and told.describes(path) else file_sha256(path)

    def remember(self, folder: Path) -> None:
        """Files that were hashed as they were written are known where they have been moved to."""
        for name, told in self.written.items():
            path = folder / name
            if told.describes(path):
                _verified[_identity(path)] = told.sha256

    @property
    def generation(self) -> Generation:
        """The generation it became."""
        if self.published is None:
            raise NotPublished("this staging folder has not been published", value=self.folder.name)
        return self.published


class Files:
    """The file calls publishing depends on: a seam where tests make the k-th one fail."""

    def write(self, path: Path, content: bytes) -> None:
        """Write a whole file and flush it to the device."""
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, path: Path) -> None:
        """Flush a file or folder to the device."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move a folder; fails where the target exists."""
        source.rename(target)

    def replace(self, source: Path, target: Path) -> None:
        """Move a file over another in one step."""
        source.replace(target)


class Warehouse:
    """The published outputs under one root folder."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        self.root = root.resolve()
        self.files = files or Files()

    @contextmanager
    def stage(self, asset: str, partition: str | None, recipe: Recipe) -> Iterator[Staging]:
        """Fill a folder; when the block ends without an error it is the current generation.

        Args:
            asset: asset name, `/` between the parts of a prefixed one.
            partition: session id, or None for an unpartitioned asset.
            recipe: what the content is a function of.

        Yields:
            The staging folder; put files into it and figures into its `summary`.

        Raises:
            DiskFull: no room for it; what was published before is untouched.
        """
        home = self.home(asset, partition)
        home.mkdir(parents=True, exist_ok=True)
        staging = Staging(self.root / asset / STAGING / uuid.uuid4().hex)
        staging.folder.mkdir(parents=True)
        try:
            yield staging
            staging.published = self._publish(home, staging, recipe)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise _disk_full(home, staging.folder) from error
        finally:
            shutil.rmtree(staging.folder, ignore_errors=True)

    def current(self, asset: str, partition: str | None = None) -> Generation:
        """The generation a reader should see now.

        Raises:
            NotPublished: nothing has been published here; says what to materialize.
            CorruptFile: the pointer or the manifest is damaged.
        """
        home = self.home(asset, partition)
        pointer = self._pointer(home)
        if pointer is None:
            where = f"{asset} of session {partition}" if partition else asset
            raise NotPublished(
                f"{where} has not been materialized yet", session=partition, rule=asset
            )
        folder = home / f"gen={pointer['generation']}"
        return Generation(
            folder, pointer["generation"], read_manifest(folder)["summary"], pointer["recipe"], True
        )

    def made_from(self, asset: str, partition: str | None, recipe: Recipe) -> Generation | None:
        """The current generation if it was made from exactly this recipe and is undamaged."""
        try:
            generation = self.current(asset, partition)
        except (NotPublished, CorruptFile):
            return None
        same = generation.recipe_digest == recipe.digest and _intact(generation.folder)
        return generation if same else None

    def sweep(self, now_ms: int, older_than_ms: int = 86_400_000) -> int:
        """Remove what crashed runs left unfinished; returns how many folders and files."""
        removed = 0
        for path in self.root.glob(f"**/{STAGING}/*"):
            try:
                if path.stat().st_mtime * 1000 >= now_ms - older_than_ms:
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except FileNotFoundError:  # its own run, or another sweep, was faster
                continue
            removed += 1
        return removed

    def home(self, asset: str, partition: str | None = None) -> Path:
        """Folder that holds an asset's (or one partition's) generations.

        Raises:
            InvalidName: not an asset's name or not a session id, or its folder is a link that leads
                out of the warehouse.
        """
        if not _ASSET.fullmatch(asset):
            raise InvalidName("not the name of an asset", rule="asset", value=asset[:100])
        home = self.root / asset
        if partition is not None:
            home /= f"session={session_id(partition)}"
        if not home.resolve().is_relative_to(self.root):
            raise InvalidName("an asset's folder leaves the warehouse", value=str(home))
        return home

    def _pointer(self, home: Path) -> dict[str, str] | None:
        path = home / CURRENT
        try:
            pointer = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptFile("the CURRENT pointer is damaged", value=str(path)) from error
        fields = pointer if isinstance(pointer, dict) else {}
        generation, recipe = (str(fields.get(name)) for name in ("generation", "recipe"))
        if not _HASH.fullmatch(generation):
            raise CorruptFile("the CURRENT pointer names no generation", value=str(path))
        return {"generation": generation, "recipe": recipe}

    def _publish(self, home: Path, staging: Staging, recipe: Recipe) -> Generation:
        summary = json.loads(canonical_json(staging.summary))  # as a reader will see it
        inside = sorted(staging.folder.rglob("*"))
        files = {}
        for path in inside:
            if path.is_file():
                name = path.relative_to(staging.folder).as_posix()
                files[name] = {"sha256": staging.sha256(name), "bytes": path.stat().st_size}
        content_hash = _content_hash(files, summary)
        manifest = {
            "layout_version": LAYOUT_VERSION,
            "content_hash": content_hash,
            "recipe": asdict(recipe),
            "files": files,
            "summary": summary,
        }
        for path in inside:
            self.files.sync(path)
        self.files.write(staging.folder / MANIFEST, canonical_json(manifest).encode())
        self.files.sync(staging.folder)
        target = home / f"gen={content_hash}"
        with locked(home):  # nobody prunes a generation that is about to be current
            self._move(staging.folder, target)
            staging.remember(target)
            self.files.sync(home)
            self._point(home, staging, {"generation": content_hash, "recipe": recipe.digest})
        return Generation(target, content_hash, summary, recipe.digest)

    def _move(self, folder: Path, target: Path) -> None:
        if target.exists() and not _intact(target):
            with suppress(FileNotFoundError):  # another run repairs it too
                self.files.rename(target, _beside(folder))
        try:
            self.files.rename(folder, target)
        except OSError:
            if not _intact(target):
                raise
            # equal content was published before, or by another run in this moment

    def _point(self, home: Path, staging: Staging, pointer: Mapping[str, str]) -> None:
        temporary = _beside(staging.folder)
        try:
            self.files.write(temporary, canonical_json(pointer).encode())
            self.files.replace(temporary, home / CURRENT)
        finally:
            temporary.unlink(missing_ok=True)
        self.files.sync(home)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a generation.

    Raises:
        CorruptFile: it is missing, not a manifest, or not the one its content hash was made from.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        declared = _content_hash(manifest["files"], manifest["summary"])
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFile("a generation has no readable manifest", value=str(path)) from error
    if folder.name != f"gen={declared}":
        raise CorruptFile(
            "a manifest is not the one that was published", rule="content_hash", value=str(path)
        )
    return manifest


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare bytes: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_hash(files: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    hashes = {
        name: entry["sha256"] for name, entry in files.items() if not name.startswith(f"{EXPORTS}/")
    }
    return hashlib.sha256(canonical_json([hashes, summary]).encode()).hexdigest()[:16]


def _beside(folder: Path) -> Path:
    # a fresh name in the same staging area
    return folder.with_name(uuid.uuid4().hex)


def _disk_full(home: Path, staged: Path) -> DiskFull:
    free = shutil.disk_usage(home).free
    written = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
    return DiskFull(
        f"no room to publish under {home}: {written:,} bytes written so far, {free:,} free; "
        "make room and run again",
        value=str(home),
    )


def _intact(folder: Path) -> bool:
    try:
        for name in read_manifest(folder)["files"]:
            _checked(folder, name)
    except CorruptFile:
        return False
    return True


# sha256 of files by what changes whenever their bytes do
_verified: dict[tuple[str, int, int, int], str] = {}


def _identity(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return str(path), status.st_ino, status.st_ctime_ns, status.st_size


def _checked(folder: Path, name: str) -> Path:
    path = folder / name
    declared = read_manifest(folder)["files"].get(name)
    try:  # another process may be setting the folder aside
        if declared is None:
            raise FileNotFoundError
        key = _identity(path)
        if key not in _verified:
            _verified[key] = file_sha256(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CorruptFile("a published file is missing", value=str(path)) from error
    if _verified[key] != declared["sha256"]:
        message = "a published file is not the bytes its manifest declares"
        raise CorruptFile(message, rule="sha256", value=str(path))
    return path
