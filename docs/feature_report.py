"""What the features say on recorded sessions: spread of each column, and what it repeats."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.build import build_books
from kalshi_pipeline.config import PipelineConfig
from kalshi_pipeline.feature_table import TENSOR_FEATURES
from kalshi_pipeline.features.build import build_tensors
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.ingest import ingest

SESSIONS = ("101", "111", "131")
SAME = 0.9999  # two columns correlated more than this are one


@dataclass(frozen=True)
class Column:
    """One feature over many steps.

    Args:
        name: of the feature.
        low: smallest value.
        high: largest value.
        mean: average.
        std: standard deviation.
        mode: the most frequent value.
        mode_share: share of the steps that have it.
        nearest: the feature most correlated with it.
        correlation: the correlation with that one.
        explained: share of its variance that a linear fit by all other features explains.
    """

    name: str
    low: float
    high: float
    mean: float
    std: float
    mode: float
    mode_share: float
    nearest: str
    correlation: float
    explained: float


def columns(features: NDArray[np.float32]) -> list[Column]:
    """Describe each column of `[T, 35]` features.

    Raises:
        ValueError: a column is constant, or two are the same but for scale and offset.
    """
    values = features.astype(np.float64)
    names = [feature.name for feature in TENSOR_FEATURES]
    constant = [names[i] for i in np.flatnonzero(np.ptp(values, axis=0) == 0.0)]
    if constant:
        raise ValueError(f"constant features: {', '.join(constant)}")
    correlations = np.corrcoef(values.T)
    np.fill_diagonal(correlations, 0.0)
    nearest = np.abs(correlations).argmax(axis=1)
    result = []
    for i, name in enumerate(names):
        correlation = float(correlations[i, nearest[i]])
        if abs(correlation) > SAME:
            raise ValueError(f"{name} and {names[nearest[i]]} say the same")
        column = values[:, i]
        found, counts = np.unique(column, return_counts=True)
        result.append(
            Column(
                name, column.min(), column.max(), column.mean(), column.std(),
                found[counts.argmax()], counts.max() / len(column), names[nearest[i]], correlation,
                _explained(values, i),
            )
        )  # fmt: skip
    return result


def page(steps: Mapping[str, NDArray[np.float32]]) -> str:
    """`FEATURE_REPORT.md` from the features of recorded sessions, by number."""
    rows = [
        "| feature | min | max | mean | std | most frequent | share of it | most correlated with "
        "| r | explained by all others |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for entry in columns(np.concatenate(list(steps.values()))):
        numbers = (entry.low, entry.high, entry.mean, entry.std, entry.mode, entry.mode_share)
        rows.append(
            f"| `{entry.name}` | {' | '.join(_number(value) for value in numbers)} "
            f"| `{entry.nearest}` | {_number(entry.correlation)} | {_number(entry.explained)} |"
        )
    counts = ", ".join(f"{number}: {len(own):,}" for number, own in steps.items())
    return "\n".join([HEAD.format(counts=counts), *rows, "", TAIL])


def recorded_steps(recordings: Path) -> dict[str, NDArray[np.float32]]:
    """`[T, 35]` features of the sessions of the report, a step at every message clock tick."""
    return {number: _features(recordings / number) for number in SESSIONS}


def _features(folder: Path) -> NDArray[np.float32]:
    config = PipelineConfig()
    recording = open_folder(folder)
    with tempfile.TemporaryDirectory() as place:
        ingest(recording, Path(place))
        messages = pq.read_table(Path(place) / "messages.parquet", read_dictionary=["market"])
        rejected = pq.read_table(Path(place) / "quarantine.parquet")
    books = build_books(messages, rejected, recording.info, recording.markets, config.book)
    tensors = build_tensors(
        books.rows, books.segments, books.markets, config.step, config.book.cost_size_centi
    )
    return tensors.features


def _explained(values: NDArray[np.float64], column: int) -> float:
    others = np.delete(values, column, axis=1)
    design = np.column_stack([others - others.mean(axis=0), np.ones(len(values))])
    own = values[:, column] - values[:, column].mean()
    # by normal equations: 35 columns, and two digits of the answer are shown
    weights = np.linalg.lstsq(design.T @ design, design.T @ own, rcond=None)[0]
    rest = own - design @ weights
    return float(1.0 - (rest @ rest) / (own @ own))


def _number(value: float) -> str:
    return f"{value + 0.0:.3f}".replace("-0.000", "0.000")


HEAD = """# Features on recorded sessions

<!-- made by `python -m docs.generate RECORDINGS`; do not edit -->

The tensor features over all steps of three real sessions together (steps {counts}).
Making this page fails if a column is constant, or if two are correlated beyond 0.9999.
"""
TAIL = """How to read it:

* `best_bid`, `best_ask` and `mid` are explained in full by each other, since the mid is half their
  sum. The mid stays: portfolio and order features are measured from it. No other column is a linear
  combination of the rest.
* `microprice_offset` is half the spread times `imbalance_touch`, a product: no linear fit finds it.
* A share near 1 is a column that seldom speaks: `book_state` (one side empty), `cost_to_buy` and
  `cost_to_sell` (the touch holds fewer than k contracts). A share at the end of a range is the part
  of the steps that the scale clips.
"""
