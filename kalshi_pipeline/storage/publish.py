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
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from kalshi_pipeline.errors import CorruptFile, DiskFull, InvalidName, NotPublished
from kalshi_pipeline.names import session_id
from kalshi_pipeline.storage.files import (
    MANIFEST,
    STAGING,
    Files,
    canonical_json,
    file_sha256,
    remember_sha256,
)
from kalshi_pipeline.storage.folder_lock import locked
from kalshi_pipeline.storage.generation import (
    EXPORTS,
    Generation,
    content_hash_of,
    is_intact,
    read_manifest,
)
from kalshi_pipeline.storage.staged_file import StagedFile, Written, buffered
from kalshi_pipeline.storage.whole_folder import write_folder_once

__all__ = [
    "CURRENT", "EXPORTS", "LAYOUT_VERSION", "MANIFEST", "STAGING", "Files", "Generation", "Recipe",
    "Staging", "Warehouse", "canonical_json", "file_sha256", "read_manifest",
]  # fmt: skip

CURRENT = "CURRENT"
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
            if path.exists() and told.describes(path):
                remember_sha256(path, told.sha256)

    @property
    def generation(self) -> Generation:
        """The generation it became."""
        if self.published is None:
            raise NotPublished("this staging folder has not been published", value=self.folder.name)
        return self.published


class Warehouse:
    """The published outputs under one root folder."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        self.root = root.resolve()
        self.files = files or Files()

    @property
    def address(self) -> str:
        """What opens this warehouse again, here or on another machine."""
        return str(self.root)

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
        content_hash, recipe = pointer["generation"], pointer["recipe"]
        folder = home / f"gen={content_hash}"
        fetch = self._fetcher(folder)
        summary = read_manifest(folder)["summary"]
        return Generation(folder, content_hash, summary, recipe, True, fetch)

    def made_from(self, asset: str, partition: str | None, recipe: Recipe) -> Generation | None:
        """The current generation if it was made from exactly this recipe and is undamaged."""
        try:
            generation = self.current(asset, partition)
            same = generation.recipe_digest == recipe.digest and self._is_whole(generation.folder)
        except (NotPublished, CorruptFile):
            return None
        return generation if same else None

    def names(self, pattern: str) -> list[Path]:
        """Where things lie that match a pattern below the root, in order; `at_hand` brings them."""
        return sorted(self.root.glob(pattern))

    def notes(self, pattern: str) -> list[Path]:
        """Files that are written once and match a pattern below the root: every machine's."""
        return self.names(pattern)

    def share(self, path: Path) -> None:
        """Let other machines see a note that was written."""

    def at_hand(self, path: Path) -> Path:
        """A file of the warehouse, here if it is anywhere."""
        return path

    def claimed(self, folder: Path) -> Path:
        """A claimed folder, here if it is anywhere."""
        return folder

    def claim(self, folder: Path, contents: Mapping[str, bytes]) -> bool:
        """Write a folder that nothing changes any more; of several at once, one is told it was.

        Args:
            folder: its path in the warehouse.
            contents: file name -> UTF-8 text.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        return not folder.exists() and write_folder_once(folder, contents, self.files)

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
        content, path = self._read_pointer(home)
        if content is None:
            return None
        try:
            pointer = json.loads(content)
        except ValueError as error:
            raise CorruptFile("the CURRENT pointer is damaged", value=path) from error
        fields = pointer if isinstance(pointer, dict) else {}
        generation, recipe = (str(fields.get(name)) for name in ("generation", "recipe"))
        if not _HASH.fullmatch(generation):
            raise CorruptFile("the CURRENT pointer names no generation", value=path)
        return {"generation": generation, "recipe": recipe}

    def _read_pointer(self, home: Path) -> tuple[bytes | None, str]:
        # its content, if there is one, and what errors call it
        path = home / CURRENT
        try:
            return path.read_bytes(), str(path)
        except FileNotFoundError:
            return None, str(path)

    def _fetcher(self, folder: Path) -> Callable[[str], None] | None:  # noqa: ARG002
        # what brings files of a generation here, its manifest being here
        return None

    def _is_whole(self, folder: Path) -> bool:
        # whether nothing of a published generation is missing or damaged
        return is_intact(folder)

    def _publish(self, home: Path, staging: Staging, recipe: Recipe) -> Generation:
        summary = json.loads(canonical_json(staging.summary))  # as a reader will see it
        inside = sorted(staging.folder.rglob("*"))
        files = {}
        for path in inside:
            if path.is_file():
                name = path.relative_to(staging.folder).as_posix()
                files[name] = {"sha256": staging.sha256(name), "bytes": path.stat().st_size}
        content_hash = content_hash_of(files, summary)
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
        fetch = self._fetcher(target)
        return Generation(target, content_hash, summary, recipe.digest, fetch=fetch)

    def _move(self, folder: Path, target: Path) -> None:
        if target.exists() and not is_intact(target):
            with suppress(FileNotFoundError):  # another run repairs it too
                self.files.rename(target, _beside(folder))
        try:
            self.files.rename(folder, target)
        except OSError:
            if not is_intact(target):
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
