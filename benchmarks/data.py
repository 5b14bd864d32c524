"""One generated session, taken through every stage: what all benchmarks work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from kalshi_pipeline.books.build import Books, build_books
from kalshi_pipeline.config import PipelineConfig
from kalshi_pipeline.features.build import Tensors, build_tensors
from kalshi_pipeline.recordings.folder import Recording, open_folder
from kalshi_pipeline.recordings.generator import SessionProfile, write_session
from kalshi_pipeline.recordings.ingest import ingest
from kalshi_pipeline.suitability import in_memory, suitable_markets
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import SessionData, build_universe

CONFIG = PipelineConfig()
MIN_STEPS = CONFIG.suitability.min_steps


@dataclass(frozen=True)
class Material:
    """A session and everything made of it."""

    recording: Recording
    books: Books
    tensors: Tensors
    universe: Universe


def material(profile: SessionProfile, folder: Path) -> Material:
    """Generate a session and take it through the stages.

    Args:
        profile: which session.
        folder: scratch space; the recording stays there.
    """
    recording = open_folder(write_session(profile, folder))
    ingest(recording, folder)
    messages = pq.read_table(folder / "messages.parquet", read_dictionary=["market"])
    quarantine = pq.read_table(folder / "quarantine.parquet")
    info = recording.info
    books = build_books(messages, quarantine, info, recording.markets, CONFIG.book)
    tensors = build_tensors(
        books.rows, books.segments, books.markets, CONFIG.step, CONFIG.book.cost_size_centi
    )
    suitable = suitable_markets(
        in_memory(books.rows),
        books.segments,
        tensors.step_row,
        books.markets,
        None,
        CONFIG.suitability,
    )
    data = SessionData(info.session, books.rows, books.ladders, tensors, suitable, books.markets)
    universe, _ = build_universe([data], MIN_STEPS)
    return Material(recording, books, tensors, universe)
