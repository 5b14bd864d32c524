"""The stages of the flow, from published inputs to a published output.

Each names its recipe, returns what is published already if that was made from the same recipe,
and otherwise reads, calls one function of the domain and publishes. Dagster assets and the command
line call these and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np

from kalshi_pipeline.books.build import BOOKS_VERSION, read_markets
from kalshi_pipeline.books.quality import QUALITY_VERSION, declared_true
from kalshi_pipeline.books.replay import SessionReplay
from kalshi_pipeline.books.schemas import BOOK_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.books.traded import TRADED_VERSION, TradedWriter, silent_markets
from kalshi_pipeline.books.traded_size import TRADED_SCHEMA, batches
from kalshi_pipeline.books.writer import write_session_books
from kalshi_pipeline.config import BookConfig, PipelineConfig, StepConfig
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.features.build import FEATURES_VERSION
from kalshi_pipeline.features.writer import write_session_tensors
from kalshi_pipeline.market.orderbook import BOOKS_KERNEL_VERSION
from kalshi_pipeline.plans import steps_of
from kalshi_pipeline.recordings.folder import session_info
from kalshi_pipeline.recordings.ingest import INGEST_VERSION, QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MESSAGES_VERSION
from kalshi_pipeline.recordings.sources import Session, reading_settings, write_messages
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse, canonical_json
from kalshi_pipeline.storage.tables import read_row_groups, read_table
from kalshi_pipeline.suitability import (
    SUITABILITY_VERSION,
    suitable_markets,
    write_suitable_markets,
)

RAW, BOOKS, TENSORS, SUITABLE = "raw_messages", "books", "feature_tensors", "suitable_markets"
SESSION_STAGES = (RAW, BOOKS, TENSORS, SUITABLE)

# what each stage's code is, for its recipe and for Dagster: raise a stage's own constant whenever
# its output changes for equal input (a test holds the outputs of a fixed session against them)
CODE_VERSIONS = {
    RAW: f"{INGEST_VERSION}.{MESSAGES_VERSION}",
    BOOKS: f"{BOOKS_VERSION}.{BOOKS_KERNEL_VERSION}.{TRADED_VERSION}.{QUALITY_VERSION}",
    TENSORS: f"{FEATURES_VERSION}.{FEATURE_TABLE_VERSION}",
    SUITABLE: SUITABILITY_VERSION,
}

Progress = Callable[[str], None]


def message_recipe(recording: Session, fingerprint: str | None = None) -> Recipe:
    """What a session's message table is a function of; reads all of the raw data.

    Args:
        recording: the session.
        fingerprint: of its raw data, where that has been read already.
    """
    inputs = {"recording": fingerprint or recording.fingerprint()}
    return Recipe(CODE_VERSIONS[RAW], reading_settings(recording), inputs)


def ingest_session(warehouse: Warehouse, recording: Session) -> Generation:
    """Raw frames of a recording, or rows of a database's session -> its message table."""
    session = str(recording.info.session)
    recipe = message_recipe(recording)
    if found := warehouse.made_from(RAW, session, recipe):
        return found
    with warehouse.stage(RAW, session, recipe) as staging:
        staging.summary.update(write_messages(recording, staging.folder))
        (staging.folder / "session.json").write_text(canonical_json(recording.info.declared))
        (staging.folder / "markets.json").write_text(canonical_json(list(recording.markets)))
    return staging.generation


def build_session_books(
    warehouse: Warehouse, session: int, config: BookConfig | None = None
) -> Generation:
    """Message table -> books, segments, quarantine, traded size, session quality."""
    config = config or PipelineConfig().book
    raw = warehouse.current(RAW, str(session))
    recipe = Recipe(CODE_VERSIONS[BOOKS], asdict(config), {RAW: raw.content_hash})
    if found := warehouse.made_from(BOOKS, str(session), recipe):
        return found
    info = session_info(session, json.loads(raw.path("session.json").read_bytes()))
    rejected = read_table(raw.path("quarantine.parquet"), QUARANTINE_SCHEMA)
    replay = SessionReplay(
        partial(read_row_groups, raw.path("messages.parquet"), MESSAGE_SCHEMA),
        rejected,
        info,
        json.loads(raw.path("markets.json").read_bytes()),
        config,
    )
    with warehouse.stage(BOOKS, str(session), recipe) as staging:
        with TradedWriter(
            raw.path("messages.parquet"),
            info,
            config.depletion,
            staging.open,
            silent_markets(replay.survey),
        ) as traded:
            measured = write_session_books(
                replay, rejected, staging.open, staging.folder, beside=traded.add
            )
        counted = raw.summary
        quality = {
            **measured,
            "frames": counted["frames"],
            # what must be accounted for, counted by another stage
            "raw_rows": counted["deltas"] + counted["snapshots"] + counted["rejected"],
            **traded.figures,
        }
        quality["declared_true"] = declared_true(info.declared, quality)
        (staging.folder / "session_quality.json").write_text(canonical_json(quality))
        staging.summary.update(quality)
    return staging.generation


def build_session_tensors(
    warehouse: Warehouse,
    session: int,
    steps: StepConfig | None = None,
    config: BookConfig | None = None,
) -> Generation:
    """Books -> steps and feature tensor."""
    steps, config = steps or steps_of(session), config or PipelineConfig().book
    books = warehouse.current(BOOKS, str(session))
    recipe = Recipe(
        CODE_VERSIONS[TENSORS],
        {**asdict(steps), "cost_size_centi": config.cost_size_centi},
        {BOOKS: books.content_hash},
    )
    if found := warehouse.made_from(TENSORS, str(session), recipe):
        return found
    folder = books.verified()
    with warehouse.stage(TENSORS, str(session), recipe) as staging:
        facts = write_session_tensors(
            partial(read_row_groups, folder / "books.parquet", BOOK_SCHEMA),
            read_table(folder / "segments.parquet", SEGMENT_SCHEMA),
            read_markets(folder),
            steps,
            config.cost_size_centi,
            staging.open,
        )
        staging.summary.update(
            asdict(facts), min_step_ms=steps.min_step_ms, feature_table=FEATURE_TABLE_VERSION
        )
    return staging.generation


def choose_session_markets(
    warehouse: Warehouse, session: int, config: PipelineConfig | None = None
) -> Generation:
    """Books and steps -> the suitable markets."""
    rule = (config or PipelineConfig()).suitability
    books = warehouse.current(BOOKS, str(session))
    tensors = warehouse.current(TENSORS, str(session))
    recipe = Recipe(
        CODE_VERSIONS[SUITABLE],
        asdict(rule),
        {BOOKS: books.content_hash, TENSORS: tensors.content_hash},
    )
    if found := warehouse.made_from(SUITABLE, str(session), recipe):
        return found
    table = suitable_markets(
        partial(batches, books.path("books.parquet")),
        read_table(books.path("segments.parquet"), SEGMENT_SCHEMA),
        np.load(tensors.path("step_row.npy"), mmap_mode="r", allow_pickle=False),
        read_markets(books.verified()),
        read_table(books.path("traded.parquet"), TRADED_SCHEMA),
        rule,
    )
    with warehouse.stage(SUITABLE, str(session), recipe) as staging:
        write_suitable_markets(table, staging.folder)
        chosen = table.filter(table["suitable"])
        staging.summary.update(
            markets=table.num_rows,
            suitable_markets=chosen.num_rows,
            causal_markets=sum(table["causal"].to_pylist()),
            events=len(set(chosen["event"].to_pylist())),
        )
    return staging.generation
