"""Nothing from the future is in a feature: cut the recording, or scramble it, after any moment.

Source: freqtrade's lookahead-analysis; the canary shows that these tests would see a leak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from kalshi_pipeline.books.build import Books
from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.features.build import Tensors
from kalshi_pipeline.recordings.messages import MessageKind
from tests.sessions import Replayed, replayed, tensors_of

MOMENTS = 50
PEEKING = COLUMN["update_rate_10s"]  # differs from step to step, as a mid at rest does not
Build = Callable[[Books], Tensors]
Step = tuple[str, int]  # market, frame after which the agent acts

SESSIONS = ["901", "131", pytest.param("102", marks=pytest.mark.slow)]


def build(books: Books) -> Tensors:
    return tensors_of(books, StepConfig())


def peek(books: Books) -> Tensors:
    """The canary: one feature is that of the next step of the same segment."""
    tensors = build(books)
    features = tensors.features.copy()
    for segment in tensors.index.to_pylist():
        own = features[segment["first_step"] : segment["end_step"], PEEKING]
        own[:-1] = own[1:].copy()
    return replace(tensors, features=features)


@pytest.fixture(scope="module", params=SESSIONS)
def session(request: pytest.FixtureRequest, generated: Path) -> Replayed:
    if request.param == "901":
        return replayed(generated / "901")
    return replayed(request.getfixturevalue("recordings") / request.param, head=True)


def steps_of(books: Books, tensors: Tensors) -> dict[Step, np.ndarray]:
    """Features by step; the forced last step of each segment only where it is one anyway."""
    markets = books.rows["market"].to_numpy()[tensors.step_row]
    frames = books.rows["frame"].to_numpy()[tensors.step_row]
    return dict(zip(zip(markets, frames, strict=True), tensors.features, strict=True))


def moments(session: Replayed, rng: np.random.Generator) -> list[int]:
    """Random frames that changed a book, from the second one on."""
    kinds = [MessageKind.SNAPSHOT, MessageKind.DELTA]
    changes = session.messages.filter(
        pc.is_in(session.messages["kind"], pa.array(kinds, pa.uint8()))
    )
    frames = changes["frame"].to_numpy()
    return sorted(rng.choice(frames[1:-1], size=MOMENTS, replace=False).tolist())


def prefix(session: Replayed, frame: int, rng: np.random.Generator) -> pa.Table:
    """What was known when a frame had been received."""
    return session.messages.filter(pc.less_equal(session.messages["frame"], frame))


def scrambled(session: Replayed, frame: int, rng: np.random.Generator) -> pa.Table:
    """The same session with noise in place of everything after a frame."""
    known, rest = (
        session.messages.filter(compare(session.messages["frame"], frame))
        for compare in (pc.less_equal, pc.greater)
    )
    count = rest.num_rows
    last_ms = pc.max(known["recv_ms"]).as_py()
    # rows of one frame share its time
    waits = np.cumsum(rng.integers(1, 5_000, size=count))
    first = np.searchsorted(rest["frame"].to_numpy(), rest["frame"].to_numpy())
    noise = {
        "recv_ms": pa.array(last_ms + waits[first]),
        "price_bp": pa.array(100 * rng.integers(1, 100, size=count), pa.int32()),
        "size_centi": pa.array(rng.integers(1, 100_000, size=count)),
        "side": pa.array(rng.integers(0, 2, size=count), pa.uint8()),
    }
    for name, values in noise.items():
        place = rest.schema.get_field_index(name)
        rest = rest.set_column(place, rest.schema.field(name), values)
    return pa.concat_tables([known, rest])


def leaks(
    session: Replayed,
    alter: Callable[[Replayed, int, np.random.Generator], pa.Table],
    build_tensors: Build,
) -> int:
    """At how many moments a step up to it differs, or is missing, once the rest is altered."""
    rng = np.random.default_rng(5)
    whole = steps_of(session.books, build_tensors(session.books))
    found = 0
    for frame in moments(session, rng):
        books = session.books_of(alter(session, frame, rng))
        altered = steps_of(books, build_tensors(books))
        known = {step: features for step, features in whole.items() if step[1] <= frame}
        assert known
        found += any(
            step not in altered or not np.array_equal(features, altered[step])
            for step, features in known.items()
        )
    return found


@pytest.mark.parametrize("alter", [prefix, scrambled])
def test_features_up_to_a_moment_do_not_depend_on_what_comes_after(session, alter):
    assert leaks(session, alter, build) == 0


@pytest.mark.parametrize("alter", [prefix, scrambled])
def test_a_feature_that_peeks_one_step_ahead_is_found(session, alter):
    assert leaks(session, alter, peek) > MOMENTS // 2


def test_a_cut_recording_has_no_other_steps_than_the_whole_one(session):
    rng = np.random.default_rng(6)
    whole = set(steps_of(session.books, session.tensors))
    for frame in moments(session, rng)[::5]:
        books = session.books_of(prefix(session, frame, rng))
        tensors = build(books)
        last_rows = tensors.step_row[tensors.index["end_step"].to_numpy() - 1]
        forced = set(books.rows["frame"].to_numpy()[last_rows].tolist())
        extra = set(steps_of(books, tensors)) - whole
        assert {step[1] for step in extra} <= forced
