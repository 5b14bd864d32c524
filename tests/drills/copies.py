"""Copies of a session under further ids, and its outputs made without an orchestrator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from kalshi_pipeline import stages
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.storage.publish import Generation, Warehouse


def copied(session: Path, root: Path, *names: str) -> None:
    """Copy a recording folder under each of these ids."""
    for name in names:
        shutil.copytree(session, root / name)
        told = root / name / "session.json"
        told.write_text(json.dumps({**json.loads(told.read_text()), "session_id": int(name)}))


def numbers(first: int, count: int) -> list[str]:
    """Ids of that many sessions."""
    return [str(number) for number in range(first, first + count)]


def made_at_once(recording: Path, warehouse: Warehouse) -> list[Generation]:
    """Everything that is made of a session."""
    session = int(recording.name)
    return [
        stages.ingest_session(warehouse, open_folder(recording)),
        stages.build_session_books(warehouse, session),
        stages.build_session_tensors(warehouse, session),
        stages.choose_session_markets(warehouse, session),
    ]


def published(warehouse: Warehouse, session: str) -> list[str]:
    """Content hashes of a session's outputs, each of which is there and whole."""
    found = [warehouse.current(stage, session) for stage in stages.SESSION_STAGES]
    assert all(generation.verified() for generation in found)
    return [generation.content_hash for generation in found]


def at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """How many intervals at most have a moment in common."""
    moments = sorted(
        moment for begin, end in intervals for moment in ((begin, 1), (max(begin, end), -1))
    )
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most
