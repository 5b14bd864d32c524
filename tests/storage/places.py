"""Where a warehouse lies, for tests that hold wherever it does: in a folder, or in an object store.

`open` is one machine; `reader` is another one, which has nothing of the warehouse yet. In a folder
both are the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kalshi_pipeline.storage.object_store import Downloaded, ObjectStore
from kalshi_pipeline.storage.publish import Files, Generation, Warehouse
from kalshi_pipeline.storage.shared import SharedWarehouse


class FailingFiles(Files):
    """Calls of the seam, the k-th of which fails: at once, or half-way through a write."""

    def __init__(self, at: int, fail: Callable[[], None]) -> None:
        self.calls, self._at, self.fail = 0, at, fail

    def count(self) -> bool:
        self.calls += 1
        return self.calls == self._at

    def write(self, path: Path, content: bytes) -> None:
        if self.count():
            path.write_bytes(content[: len(content) // 2])
            self.fail()
        super().write(path, content)

    def sync(self, path: Path) -> None:
        if self.count():
            self.fail()
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        if self.count():
            self.fail()
        super().rename(source, target)

    def replace(self, source: Path, target: Path) -> None:
        if self.count():
            self.fail()
        super().replace(source, target)


class FailingStore(ObjectStore):
    """Calls of a store, counted with those of the files; a put fails before it or after it."""

    def __init__(self, url: str, files: FailingFiles) -> None:
        super().__init__(url)
        self._files = files

    def _passed(self) -> None:
        if self._files.count():
            self._files.fail()

    def read(self, key: str) -> bytes | None:
        self._passed()
        return super().read(key)

    def download(self, key: str, target: Path) -> Downloaded | None:
        self._passed()
        return super().download(key, target)

    def put(self, key: str, content: bytes | Path) -> None:
        self._passed()
        super().put(key, content)
        self._passed()

    def sizes(self, prefix: str) -> dict[str, int]:
        self._passed()
        return super().sizes(prefix)


@dataclass(frozen=True)
class Place:
    """Roots of warehouses in a folder.

    Args:
        folder: of a test.
    """

    folder: Path

    def open(self, name: str = ".", files: Files | None = None) -> Warehouse:
        return Warehouse(self.folder / name, files)

    def reader(self, name: str = ".") -> Warehouse:
        return self.open(name)

    def files(self, name: str, below: str) -> set[str]:
        """What lies below a folder of a warehouse, relative to it."""
        home = self.folder / name / below
        found = (path for path in home.rglob("*") if path.is_file())
        return {path.relative_to(home).as_posix() for path in found}

    def address(self, path: str) -> str:
        """What an error calls a file of the first warehouse."""
        return str(self.folder.resolve() / path)

    def write(self, path: str, content: bytes) -> None:
        (self.folder / path).write_bytes(content)

    def spread(self, generation: Generation) -> None:
        """What was done to its folder by hand is what everybody finds."""

    def few(self, count: int) -> int:
        """How often something is repeated here."""
        return count


@dataclass(frozen=True)
class StorePlace(Place):
    """Roots of warehouses in an object store; `here` and others are machines with a copy each."""

    url: str = ""

    def open(self, name: str = ".", files: Files | None = None) -> Warehouse:
        return self._open(name, self.folder / "here" / name, files)

    def reader(self, name: str = ".") -> Warehouse:
        return self._open(name, self.folder / "others" / uuid.uuid4().hex, None)

    def files(self, name: str, below: str) -> set[str]:
        found = self._store(name).sizes(below)
        return {key.removeprefix(f"{below}/") for key in found}

    def address(self, path: str) -> str:
        return self._store(".").address(path)

    def write(self, path: str, content: bytes) -> None:
        self._store(".").put(path, content)

    def spread(self, generation: Generation) -> None:
        store, root = self._store("."), self.folder.resolve() / "here"
        below = generation.folder.relative_to(root).as_posix()
        if gone := list(store.sizes(below)):
            store._client.delete(gone)
        for path in generation.folder.rglob("*"):
            if path.is_file():
                store.put(path.relative_to(root).as_posix(), path)

    def few(self, count: int) -> int:
        return max(2, count // 10)

    def _url(self, name: str) -> str:
        return f"{self.url}/{'root' if name == '.' else name}"

    def _store(self, name: str, files: Files | None = None) -> ObjectStore:
        if isinstance(files, FailingFiles):
            return FailingStore(self._url(name), files)
        return ObjectStore(self._url(name), patience_s=2)

    def _open(self, name: str, folder: Path, files: Files | None) -> Warehouse:
        return SharedWarehouse(self._store(name, files), folder, files)
