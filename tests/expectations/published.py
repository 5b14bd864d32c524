"""A session published whole, and the same with something wrong in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline import stages
from kalshi_pipeline.recordings.folder import Recording
from kalshi_pipeline.storage.publish import MANIFEST, Generation, Recipe, Warehouse
from tests.oracle.book import NO, YES
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, wire_line

Columns = dict[str, NDArray[Any]]
SESSION = 1
START_MS = 1_780_000_000_000


def honest_session(markets: int = 3, rows: int = 200) -> Lines:
    """A flawless session: markets with bids of both sides, changes and trades."""
    random, seq, feed = Random(SESSION), 0, []
    tickers = [f"KXHONEST-{number}" for number in range(markets)]
    bids = {ticker: {YES: {4_000: 900}, NO: {5_000: 900}} for ticker in tickers}

    def send(kind: str, market: str, **parts: Any) -> None:
        nonlocal seq
        seq += 1
        feed.append(Frame(kind, START_MS + 250 * seq, 1, 7, seq, market, **parts))

    for ticker in tickers:
        levels = tuple((side, *level) for side in (YES, NO) for level in bids[ticker][side].items())
        send("snapshot", ticker, levels=levels)
    for row in range(markets * rows):
        ticker, side = tickers[row % markets], random.choice((YES, NO))
        if row % 20 == 0:
            send("trade", ticker, side=side, price_bp=5_000, size_centi=100)
            continue
        # nothing crosses, and the best levels never go
        price_bp = random.choice((3_700, 3_800, 3_900, (4_000, 5_000)[side]))
        held = bids[ticker][side].get(price_bp, 0)
        least = 1 if price_bp >= 4_000 else 0
        size_centi = random.randint(least, 900)
        bids[ticker][side][price_bp] = size_centi
        send("delta", ticker, side=side, price_bp=price_bp, size_centi=size_centi - held)
    declared = [{"ticker": ticker, "price_level_structure": "linear_cent"} for ticker in tickers]
    return Lines([wire_line(frame) for frame in feed], {"market_tickers": tickers}, declared)


def publish_session(root: Path, recording: Recording) -> Warehouse:
    """All stages of a recording."""
    warehouse = Warehouse(root)
    session = recording.info.session
    stages.ingest_session(warehouse, recording)
    stages.build_session_books(warehouse, session)
    stages.build_session_tensors(warehouse, session)
    stages.choose_session_markets(warehouse, session)
    return warehouse


def republish(
    found: Generation,
    into: Warehouse,
    stage: str,
    change: Callable[[Path], object] = lambda _: None,
    session: int = SESSION,
    **figures: Any,
) -> Generation:
    """Publish a generation again as if its recipe had made it so.

    Args:
        found: what is published.
        into: the same warehouse, or another.
        stage: its name.
        change: what is done to the files.
        session: id.
        figures: what its summary says instead.
    """
    recipe = Recipe(**json.loads((found.folder / MANIFEST).read_bytes())["recipe"])
    with into.stage(stage, str(session), recipe) as staging:
        shutil.copytree(found.folder, staging.folder, dirs_exist_ok=True)
        (staging.folder / MANIFEST).unlink()
        change(staging.folder)
        staging.summary.update({**found.summary, **figures})
    return staging.generation


def change_rows(path: Path, change: Callable[[Columns], object]) -> None:
    """Write a Parquet table again with other numbers in its columns, nulls kept where they were."""
    table = pq.read_table(path)
    columns = {
        name: np.array(table[name].fill_null(0).to_numpy())
        for name in table.column_names
        if pa.types.is_integer(table.schema.field(name).type)
    }
    before = {name: values.copy() for name, values in columns.items()}
    change(columns)
    for name, values in columns.items():
        if not np.array_equal(values, before[name]):
            place = table.schema.get_field_index(name)
            missing = table[name].is_null().to_numpy() & (values == before[name])
            array = pa.array(values, table.schema.field(name).type, mask=missing)
            table = table.set_column(place, table.schema.field(name), array)
    pq.write_table(table, path, compression="zstd")
