"""What is published of a partition: one generation, its files and its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage.files import MANIFEST, canonical_json, checked

EXPORTS = "exports"


@dataclass(frozen=True)
class Generation:
    """One published version of a partition.

    Args:
        folder: where its files lie.
        content_hash: hash of its content, 16 hex digits.
        summary: what the stage said about it (row counts and the like).
        recipe_digest: recipe it was last published for.
        reused: True where it was found, not made.
        fetch: brings one of its files here, where the warehouse is not a folder of this machine.
    """

    folder: Path
    content_hash: str
    summary: Mapping[str, Any]
    recipe_digest: str
    reused: bool = False
    fetch: Callable[[str], None] | None = field(default=None, compare=False, repr=False)

    def path(self, name: str) -> Path:
        """One of its files, its bytes checked against the manifest.

        Raises:
            CorruptFile: missing, or not the bytes that were published.
        """
        try:
            return _checked(self.folder, name)
        except CorruptFile:
            if self.fetch is None:
                raise
        self.fetch(name)  # it is not here, or no longer what it was
        return _checked(self.folder, name)

    def at_hand(self, name: str) -> Path:
        """One of its files as it lies here, not compared with the manifest."""
        path = self.folder / name
        if self.fetch is not None and not path.exists():
            self.fetch(name)
        return path

    def whole(self) -> Path:
        """Its folder with every file in it as it lies here, not compared with the manifest."""
        if self.fetch is not None:
            for name in read_manifest(self.folder)["files"]:
                self.at_hand(name)
        return self.folder

    def verified(self) -> Path:
        """Its folder, once every file in it is known to be what was published.

        Raises:
            CorruptFile: a file is missing, or not the bytes that were published.
        """
        for name in read_manifest(self.folder)["files"]:
            self.path(name)
        return self.folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a generation.

    Raises:
        CorruptFile: it is missing, not a manifest, or not the one its content hash was made from.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        declared = content_hash_of(manifest["files"], manifest["summary"])
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFile("a generation has no readable manifest", value=str(path)) from error
    if folder.name != f"gen={declared}":
        raise CorruptFile(
            "a manifest is not the one that was published", rule="content_hash", value=str(path)
        )
    return manifest


def content_hash_of(files: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Hash of all that a stage downstream may read, 16 hex digits."""
    hashes = {
        name: entry["sha256"] for name, entry in files.items() if not name.startswith(f"{EXPORTS}/")
    }
    return hashlib.sha256(canonical_json([hashes, summary]).encode()).hexdigest()[:16]


def is_intact(folder: Path) -> bool:
    """Whether every file of a generation is what was published."""
    try:
        for name in read_manifest(folder)["files"]:
            _checked(folder, name)
    except CorruptFile:
        return False
    return True


def _checked(folder: Path, name: str) -> Path:
    return checked(folder / name, read_manifest(folder)["files"].get(name, {}).get("sha256"))
