"""What is expected of a session's feature tensor: of each feature, and of its steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.expectations.suites import Place, Profile, equal, none, one_row
from kalshi_pipeline.feature_table import TENSOR_FEATURES, TENSOR_WIDTH
from kalshi_pipeline.features.build import Tensors, read_tensors
from kalshi_pipeline.storage.publish import Generation

BLOCK_STEPS = 1 << 16  # looked at at once

OF_A_FEATURE = (
    none("not_finite", "every value is finite"),
    none("out_of_range", "every value lies in the range the feature table declares"),
    none("constant", "every feature moves", warns=True),
)
OF_THE_SESSION = (
    equal("steps", "counted_steps", "the tensor has the steps its stage counted"),
    equal("steps", "step_rows", "every step knows the row of the book it follows"),
    equal("width", "declared_width", "a column a feature of the table"),
    equal("steps", "indexed_steps", "every step belongs to one segment of the index"),
    none("disordered_steps", "steps follow each other in the order of the book"),
    none("stray_steps", "a step lies among the rows of its segment"),
)


def profile(generation: Generation) -> list[Profile]:
    """The figures of one session's tensor: a row a feature, and one row of its steps."""
    tensors = read_tensors(generation.verified())
    said = generation.summary
    first, end = (tensors.index[name].to_numpy() for name in ("first_step", "end_step"))
    session = one_row(
        steps=len(tensors.features),
        counted_steps=said["steps"],
        step_rows=len(tensors.step_row),
        width=tensors.features.shape[1],
        declared_width=TENSOR_WIDTH,
        indexed_steps=int((end - first).sum()),
        disordered_steps=int(np.count_nonzero(np.diff(tensors.step_row) <= 0)),
        stray_steps=_stray(tensors),
    )
    return [
        Profile("session", session, OF_THE_SESSION),
        _of_features(tensors.features),
    ]


def _stray(tensors: Tensors) -> int:
    # steps outside the rows of the segment that claims them, and segments that overlap
    columns = ("first_step", "end_step", "first_row", "end_row")
    first, end, first_row, end_row = (tensors.index[name].to_numpy() for name in columns)
    steps = np.arange(len(tensors.step_row))
    owner = np.searchsorted(first, steps, side="right") - 1
    known = np.flatnonzero(owner >= 0)
    owner, rows = owner[known], tensors.step_row[known]
    inside = (known < end[owner]) & (rows >= first_row[owner]) & (rows < end_row[owner])
    return len(steps) - int(np.count_nonzero(inside))


def _of_features(features: NDArray[np.float32]) -> Profile:
    width = min(features.shape[1], TENSOR_WIDTH)
    declared = TENSOR_FEATURES[:width]
    low = np.array([feature.low for feature in declared], dtype=np.float32)
    high = np.array([feature.high for feature in declared], dtype=np.float32)
    lowest = np.full(width, np.inf)
    highest = np.full(width, -np.inf)
    faults = {name: _Faults(width) for name in ("not_finite", "out_of_range")}
    for start in range(0, len(features), BLOCK_STEPS):
        block = features[start : start + BLOCK_STEPS, :width]
        finite = np.isfinite(block)
        faults["not_finite"].add(~finite, start)
        faults["out_of_range"].add(finite & ((block < low) | (block > high)), start)
        lowest = np.minimum(lowest, np.where(finite, block, np.inf).min(axis=0))
        highest = np.maximum(highest, np.where(finite, block, -np.inf).max(axis=0))
    columns = {
        "feature": [feature.name for feature in declared],
        "low": low.tolist(),
        "lowest": [value if np.isfinite(value) else None for value in lowest.tolist()],
        "highest": [value if np.isfinite(value) else None for value in highest.tolist()],
        "high": high.tolist(),
        "constant": (lowest == highest).astype(int).tolist() if len(features) > 1 else [0] * width,
        **{name: found.counts.tolist() for name, found in faults.items()},
    }
    places = {name: found.places() for name, found in faults.items()}
    return Profile("feature", columns, OF_A_FEATURE, places)


class _Faults:
    """How many values of each feature are at fault, and the first step of each."""

    def __init__(self, width: int) -> None:
        self.counts = np.zeros(width, dtype=np.int64)
        self._first = np.full(width, -1, dtype=np.int64)

    def add(self, faulty: NDArray[np.bool_], start: int) -> None:
        """Count a block that begins at a step."""
        new = (self._first < 0) & faulty.any(axis=0)
        self._first[new] = start + faulty.argmax(axis=0)[new]
        self.counts += np.count_nonzero(faulty, axis=0)

    def places(self) -> list[Place | None]:
        """The first step at fault of each feature."""
        return [Place(step) if step >= 0 else None for step in self._first.tolist()]
