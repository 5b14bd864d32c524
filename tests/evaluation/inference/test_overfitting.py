"""Cross-validation of choosing, against a slow twin that looks at the units themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.evaluation.inference import overfitting, pbo
from tests.oracle.overfitting import pbo as slow_pbo


@given(seed=st.integers(0, 2**32 - 1), trials=st.integers(2, 6), units=st.integers(12, 31))
@settings(max_examples=25, deadline=None)
def test_the_splits_say_what_the_slow_twin_says(seed: int, trials: int, units: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(units, trials)) + rng.normal(scale=0.3, size=trials)
    matrix[:, 0] *= rng.integers(2)  # sometimes one that never trades
    found = pbo(matrix, blocks=6)
    assert found is not None
    assert found.probability == pytest.approx(slow_pbo(matrix, 6))
    assert (found.splits, found.trials) == (20, trials)


def test_sixteen_blocks_split_in_12_870_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(1).normal(size=(64, 5))
    whole = pbo(matrix)
    assert whole is not None
    assert whole.splits == 12_870
    monkeypatch.setattr(overfitting, "_CELLS", 5 * 1_000)
    assert pbo(matrix) == whole


def test_equal_trials_are_neither_above_nor_below_each_other() -> None:
    one = np.random.default_rng(2).normal(size=(40, 1))
    found = pbo(np.repeat(one, 4, axis=1))
    assert found is not None
    assert found.probability == 0.5


def test_the_unit_of_money_does_not_matter() -> None:
    matrix = np.random.default_rng(3).normal(size=(48, 7)) + 0.1
    assert pbo(matrix) == pbo(matrix * 1e4)


def test_nothing_is_split_where_there_is_no_choice_or_too_little_to_split() -> None:
    matrix = np.random.default_rng(4).normal(size=(40, 3))
    assert pbo(matrix[:, :1]) is None
    assert pbo(matrix[:15]) is None
    assert pbo(matrix[:16]) is not None
