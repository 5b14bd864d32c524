"""Which sessions have come or changed since the last look, and are no longer being written.

A look reads names, sizes and times, never a recording. A folder is ready when it has `session.json`
and messages, no file of it is a copy under way, and nothing about it changed between two looks that
lie far enough apart; a session of a database when its collector is done with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import InvalidName
from kalshi_pipeline.names import session_id
from kalshi_pipeline.recordings.folder import MESSAGE_FILES, SessionInfo, is_completed

MARK_DIGITS = 12
# what rsync, scp clients and browsers call a file until it is whole
_UNFINISHED_NAMES = (".messages", ".markets.json", ".session.json")
_UNFINISHED_SUFFIXES = {".part", ".partial", ".filepart", ".tmp", ".crdownload"}


@dataclass(frozen=True)
class Sight:
    """What a look at a session saw.

    Args:
        mark: changes whenever something about the session does.
        waits_for: why it is not ready, whatever its mark; "" where nothing speaks against it.
    """

    mark: str
    waits_for: str = ""


def folder_sights(roots: Sequence[Path]) -> dict[int, Sight]:
    """Every session folder under the roots; the first root that has a session wins."""
    found: dict[int, Sight] = {}
    for root in roots:
        for folder in root.iterdir():
            try:
                number = session_id(folder.name)
            except InvalidName:
                continue
            if number not in found and folder.is_dir():
                found[number] = _sight(folder)
    return found


def database_sights(infos: Iterable[SessionInfo]) -> dict[int, Sight]:
    """Every session of a database, known by its row in the table of sessions."""
    return {
        info.session: Sight(
            _mark(info.declared), "" if is_completed(info) else "its collector is still at it"
        )
        for info in infos
    }


@dataclass
class Watch:
    """What earlier looks saw; as text it is a sensor's cursor, 20 bytes a session.

    Args:
        taken: session -> the mark with which it was last taken.
        changing: session -> the mark it has now, and since when (Unix ms).
    """

    taken: dict[int, str] = field(default_factory=dict)
    changing: dict[int, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> Watch:
        """The watch that was written down; a new one where there is none or it cannot be read."""
        try:
            told = json.loads(text or "{}")
            return cls(
                {int(key): str(mark) for key, mark in told.get("taken", {}).items()},
                {int(key): (str(m), int(ms)) for key, (m, ms) in told.get("changing", {}).items()},
            )
        except (ValueError, TypeError, AttributeError):
            return cls()

    def to_text(self) -> str:
        """The watch written down; equal watches give equal text."""
        told = {
            "taken": {str(key): self.taken[key] for key in sorted(self.taken)},
            "changing": {str(key): self.changing[key] for key in sorted(self.changing)},
        }
        return json.dumps(told, separators=(",", ":"))

    def ready(self, sights: Mapping[int, Sight], now_ms: int, quiet_ms: int) -> list[int]:
        """Sessions that are new or changed and have been quiet for long enough, ascending.

        Args:
            sights: all sessions there are now; others are forgotten.
            now_ms: the present.
            quiet_ms: how long a mark must have been the same; 0 = one look is enough.
        """
        self.taken = {key: mark for key, mark in self.taken.items() if key in sights}
        before, self.changing = self.changing, {}
        for key, sight in sights.items():
            if self.taken.get(key) == sight.mark:
                continue
            mark, since_ms = before.get(key, ("", now_ms))
            # a clock that was set back starts the wait anew
            kept = mark == sight.mark and since_ms <= now_ms
            self.changing[key] = (sight.mark, since_ms if kept else now_ms)
        return [
            key
            for key in sorted(self.changing)
            if not sights[key].waits_for and now_ms - self.changing[key][1] >= quiet_ms
        ]

    def take(self, session: int) -> None:
        """A session that was ready has been dealt with, until it changes again."""
        self.taken[session], _ = self.changing.pop(session)


def _sight(folder: Path) -> Sight:
    try:
        files = {path.name: path.stat() for path in folder.iterdir()}
        messages = [path for pattern in MESSAGE_FILES for path in folder.glob(pattern)]
    except FileNotFoundError:  # a file was renamed in this moment: its copy has just ended
        return Sight("", "files that come and go")
    except OSError as error:
        return Sight("", f"a folder that can be read: {error.strerror}")
    mark = _mark({name: (told.st_size, told.st_mtime_ns) for name, told in files.items()})
    if "session.json" not in files:
        return Sight(mark, "session.json")
    if not messages:
        return Sight(mark, "messages*.ndjson[.gz|.zst]")
    unfinished = [name for name in files if _is_unfinished(name)]
    return Sight(mark, f"the end of a copy: {min(unfinished)}" if unfinished else "")


def _is_unfinished(name: str) -> bool:
    return name.startswith(_UNFINISHED_NAMES) or Path(name).suffix in _UNFINISHED_SUFFIXES


def _mark(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:MARK_DIGITS]
