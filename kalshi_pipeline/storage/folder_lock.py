"""A lock on a folder: writers share it, who takes something away holds it alone.

It lies in the folder itself, needs no file and ends with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a folder's lock while the block runs; waits until it can be had."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
