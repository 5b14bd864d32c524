"""Sessions replayed once, for all the tests that look at their books, steps and features."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.books.build import Books, build_books
from kalshi_pipeline.config import BookConfig, StepConfig
from kalshi_pipeline.features.build import Tensors, build_tensors
from kalshi_pipeline.recordings.folder import Recording, SessionInfo, open_folder
from kalshi_pipeline.recordings.generator import QUICK_PROFILES, write_session
from kalshi_pipeline.recordings.generator.universe import DAY_MS, Universe
from kalshi_pipeline.recordings.ingest import ingest

BOOK = BookConfig()


@dataclass(frozen=True)
class Replayed:
    """A session's message table and what the stages make of it."""

    messages: pa.Table
    rejected: pa.Table
    info: SessionInfo
    declared: tuple[Mapping[str, Any], ...]
    books: Books
    tensors: Tensors

    def books_of(self, messages: pa.Table) -> Books:
        """Books of other messages of the same session."""
        return build_books(messages, self.rejected, self.info, self.declared, BOOK)


class Head(Recording):
    """The first lines of a recording."""

    def blocks(self) -> Iterator[tuple[int, bytes | None]]:
        whole = Recording(self.folder, self.info, self.markets, self.files)
        yield 0, b"\n".join(line.text or b"" for line in islice(whole.lines(), HEAD_LINES))
        yield 0, b""


HEAD_LINES = 20_000


@cache
def replayed(folder: Path, *, head: bool = False) -> Replayed:
    """A recording folder through ingest, books and features.

    Args:
        folder: the recording.
        head: only its first `HEAD_LINES` lines.
    """
    whole = open_folder(folder)
    recording = Head(whole.folder, whole.info, whole.markets, whole.files) if head else whole
    with tempfile.TemporaryDirectory() as place:
        ingest(recording, Path(place))
        messages = pq.read_table(Path(place) / "messages.parquet", read_dictionary=["market"])
        rejected = pq.read_table(Path(place) / "quarantine.parquet")
    books = build_books(messages, rejected, whole.info, whole.markets, BOOK)
    return Replayed(
        messages, rejected, whole.info, whole.markets, books, tensors_of(books, StepConfig())
    )


def tensors_of(books: Books, steps: StepConfig) -> Tensors:
    """Steps and features of books."""
    return build_tensors(books.rows, books.segments, books.markets, steps, BOOK.cost_size_centi)


def arrives(root: Path, session: int, started_at: str = "2026-06-10T20:00") -> Path:
    """A recording like 903's that no plan knows, of a later week and of events of its own.

    Args:
        root: gets the folder.
        session: its id.
        started_at: UTC, after 8 June 2026.
    """
    start_ms = int(datetime.fromisoformat(f"{started_at}+00:00").timestamp() * 1_000)
    universe = Universe(start_ms - DAY_MS, start_ms + 7 * DAY_MS, seed=session)
    profile = replace(
        QUICK_PROFILES[903],
        session_id=session,
        title=f"a session that arrives later, {session} (generated)",
        universe=universe,
        started_at_ms=start_ms,
        seed=session,
    )
    return write_session(profile, root)
