"""The only writer of the warehouse: a partition a reader can see is whole.

    <root>/<asset>/.staging/<unique>/      files are written and flushed here, manifest.json last
    <root>/<asset>/<partition>/gen=<hash>/ then the folder is renamed to its content hash
    <root>/<asset>/<partition>/CURRENT     and one atomic replace moves the pointer

A reader resolves CURRENT once and then sees only that generation. Two writers need no lock: equal
content is the same generation, unequal content leaves two whole generations and one pointer.

The content hash covers every file but those under `exports/` (conveniences whose bytes are not
reproducible); it is the data version Dagster sees. What a generation was made from, its recipe, is
kept beside the pointer, so that unchanged inputs are never computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import CorruptFile, InvalidName, NotPublished

MANIFEST, CURRENT, EXPORTS, STAGING = "manifest.json", "CURRENT", "exports", ".staging"
LAYOUT_VERSION = 1


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
        self._files = files or Files()

    @contextmanager
    def stage(self, asset: str, partition: str | None, recipe: Recipe) -> Iterator[Staging]:
        """Fill a folder; when the block ends without an error it is the current generation.

        Args:
            asset: asset name, `/` between the parts of a prefixed one.
            partition: session id, or None for an unpartitioned asset.
            recipe: what the content is a function of.

        Yields:
            The staging folder; put files into it and figures into its `summary`.
        """
        home = self.home(asset, partition)
        home.mkdir(parents=True, exist_ok=True)
        staging = Staging(self.root / asset / STAGING / uuid.uuid4().hex)
        staging.folder.mkdir(parents=True)
        try:
            yield staging
            staging.published = self._publish(home, staging, recipe)
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
        """Remove staging folders that a crash left behind; returns how many."""
        stale = [
            folder
            for folder in self.root.glob(f"**/{STAGING}/*")
            if folder.stat().st_mtime * 1000 < now_ms - older_than_ms
        ]
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        return len(stale)

    def home(self, asset: str, partition: str | None = None) -> Path:
        """Folder that holds an asset's (or one partition's) generations.

        Raises:
            InvalidName: the name would leave the warehouse.
        """
        parts = asset.split("/") + ([f"session={partition}"] if partition else [])
        home = self.root.joinpath(*parts)
        odd = any(not part.replace("_", "").replace("=", "").isalnum() for part in parts)
        if odd or not home.resolve().is_relative_to(self.root):
            raise InvalidName(
                "an asset or partition name leaves the warehouse", value="/".join(parts)
            )
        return home

    def _pointer(self, home: Path) -> dict[str, str] | None:
        path = home / CURRENT
        try:
            pointer: dict[str, str] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptFile("the CURRENT pointer is damaged", value=str(path)) from error
        return pointer

    def _publish(self, home: Path, staging: Staging, recipe: Recipe) -> Generation:
        files = {
            path.relative_to(staging.folder).as_posix(): {
                "sha256": file_sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in sorted(staging.folder.rglob("*"))
            if path.is_file()
        }
        content_hash = _content_hash(files)
        manifest = {
            "layout_version": LAYOUT_VERSION,
            "content_hash": content_hash,
            "recipe": asdict(recipe),
            "files": files,
            "summary": staging.summary,
        }
        for name in files:
            self._files.sync(staging.folder / name)
        self._files.write(staging.folder / MANIFEST, canonical_json(manifest).encode())
        self._files.sync(staging.folder)
        target = home / f"gen={content_hash}"
        if target.exists() and not _intact(target):
            self._files.rename(target, staging.folder.with_name(uuid.uuid4().hex))
        try:
            self._files.rename(staging.folder, target)
        except OSError:
            if not (target / MANIFEST).is_file():
                raise
            # equal content was published before, or by another run in this moment
        self._files.sync(home)
        self._point(home, {"generation": content_hash, "recipe": recipe.digest})
        return Generation(target, content_hash, dict(staging.summary), recipe.digest)

    def _point(self, home: Path, pointer: Mapping[str, str]) -> None:
        temporary = home / f".{CURRENT}.{uuid.uuid4().hex}"
        try:
            self._files.write(temporary, canonical_json(pointer).encode())
            self._files.replace(temporary, home / CURRENT)
        finally:
            temporary.unlink(missing_ok=True)
        self._files.sync(home)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a generation.

    Raises:
        CorruptFile: it is missing or not JSON.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise CorruptFile("a generation has no readable manifest", value=str(folder)) from error
    return manifest


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare bytes: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"{name} {entry['sha256']}"
        for name, entry in sorted(files.items())
        if not name.startswith(f"{EXPORTS}/")
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _intact(folder: Path) -> bool:
    try:
        for name in read_manifest(folder)["files"]:
            _checked(folder, name)
    except CorruptFile:
        return False
    return True


_verified: dict[tuple[str, int, int], str] = {}


def _checked(folder: Path, name: str) -> Path:
    path = folder / name
    declared = read_manifest(folder)["files"].get(name)
    if declared is None or not path.is_file():
        raise CorruptFile("a published file is missing", value=str(path))
    status = path.stat()
    key = (str(path), status.st_mtime_ns, status.st_size)
    if key not in _verified:
        _verified[key] = file_sha256(path)
    if _verified[key] != declared["sha256"]:
        raise CorruptFile(
            "a published file is not the bytes its manifest declares",
            rule="sha256",
            value=str(path),
        )
    return path
