"""Files that only grow: one JSON line an event, in the order in which they were told."""

from __future__ import annotations

from pathlib import Path

FAILURES = "failures.jsonl"
LARGEST_BYTES = 4 << 20


def append_line(path: Path, line: str, largest_bytes: int = LARGEST_BYTES) -> None:
    """Add a line; a file that would grow too large becomes `<name>.1`, in place of the one before.

    Args:
        path: the journal.
        line: without a line break.
        largest_bytes: of one file; with the one before there are never more than two such.
    """
    content = line.encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size + len(content) > largest_bytes:
        path.replace(path.with_name(f"{path.name}.1"))
    with path.open("ab", buffering=0) as file:  # one write: lines of two writers never mix
        file.write(content)
