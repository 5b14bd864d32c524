"""Tensors written block by block are those built in memory, byte for byte."""

from __future__ import annotations

from functools import partial
from random import Random

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books.writer import in_folder
from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.features.build import build_tensors, write_tensors
from kalshi_pipeline.features.writer import write_session_tensors
from kalshi_pipeline.recordings.replay_order import in_memory
from tests.random_sessions import books_of, random_session
from tests.sessions import BOOK, replayed


def assert_same_files(books, folder, block_rows, min_step_ms=0):
    steps = StepConfig(min_step_ms=min_step_ms)
    whole = build_tensors(books.rows, books.segments, books.markets, steps, BOOK.cost_size_centi)
    for name in ("whole", "parts"):
        (folder / name).mkdir(parents=True)
    write_tensors(whole, folder / "whole")
    facts = write_session_tensors(
        in_memory(books.rows, block_rows), books.segments, books.markets, steps,
        BOOK.cost_size_centi, in_folder(folder / "parts"),
    )  # fmt: skip
    assert (facts.steps, facts.segments) == (len(whole.step_row), whole.index.num_rows)
    assert facts.finite
    for name in ("features.npy", "step_row.npy"):
        assert (folder / "parts" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    index = partial(pq.read_table)
    assert index(folder / "parts" / "index.parquet").equals(index(folder / "whole/index.parquet"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.sampled_from([0, 0, 1_000]))
def test_blocks_do_not_change_the_tensors(tmp_path_factory, seed, block_rows, min_step_ms):
    random = Random(seed)
    steps = [random.getrandbits(32) for _ in range(80)]
    books = books_of(random_session(steps, "complete", seed).recording)
    assert_same_files(books, tmp_path_factory.mktemp("tensors"), block_rows, min_step_ms)


@pytest.mark.parametrize("block_rows", [700, 1 << 20])
def test_a_generated_session_has_the_same_tensors_in_blocks(generated, tmp_path, block_rows):
    assert_same_files(replayed(generated / "901").books, tmp_path, block_rows)
