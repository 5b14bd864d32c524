"""A file being written: hashed as its bytes come, flushed to the device while more are made.

Reading a large file again for its hash, and waiting for the device at the end, take longer than
what a kernel does to fill it.
"""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BUFFER_BYTES = 1 << 20
_FLUSH_BYTES = 32 << 20
# room on the device is asked for in such pieces: a page of a file that has its place already takes
# a third of the time to fill
_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True)
class Written:
    """What a file was when its writer closed it."""

    sha256: str
    bytes: int
    modified_ns: int
    inode: int

    def describes(self, path: Path) -> bool:
        """Whether a file is still the one that was closed."""
        status = path.stat()
        found = (status.st_size, status.st_mtime_ns, status.st_ino)
        return found == (self.bytes, self.modified_ns, self.inode)


class StagedFile(io.RawIOBase):
    """A new file, written from its beginning to its end.

    Args:
        path: where.
        told: gets an entry for the file's name when it is closed.
        name: the file's name.
    """

    def __init__(self, path: Path, told: dict[str, Written], name: str) -> None:
        self._file = path.open("xb", buffering=0)
        self._told, self._name = told, name
        self._digest = hashlib.sha256()
        self._size = self._flushed = self._reserved = 0
        self._flusher, self._hasher = ThreadPoolExecutor(1, "flush"), ThreadPoolExecutor(1, "hash")
        self._flushing: Future[None] | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: Any) -> int:
        """Append bytes, or a contiguous array's."""
        whole = memoryview(data)
        view = whole.cast("B") if whole.nbytes else memoryview(b"")
        # the system copies the bytes while they are hashed
        hashing = self._hasher.submit(self._digest.update, view)
        self._reserve(self._size + len(view))
        written = 0
        while written < len(view):
            written += self._file.write(view[written:]) or 0
        hashing.result()
        self._size += len(view)
        done = self._flushing is None or self._flushing.done()
        if done and self._size - self._flushed >= _FLUSH_BYTES:
            self._wait()
            self._flushed = self._size
            self._flushing = self._flusher.submit(os.fdatasync, self._file.fileno())
        return len(view)

    def close(self) -> None:
        """Wait for the device's answer to what it was given, and tell what was written."""
        if self.closed:
            return
        try:
            self._wait()
            if self._reserved > self._size:
                self._file.truncate(self._size)
            status = os.fstat(self._file.fileno())
            self._told[self._name] = Written(
                self._digest.hexdigest(), self._size, status.st_mtime_ns, status.st_ino
            )
        finally:
            self._flusher.shutdown()
            self._hasher.shutdown()
            self._file.close()
            super().close()

    def _reserve(self, size: int) -> None:
        # of a file that is getting long; where there is no such room, writing will tell
        if self._reserved < size and size >= _RESERVE_BYTES // 8:
            room = max(size, self._reserved + _RESERVE_BYTES)
            with suppress(OSError):
                os.posix_fallocate(self._file.fileno(), 0, room)
                self._reserved = room

    def _wait(self) -> None:
        # a flush that failed is an error of the file, whenever it is noticed
        if self._flushing is not None:
            self._flushing.result()


def buffered(file: StagedFile) -> io.BufferedWriter:
    """The same file, its small pieces collected.

    A page of a Parquet column is a few KB: too little to wake another thread for.
    """
    return io.BufferedWriter(file, _BUFFER_BYTES)
