"""The file calls that writing depends on, names that every folder shares, hashes of files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import CorruptFile

MANIFEST, STAGING = "manifest.json", ".staging"


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


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare bytes: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# sha256 of files by what changes whenever their bytes do
_known: dict[tuple[str, int, int, int], str] = {}


def remember_sha256(path: Path, sha256: str) -> None:
    """A file was hashed as it was written: it need not be read for that."""
    _known[_identity(path)] = sha256


def checked(path: Path, sha256: str | None) -> Path:
    """A file, once its bytes are known to have this hash.

    Args:
        path: the file.
        sha256: as declared; None = nothing declares this file.

    Raises:
        CorruptFile: missing, or other bytes.
    """
    try:  # another process may be setting its folder aside
        if sha256 is None:
            raise FileNotFoundError
        key = _identity(path)
        if key not in _known:
            _known[key] = file_sha256(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CorruptFile("a published file is missing", value=str(path)) from error
    if _known[key] != sha256:
        message = "a published file is not the bytes its manifest declares"
        raise CorruptFile(message, rule="sha256", value=str(path))
    return path


def _identity(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return str(path), status.st_ino, status.st_ctime_ns, status.st_size
