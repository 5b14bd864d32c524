"""A session published whole, and the same with something wrong in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline import stages
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.storage.publish import MANIFEST, Generation, Recipe, Warehouse

Columns = dict[str, NDArray[Any]]
SESSION = 901


def publish_session(root: Path, recording: Path) -> Warehouse:
    """All stages of a recording."""
    warehouse = Warehouse(root)
    stages.ingest_session(warehouse, open_folder(recording))
    session = int(recording.name)
    stages.build_session_books(warehouse, session)
    stages.build_session_tensors(warehouse, session)
    stages.choose_session_markets(warehouse, session)
    return warehouse


def republish(
    found: Generation,
    into: Warehouse,
    stage: str,
    change: Callable[[Path], object] = lambda _: None,
    **figures: Any,
) -> Generation:
    """Publish a generation again as if its recipe had made it so.

    Args:
        found: what is published.
        into: the same warehouse, or another.
        stage: its name.
        change: what is done to the files.
        figures: what its summary says instead.
    """
    recipe = Recipe(**json.loads((found.folder / MANIFEST).read_bytes())["recipe"])
    with into.stage(stage, str(SESSION), recipe) as staging:
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
