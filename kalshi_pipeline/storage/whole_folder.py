"""A folder of files that is whole or absent, and says itself which of the two.

Files are written beside, each flushed, `manifest.json` with their sha256 last; then one rename
shows the folder under its name. A reader believes no byte that the manifest does not vouch for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage.files import MANIFEST, STAGING, Files, canonical_json

MAX_FILE_BYTES = 256 << 20  # what is read into memory at once
MAX_MANIFEST_BYTES = 1 << 20


def write_folder(target: Path, contents: Mapping[str, bytes], files: Files) -> None:
    """Write a folder, in the place of one that stood there before.

    Args:
        target: its path; the unfinished folder lies in `.staging` beside it.
        contents: file name -> bytes.
        files: the file calls.

    Raises:
        CorruptFile: `read_folder` would not take it; nothing is written.
    """
    folder = _written(target, contents, files)
    if target.exists():
        remove_folder(target, files)
    files.rename(folder, target)
    files.sync(target.parent)


def write_folder_once(target: Path, contents: Mapping[str, bytes], files: Files) -> bool:
    """Write a folder unless one stands there already, which nothing changes any more.

    Args:
        target: its path.
        contents: file name -> bytes.
        files: the file calls.

    Returns:
        Whether it was written: of several at once, one is told so.
    """
    folder = _written(target, contents, files)
    try:
        files.rename(folder, target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return False
    files.sync(target.parent)
    return True


def _written(target: Path, contents: Mapping[str, bytes], files: Files) -> Path:
    for name, content in contents.items():
        if len(content) > MAX_FILE_BYTES or not _is_inside(name):
            raise CorruptFile(
                f"{name} could be written and not be read again",
                rule=f"a file of this folder, <= {MAX_FILE_BYTES} bytes",
                value=len(content),
            )
    folder = _staged(target)
    folder.mkdir(parents=True)
    for name, content in contents.items():
        files.write(folder / name, content)
    files.write(folder / MANIFEST, _manifest(contents))
    files.sync(folder)
    return folder


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file of its manifest, name -> bytes, as they were written.

    Raises:
        CorruptFile: the manifest or a file is missing, too large or damaged.
    """
    return {name: _read(folder / name, entry) for name, entry in _entries(folder).items()}


def drop_files(folder: Path, names: Iterable[str], files: Files) -> None:
    """Take files out of a folder: first out of its manifest, in one step, then away.

    Raises:
        CorruptFile: the manifest or a file that is to stay is missing or damaged.
    """
    dropped = set(names)
    kept = {name: content for name, content in read_folder(folder).items() if name not in dropped}
    _replace(folder / MANIFEST, _manifest(kept), _staged(folder), files)
    for name in dropped:
        (folder / name).unlink(missing_ok=True)


def remove_folder(folder: Path, files: Files) -> None:
    """Remove a folder; whoever looks sees all of it or nothing."""
    aside = _staged(folder)
    aside.parent.mkdir(exist_ok=True)
    files.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def replace_file(path: Path, content: bytes, files: Files) -> None:
    """Write a file in one step: a reader sees the old bytes or the new ones."""
    _replace(path, content, _staged(path), files)


def _replace(path: Path, content: bytes, beside: Path, files: Files) -> None:
    beside.parent.mkdir(exist_ok=True)
    files.write(beside, content)
    files.replace(beside, path)
    files.sync(path.parent)


def _is_inside(name: str) -> bool:
    return Path(name).name == name != ""


def _staged(target: Path) -> Path:
    return target.parent / STAGING / uuid.uuid4().hex


def _manifest(contents: Mapping[str, bytes]) -> bytes:
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in contents.items()
    }
    return canonical_json({"files": files}).encode()


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise CorruptFile("a manifest is larger than any", value=str(path))
        entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["files"]
        named = all(
            _is_inside(name)
            and isinstance(entry["sha256"], str)
            and isinstance(entry["bytes"], int)
            for name, entry in entries.items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptFile("a folder has no readable manifest", value=str(path)) from error
    if not named:
        raise CorruptFile("a manifest names files of other folders", value=str(path))
    return entries


def _read(path: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        size = path.stat().st_size
        if size != entry["bytes"] or size > MAX_FILE_BYTES:
            raise CorruptFile(
                f"{path.name} is not as long as its manifest declares",
                rule=f"{entry['bytes']} bytes",
                value=size,
            )
        content = path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{path.name} cannot be read", value=str(path)) from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CorruptFile(
            f"{path.name} is not the bytes its manifest declares", rule="sha256", value=str(path)
        )
    return content
