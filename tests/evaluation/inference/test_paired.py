"""Permutation tests against scipy's, Holm's adjustment against its definition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from kalshi_pipeline.evaluation.inference import holm, paired, sign_flip_test


def p_of(values: np.ndarray, resamples: int = 1_000) -> float:
    return float(sign_flip_test(values[:, None], resamples, np.random.default_rng(0))[0])


@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=9))
@settings(max_examples=60)
def test_few_units_are_tested_exactly(values: list[int]) -> None:
    seen = abs(sum(values))
    signs = list(product((-1, 1), repeat=len(values)))
    as_far = [abs(sum(s * v for s, v in zip(row, values, strict=True))) >= seen for row in signs]
    assert p_of(np.array(values, dtype=float)) == pytest.approx(sum(as_far) / len(signs))


@pytest.mark.parametrize(("units", "shift"), [(12, 0.5), (60, 0.0), (60, 0.2)])
def test_scipy_finds_the_same(units: int, shift: float) -> None:
    rng = np.random.default_rng(units)
    values = rng.exponential(size=units) - 1 + shift
    theirs = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, batch=2_000, rng=rng
    ).pvalue
    assert p_of(values, 20_000) == pytest.approx(theirs, abs=0.012)


def test_units_that_do_not_differ_change_nothing() -> None:
    values = np.array([3.0, 2.0, 4.0, 1.0, 2.5, 3.5, 0.5])
    padded = np.concatenate([values, np.zeros(50)])
    assert p_of(values) == p_of(padded) == 2 / 2**7
    assert p_of(np.zeros(40)) == 1.0


def test_the_pattern_that_was_seen_is_counted() -> None:
    assert p_of(np.ones(50), 999) == 1 / 1_000


def test_columns_and_blocks_share_nothing_but_their_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(size=(40, 3)) + np.array((0.0, 0.2, 0.5))
    together = sign_flip_test(values, 1_000, np.random.default_rng(0))
    alone = [p_of(values[:, k]) for k in range(3)]
    assert together.tolist() == alone
    monkeypatch.setattr(paired, "_BLOCK_SIGNS", 40 * 64)
    assert sign_flip_test(values, 1_000, np.random.default_rng(0)).tolist() == alone


def test_holm_steps_down_from_the_smallest() -> None:
    adjusted = holm(np.array([0.04, 0.01, 0.03, 0.02]))
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8), level=st.floats(0.01, 0.5))
def test_holm_rejects_what_its_procedure_rejects(p_values: list[float], level: float) -> None:
    rejected = []
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.append(index)
    adjusted = holm(np.array(p_values))
    assert np.flatnonzero(adjusted <= level).tolist() == sorted(rejected)
