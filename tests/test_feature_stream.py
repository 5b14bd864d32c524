"""A tensor is the same bit for bit however its rows come: all at once, in pieces, one by one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.features.block import BookColumns
from kalshi_pipeline.features.build import (
    FeatureStream,
    book_columns,
    steps_of_segments,
    tensor_of_segments,
)
from kalshi_pipeline.features.kernel import ROWS, SegmentRows
from kalshi_pipeline.market.prices import TickGrid
from tests.moments import COST_SIZE_CENTI, columns_of, moments_of
from tests.sessions import Replayed, replayed, tensors_of
from tests.tapes import CENT_GRID, TAPERED_GRID, random_messages

SESSIONS = ["901", "131", "103", pytest.param("111", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=SESSIONS)
def session(request: pytest.FixtureRequest, generated: Path) -> Replayed:
    if request.param == "901":
        return replayed(generated / "901")
    return replayed(request.getfixturevalue("recordings") / request.param, head=True)


def bits(features: np.ndarray) -> list[bytes]:
    """Rows as bytes: equal only where minus zero is told from zero as well."""
    return [row.tobytes() for row in np.ascontiguousarray(features)]


def in_pieces(
    stream: FeatureStream,
    book: BookColumns,
    first: int,
    end: int,
    is_step: np.ndarray,
    cuts: list[int],
) -> np.ndarray:
    edges = [first, *sorted(cuts), end]
    parts = [stream.block(book, a, b, is_step) for a, b in pairwise(edges)]
    return np.concatenate(parts)


def one_by_one(stream: FeatureStream, book: BookColumns, is_step: np.ndarray) -> np.ndarray:
    """As a live process would: each message alone, its features if it turns out to be a step."""
    rows = []
    for row in range(len(is_step)):
        message = BookColumns(*(column[row : row + 1] for column in book))
        stream.advance(message, 0)
        if is_step[row]:
            rows.append(stream.features(message, 0))
    return np.array(rows)


def whole(
    book: BookColumns, grid: TickGrid, close_ms: int | None, is_step: np.ndarray
) -> np.ndarray:
    """The features of one segment by the kernel of the tensors."""
    out = np.empty((int(is_step.sum()), 35), dtype=np.float32)
    zero = np.zeros(1, dtype=np.int64)
    segment = SegmentRows(
        zero,
        np.array([len(is_step)]),
        zero,
        zero,
        np.array([-1 if close_ms is None else close_ms]),
    )
    tensor_of_segments(book, segment, grid.tick_up_bp[None], COST_SIZE_CENTI, is_step, out)
    return out


@pytest.mark.parametrize("min_step_ms", [0, 250])
def test_a_tensor_equals_the_stream_for_any_way_of_cutting_its_rows(session, min_step_ms):
    tensors = tensors_of(session.books, StepConfig(min_step_ms))
    book = book_columns(session.books.rows)
    is_step = np.zeros(len(book.time_ms), dtype=np.bool_)
    is_step[tensors.step_row] = True
    markets = {market.ticker: market for market in session.books.markets}
    rng = np.random.default_rng(7)
    compared = 0
    for segment in tensors.index.to_pylist():
        market = markets[segment["market"]]
        first, end = segment["first_row"], segment["end_row"]
        expected = bits(tensors.features[segment["first_step"] : segment["end_step"]])
        count = int(rng.integers(0, 2 + (end - first) // int(rng.choice([2, 20, 200]))))
        cuts = rng.integers(first, end + 1, size=count).tolist()
        stream = FeatureStream(market.grid.tick_up_bp, market.close_ms, COST_SIZE_CENTI)
        assert bits(in_pieces(stream, book, first, end, is_step, cuts)) == expected
        compared += len(expected)
    assert compared == len(tensors.step_row) > 100


def test_a_tensor_equals_what_a_live_process_computes_message_by_message(session):
    book = book_columns(session.books.rows)
    markets = {market.ticker: market for market in session.books.markets}
    for segment in session.tensors.index.to_pylist()[::4]:
        rows = slice(segment["first_row"], segment["end_row"])
        own = BookColumns(*(column[rows] for column in book))
        is_step = np.zeros(len(own.kind), dtype=np.bool_)
        steps = slice(segment["first_step"], segment["end_step"])
        is_step[session.tensors.step_row[steps] - segment["first_row"]] = True
        market = markets[segment["market"]]
        stream = FeatureStream(market.grid.tick_up_bp, market.close_ms, COST_SIZE_CENTI)
        assert bits(one_by_one(stream, own, is_step)) == bits(session.tensors.features[steps])


@settings(max_examples=60)
@given(st.data())
def test_any_book_cut_anywhere_gives_the_same_bits(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    grid = data.draw(st.sampled_from([CENT_GRID, TAPERED_GRID]))
    moments = moments_of(random_messages(rng, steps=data.draw(st.integers(1, 120)), grid=grid))
    close_ms = data.draw(st.sampled_from([None, moments[-1].time_ms - 5_000]))
    book, count = columns_of(moments), len(moments)
    wait_ms = data.draw(st.sampled_from([0, 0, 300]))
    is_step = steps_of_segments(book, np.array([0]), np.array([count]), wait_ms)
    expected = bits(whole(book, grid, close_ms, is_step))
    cuts = data.draw(st.lists(st.integers(0, count), max_size=8))
    cuts += [edge for edge in range(ROWS, count, ROWS) if data.draw(st.booleans())]
    stream = FeatureStream(grid.tick_up_bp, close_ms, COST_SIZE_CENTI)
    assert bits(in_pieces(stream, book, 0, count, is_step, cuts)) == expected
    stream = FeatureStream(grid.tick_up_bp, close_ms, COST_SIZE_CENTI)
    assert bits(one_by_one(stream, book, is_step)) == expected


# --- without the compiler

PROGRAM = "from tests.test_feature_stream import digest; print(digest())"


def digest() -> str:
    rng = np.random.default_rng(3)
    hashed = hashlib.sha256()
    for grid, close_ms in ((CENT_GRID, None), (TAPERED_GRID, 1_767_000_000_000)):
        book = columns_of(moments_of(random_messages(rng, steps=40, grid=grid)))
        is_step = steps_of_segments(book, np.array([0]), np.array([len(book.kind)]), 0)
        hashed.update(whole(book, grid, close_ms, is_step).tobytes())
    return hashed.hexdigest()


def test_plain_python_gives_the_same_bits():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == digest()
