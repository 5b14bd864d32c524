"""A warehouse in an object store, which many machines share; a folder of this one is its copy.

    <url>/<asset>/<partition>/gen=<hash>/...   objects that nothing changes any more
    <url>/<asset>/<partition>/gen=<hash>/manifest.json   put after all of them
    <url>/<asset>/<partition>/CURRENT          one put moves the pointer
    <url>/trials/..., trained_models/*/run.json   notes: written once, read by everybody
    <url>/seals/session={id}/opened            a claim: one conditional put, the first one holds

What is published is staged and hashed in the folder as it is without a store, and then put. Which
generation is current the store alone says, each time; a file is fetched when it is first read, and
read here from then on. The folder holds files under the names that their content gave them, so
that nothing in it goes out of date: it can be removed whenever nothing runs.

A machine's own, and never shared: what is unfinished, checkpoints of training runs before they are
published, what was judged or compared by hand, `kalshi.duckdb`, generated recordings and
`failures.jsonl`.

Conveniences under `exports/` are not part of the content hash. Their keys bear their own hash, so
that two machines that publish equal content at once never mix theirs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

from kalshi_pipeline.errors import CorruptFile, DiskFull
from kalshi_pipeline.storage.files import (
    MANIFEST,
    STAGING,
    Files,
    canonical_json,
    checked,
    remember_sha256,
)
from kalshi_pipeline.storage.generation import EXPORTS, read_manifest
from kalshi_pipeline.storage.object_store import ObjectStore
from kalshi_pipeline.storage.publish import CURRENT, Staging, Warehouse
from kalshi_pipeline.storage.whole_folder import write_folder_once

_DIGITS = 16  # of the hash in an export's key


class SharedWarehouse(Warehouse):
    """The published outputs in an object store.

    Args:
        store: where they are.
        folder: of this machine, for this store alone.
        files: the file calls.
    """

    def __init__(self, store: ObjectStore, folder: Path, files: Files | None = None) -> None:
        super().__init__(folder, files)
        self.store = store

    @property
    def address(self) -> str:
        """Its URL."""
        return self.store.url

    def names(self, pattern: str) -> list[Path]:
        """Where things lie that match a pattern below the root, in order; `at_hand` brings them."""
        fixed = takewhile(lambda part: "*" not in part, pattern.split("/")[:-1])
        shape = re.compile("/".join(map(_shape, pattern.split("/"))).replace("(?:.*)/", "(?:.*/)?"))
        keys = (key for key in self.store.sizes("/".join(fixed)) if shape.fullmatch(key))
        return sorted(_inside(self.root, key) for key in keys)

    def notes(self, pattern: str) -> list[Path]:
        """Files that are written once and match a pattern below the root: every machine's."""
        here = set(self.root.glob(pattern))
        return sorted(here | {self.at_hand(path) for path in self.names(pattern)})

    def share(self, path: Path) -> None:
        """Let other machines see a note that was written."""
        self.store.put(self._key(path), path)

    def at_hand(self, path: Path) -> Path:
        """A file of the warehouse, here if it is anywhere."""
        if not path.exists():
            self._bring(self._key(path), path)
        return path

    def claimed(self, folder: Path) -> Path:
        """A claimed folder, here if it is anywhere.

        Raises:
            CorruptFile: it is not what was claimed.
        """
        key = self._key(folder)
        if not folder.exists() and (content := self.store.read(key)) is not None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_folder_once(folder, _unpacked(content, self.store.address(key)), self.files)
        return folder

    def claim(self, folder: Path, contents: Mapping[str, bytes]) -> bool:
        """Write a folder that nothing changes any more; of several at once, one is told it was.

        Args:
            folder: its path in the warehouse.
            contents: file name -> UTF-8 text.
        """
        first = self.store.create(self._key(folder), _packed(contents))
        self.claimed(folder)
        return first

    def _read_pointer(self, home: Path) -> tuple[bytes | None, str]:
        key = self._key(home / CURRENT)
        return self.store.read(key), self.store.address(key)

    def _fetcher(self, folder: Path) -> Callable[[str], None]:
        try:
            read_manifest(folder)
        except CorruptFile:  # not here, or no longer what it was
            self._bring_manifest(folder)
        return partial(self._fetch, folder)

    def _bring_manifest(self, folder: Path) -> None:
        key = self._key(folder / MANIFEST)
        try:
            if self._bring(key, folder / MANIFEST) is not None:
                read_manifest(folder)
                return
        except CorruptFile as error:
            raise CorruptFile(
                "a manifest is not the one that was published",
                rule="content_hash",
                value=self.store.address(key),
            ) from error
        raise CorruptFile("a generation has no readable manifest", value=self.store.address(key))

    def _fetch(self, folder: Path, name: str) -> None:
        entry = read_manifest(folder)["files"].get(name)
        if entry is None:
            raise CorruptFile("a file that was not published", value=str(folder / name))
        path = _inside(folder, name)
        key = self._stored(folder, name, entry["sha256"])
        found = self._bring(key, path)
        if found is None:
            raise CorruptFile("a published object is missing", value=self.store.address(key))
        # what is damaged in the store is damaged here now, and so its stage makes it again
        if found != entry["sha256"]:
            message = "a published object is not the bytes its manifest declares"
            raise CorruptFile(message, rule="sha256", value=self.store.address(key))

    def _bring(self, key: str, path: Path) -> str | None:
        # an object as a file here, its sha256; None where there is none
        staged = self.root / STAGING / uuid.uuid4().hex
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _room(path):
                found = self.store.download(key, staged)
                if found is None:
                    return None
                path.parent.mkdir(parents=True, exist_ok=True)
                self.files.replace(staged, path)
                # as old as its object; not before, for what lies long in a staging area is swept
                os.utime(path, (found.made_s, found.made_s))
                remember_sha256(path, found.sha256)
            return found.sha256
        finally:
            staged.unlink(missing_ok=True)

    def _is_whole(self, folder: Path) -> bool:
        # every object is there, as long as declared, and what is here of them is what was published
        try:
            self._fetcher(folder)
            sizes = self.store.sizes(self._key(folder))
            for name, entry in read_manifest(folder)["files"].items():
                if sizes.get(self._stored(folder, name, entry["sha256"])) != entry["bytes"]:
                    return False
                if (folder / name).exists():
                    checked(folder / name, entry["sha256"])
        except CorruptFile:
            return False
        return self._key(folder / MANIFEST) in sizes

    def _move(self, folder: Path, target: Path) -> None:
        ours = json.loads((folder / MANIFEST).read_bytes())["files"]
        published = self._is_whole(target)
        if not published:
            for name, entry in ours.items():
                self.store.put(self._stored(target, name, entry["sha256"]), folder / name)
            self.store.put(self._key(target / MANIFEST), folder / MANIFEST)
        theirs = read_manifest(target)["files"] if published else ours
        target.mkdir(exist_ok=True)
        for name, entry in ours.items():
            if theirs.get(name, {}).get("sha256") == entry["sha256"]:  # else an export
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                self.files.replace(folder / name, target / name)
        if not published:
            self.files.replace(folder / MANIFEST, target / MANIFEST)

    def _point(self, home: Path, staging: Staging, pointer: Mapping[str, str]) -> None:  # noqa: ARG002
        self.store.put(self._key(home / CURRENT), canonical_json(pointer).encode())

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _stored(self, folder: Path, name: str, sha256: str) -> str:
        own = f".{sha256[:_DIGITS]}" if name.startswith(f"{EXPORTS}/") else ""
        return self._key(folder / name) + own


def _shape(part: str) -> str:
    return "(?:.*)" if part == "**" else re.escape(part).replace(r"\*", "[^/]*")


def _inside(folder: Path, name: str) -> Path:
    if ".." in PurePosixPath(name).parts or not (folder / name).is_relative_to(folder):
        raise CorruptFile("the store names a file elsewhere", value=name[:200])
    return folder / name


@contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskFull("no room to fetch from the object store", value=str(path)) from error


def _packed(contents: Mapping[str, bytes]) -> bytes:
    texts = {name: content.decode() for name, content in contents.items()}
    sha256 = hashlib.sha256(canonical_json(texts).encode()).hexdigest()
    return canonical_json({"files": texts, "sha256": sha256}).encode()


def _unpacked(content: bytes, address: str) -> dict[str, bytes]:
    try:
        contents = {name: text.encode() for name, text in json.loads(content)["files"].items()}
        if _packed(contents) == content:
            return contents
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptFile("a claim cannot be read", value=address) from error
    raise CorruptFile("a claim is not what was written", rule="sha256", value=address)
