"""Prices are exact integers on the grid a market declares."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.prices import (
    NO,
    STRUCTURES,
    YES,
    TickGrid,
    declared_grid,
    mirror_bp,
    to_bp,
    to_scaled,
    undeclared_grid,
    uniform_grid,
)


def ranges_of(*ranges: tuple[str, str, str]) -> dict:
    names = ("start", "end", "step")
    return {
        "ticker": "KXA-26",
        "price_ranges": [dict(zip(names, entry, strict=True)) for entry in ranges],
    }


TAPERED = ranges_of(
    ("0.0000", "0.1000", "0.0010"), ("0.1000", "0.9000", "0.0100"), ("0.9000", "1.0000", "0.0010")
)


@given(st.integers(-(10**12), 10**12), st.sampled_from([100, 10_000]), st.booleans())
def test_a_decimal_text_converts_exactly(scaled, scale, with_zeros):
    text = str(Decimal(scaled) / scale)
    if "E" in text:
        text = f"{Decimal(scaled) / scale:f}"
    assert to_scaled(text, scale) == scaled
    if with_zeros:
        assert to_scaled(f"{Decimal(scaled) / scale:.12f}", scale) == scaled


@pytest.mark.parametrize(
    "number", [0.42, 0.07, 0.0001, 0.9999, 1, "0.420000", "+0.42", 0.1 * 3 - 0.0]
)
def test_numbers_convert_by_their_shortest_text(number):
    if number == 0.1 * 3:
        with pytest.raises(ValueError, match="exactly"):
            to_bp(number)  # 0.30000000000000004 is another number than 0.3
    else:
        assert to_bp(number) == Decimal(str(number)) * 10_000


@pytest.mark.parametrize(
    "text",
    ["0.00001", "0.42005", "0.0000000000000000001", "1e400", "1e-400", "1e999999999", "NaN", "inf",
     "-inf", "", " ", ".", ".5", "5.", "0.4_2", " 0.42", "0.42 ", "0.42\n", "0,42", "½", "٠.٤",
     True, False, None, 10**30, float("nan"), float("inf"), 1e-7, "9" * 19, "0." + "9" * 19],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
def test_what_is_no_exact_number_is_refused(text):
    with pytest.raises(ValueError, match=r"decimal number|exactly"):
        to_bp(text)


@given(st.text(max_size=30) | st.floats() | st.integers())
def test_any_text_is_an_exact_number_or_a_value_error(text):
    try:
        scaled = to_bp(text)
    except ValueError:
        return
    assert scaled == Decimal(str(text)) * 10_000


def test_an_enormous_exponent_costs_no_time_or_memory():
    for text in ("1e999999999", "1e-999999999", "9" * 1_000_000):
        with pytest.raises(ValueError, match="decimal number"):
            to_bp(text)


@given(st.integers(0, 10_000))
def test_the_mirror_of_the_mirror_is_the_price(price_bp):
    assert mirror_bp(mirror_bp(price_bp)) == price_bp


@pytest.mark.parametrize(
    ("grid", "step_bp", "levels"),
    [
        (uniform_grid(100), 100, 101),
        (uniform_grid(10), 10, 1_001),
        (uniform_grid(1), 1, 10_001),
        (declared_grid(TAPERED), 10, 1_001),
        (uniform_grid(50), 50, 201),
        (declared_grid(ranges_of(("0.0000", "1.0000", "0.0200"))), 100, 101),
        (declared_grid(ranges_of(("0.0000", "1.0000", "0.0030"))), 10, 1_001),
        (declared_grid(ranges_of(("0.0015", "0.9990", "0.0100"))), 5, 2_001),
    ],
)
def test_the_dense_ladder_has_a_cell_for_every_valid_price(grid, step_bp, levels):
    assert (grid.step_bp, grid.levels) == (step_bp, levels)
    assert isinstance(grid.levels, int)
    assert not any(price % grid.step_bp for price in np.flatnonzero(grid.valid))


def test_valid_prices_are_those_of_the_ranges_and_whole_cents():
    grid = declared_grid(TAPERED)
    assert grid is not None
    expected = {*range(10, 1_000, 10), *range(100, 10_000, 100), *range(9_000, 10_000, 10)}
    assert set(np.flatnonzero(grid.valid).tolist()) == expected


@given(st.sampled_from([*STRUCTURES]), st.integers(0, 10_000))
def test_ticks_lead_to_the_next_valid_price(name, price_bp):
    grid = TickGrid(STRUCTURES[name])
    stops = [int(stop) for stop in np.flatnonzero(grid.valid)]
    assert grid.tick_up_bp.shape == grid.tick_down_bp.shape == grid.valid.shape == (10_001,)
    above = [stop for stop in stops if stop > price_bp]
    below = [stop for stop in stops if stop < price_bp]
    up, down = int(grid.tick_up_bp[price_bp]), int(grid.tick_down_bp[price_bp])
    assert down == (price_bp - max(below) if below else 0)
    assert up == (min(above) - price_bp if above else 0)


def test_declared_ranges_win_over_the_name_of_a_structure():
    market = TAPERED | {"price_level_structure": "linear_cent"}
    assert declared_grid(market) is declared_grid(TAPERED)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("linear_cent", uniform_grid(100)),
        ("deci_cent", uniform_grid(10)),
        ("tapered_deci_cent", declared_grid(TAPERED)),
    ],
)
def test_a_structures_name_stands_for_its_ranges_and_equal_ranges_share_a_grid(name, grid):
    assert declared_grid({"price_level_structure": name}) is grid
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.ranges = ()


def test_a_range_ends_at_its_end():
    whole_cents = set(range(100, 10_000, 100))
    short = declared_grid(ranges_of(("0.0000", "0.0005", "0.0001")))
    assert set(np.flatnonzero(short.valid).tolist()) == {1, 2, 3, 4, 5} | whole_cents
    coarse = declared_grid(ranges_of(("0.0000", "0.0090", "0.0030")))
    assert set(np.flatnonzero(coarse.valid).tolist()) == {30, 60, 90} | whole_cents


@pytest.mark.parametrize(("finest_bp", "shown"), [(10, 999), (1, 9_999), (100, 99)])
def test_without_a_declared_grid_orders_go_to_whole_cents_and_the_feed_may_show_finer_ones(
    finest_bp, shown
):
    grid = undeclared_grid(finest_bp)
    assert np.flatnonzero(grid.valid).tolist() == list(range(100, 10_000, 100))
    assert np.flatnonzero(grid.resting).tolist() == list(range(finest_bp, 10_000, finest_bp))
    assert np.count_nonzero(grid.resting) == shown
    assert grid.ranges == ((0, 10_000, 100),)
    assert grid.step_bp == finest_bp


def test_a_ladder_is_found_by_its_outcome():
    assert (YES, NO) == (0, 1)
    assert mirror_bp(4_200) == 5_800


def test_a_refused_text_is_quoted_but_never_in_full():
    with pytest.raises(ValueError, match="not a decimal number") as wrong:
        to_bp("x" * 51)
    assert str(wrong.value) == f"not a decimal number: {'x' * 50!r}"


@pytest.mark.parametrize("market", [{}, {"price_ranges": []}, {"price_level_structure": "unheard"},
                                    {"price_level_structure": ["linear_cent"]}])  # fmt: skip
def test_a_market_that_declares_nothing_has_no_grid(market):
    assert declared_grid(market) is None


@pytest.mark.parametrize(
    "ranges",
    [
        5, "text", [5], [{}], [{"start": "0", "end": "1"}], {"start": "0"},
        [{"start": "0", "end": "1", "step": "0"}], [{"start": "0", "end": "1", "step": "-0.01"}],
        [{"start": "1", "end": "0", "step": "0.01"}], [{"start": "1", "end": "1", "step": "0.01"}],
        [{"start": "-1", "end": "1", "step": "0.01"}],
        [{"start": "0", "end": "2", "step": "0.01"}], [{"start": "0", "end": "1", "step": "1e-5"}],
        [{"start": True, "end": "1", "step": "0.01"}], [{"start": None, "end": "1", "step": "x"}],
    ],
    ids=str,
)  # fmt: skip
def test_ranges_that_cannot_be_meant_are_refused_by_name(ranges):
    with pytest.raises(RecordingError) as wrong:
        declared_grid({"ticker": "KXA-26", "price_ranges": ranges}, 7)
    assert (wrong.value.session, wrong.value.market) == (7, "KXA-26")
    assert (wrong.value.rule, wrong.value.value) == ("price_ranges", ranges)
