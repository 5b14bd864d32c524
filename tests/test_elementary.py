"""The project's own logarithm, exponential and circle against those of a library."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from kalshi_pipeline.elementary import decay64, log32, quarters


@numba.njit(error_model="numpy")
def logarithms(values, out):
    for i in range(np.uint64(len(values))):
        out[i] = log32(values[i])


@numba.njit(error_model="numpy")
def decays(values, out):
    for i in range(np.uint64(len(values))):
        out[i] = decay64(values[i])


@numba.njit(error_model="numpy")
def circle(values, sines, cosines):
    for i in range(np.uint64(len(values))):
        sines[i], cosines[i] = quarters(values[i])


def test_the_logarithm_is_right_to_the_last_places():
    rng = np.random.default_rng(1)
    values = np.concatenate([[1.0, 2.0], 1 + np.exp(rng.uniform(-16, 18, 200_000))])
    values = values.astype(np.float32)
    out = np.empty_like(values)
    logarithms(values, out)
    exact = np.log(values.astype(np.float64))
    assert out[0] == 0.0
    assert np.abs(out - exact).max() < 2.1e-6  # at e^18, where the last place is 1.9e-6
    small = exact < math.log(101)
    assert np.abs(out - exact)[small].max() < 5e-7


def test_the_decay_is_right_to_fourteen_digits():
    rng = np.random.default_rng(2)
    values = np.exp(rng.uniform(-15, math.log(700), 200_000))
    out = np.empty_like(values)
    decays(values, out)
    np.testing.assert_allclose(out, np.exp(-values), rtol=1e-14)


@pytest.mark.parametrize(("value", "least", "most"), [(0.0, 1.0, 1.0), (1e9, 0.0, 1e-300)])
def test_the_ends_of_the_decay(value, least, most):
    out = np.empty(1)
    decays(np.array([value]), out)
    assert least <= out[0] <= most


def test_the_circle_is_right_to_seven_digits():
    rng = np.random.default_rng(3)
    values = np.concatenate([np.arange(8.0), rng.uniform(0, 90_000, 200_000)])
    sines, cosines = np.empty(len(values), np.float32), np.empty(len(values), np.float32)
    circle(values, sines, cosines)
    angles = (values % 4) * (math.pi / 2)
    assert np.abs(sines - np.sin(angles)).max() < 1e-7
    assert np.abs(cosines - np.cos(angles)).max() < 1e-7
    assert sines[:4].tolist() == [0, 1, 0, -1]
    assert cosines[:4].tolist() == [1, 0, -1, 0]


def test_one_number_has_the_same_bits_as_among_many():
    rng = np.random.default_rng(4)
    values = (1 + np.exp(rng.uniform(-10, 15, 1_000))).astype(np.float32)
    together, alone = np.empty_like(values), np.empty_like(values)
    logarithms(values, together)
    for i in range(len(values)):
        logarithms(values[i : i + 1], alone[i : i + 1])
    assert np.array_equal(together, alone)
