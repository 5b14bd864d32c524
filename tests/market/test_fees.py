"""Fees: the published examples, both rounding rules, schedules and their dates."""

import dataclasses
import math
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.market.fees import (
    NO_FEES,
    PER_FILL,
    PER_FILL_FROM_MS,
    PER_ORDER,
    Fees,
    FeeSchedule,
    fee_product,
    fees_of,
    fill_fee_micro,
    largest_size_centi,
    schedule_for,
    up_to_cent_micro,
    worst_fee_micro,
)

CENT = 10_000
prices = st.integers(1, 9_999)
sizes = st.integers(1, 100_000)
rates = st.sampled_from((0, 175, 350, 700))


@pytest.mark.parametrize(
    ("rate_bp", "contracts", "price_bp", "cents"),
    [
        (700, 1, 5_000, 2),
        (700, 10, 5_000, 18),
        (700, 100, 5_000, 175),
        (700, 100, 4_500, 174),
        (700, 100, 2_500, 132),
        (700, 100, 1_000, 63),
        (700, 1, 100, 1),
        (175, 100, 5_000, 44),
    ],
)
def test_published_examples(rate_bp, contracts, price_bp, cents):
    product = fee_product(rate_bp, 100, contracts * 100, price_bp)
    assert up_to_cent_micro(product) == cents * CENT


@given(rates, sizes, prices)
def test_fee_is_exact_and_the_same_for_yes_and_no(rate_bp, size_centi, price_bp):
    p = Fraction(price_bp, 10_000)
    exact = Fraction(rate_bp, 10_000) * Fraction(size_centi, 100) * p * (1 - p)
    product = fee_product(rate_bp, 100, size_centi, price_bp)
    assert Fraction(product, 10**16) == exact
    assert up_to_cent_micro(product) == math.ceil(exact * 100) * CENT
    assert product == fee_product(rate_bp, 100, size_centi, 10_000 - price_bp)


@pytest.mark.parametrize(
    "rates",
    [
        (700, 0, 100),
        (700, 175, 100),
        (350, 0, 100),
        (700, 175, 300),
        (10_000, 10_000, 400),
        (0, 0, 0),
    ],
)
@pytest.mark.parametrize("price_bp", [1, 100, 4_999, 5_000, 9_999])
def test_fees_up_to_the_largest_size_are_exact_in_the_kernel(rates, price_bp):
    fees = Fees(*rates, PER_ORDER)
    size = largest_size_centi(fees)
    if rates == (0, 0, 0):
        assert size > 10**18
        return
    assert size >= 9_000
    p = Fraction(price_bp, 10_000)
    rate = Fraction(max(rates[:2]), 10_000) * Fraction(rates[2], 100)
    product = fee_product(max(rates[:2]), rates[2], size, price_bp)
    exact = rate * Fraction(size, 100) * p * (1 - p)
    assert up_to_cent_micro(product) == math.ceil(exact * 100) * CENT > 0


@pytest.mark.parametrize(
    "wrong",
    [{"taker_rate_bp": -1}, {"maker_rate_bp": -1}, {"multiplier_pct": -1},
     {"taker_rate_bp": 40_001}, {"maker_rate_bp": 700, "multiplier_pct": 10_000}],
)  # fmt: skip
def test_schedules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"never negative|more in fees"):
        FeeSchedule("KXX", **wrong)


def test_the_dearest_schedule_costs_what_a_contract_pays():
    for dearest in (FeeSchedule("KXX", taker_rate_bp=40_000), FeeSchedule("KXX", 0, 4, 40_000)):
        rate = max(dearest.taker_rate_bp, dearest.maker_rate_bp)
        assert fee_product(rate, dearest.multiplier_pct, 100, 5_000) == 10**16
        with pytest.raises(ValueError, match="more in fees"):
            dataclasses.replace(dearest, multiplier_pct=101)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dearest.from_ms = 1


def test_the_rounding_rules_are_kept_as_numbers_and_the_second_begins_on_its_day():
    assert (PER_ORDER, PER_FILL) == (0, 1)
    assert datetime(2026, 5, 28, tzinfo=UTC).timestamp() * 1_000 == PER_FILL_FROM_MS
    assert NO_FEES == (0, 0, 100, PER_ORDER)
    assert FeeSchedule() == FeeSchedule("", 0, 700, 0, 100)
    assert schedule_for("KXBTC15M", 0) == Fees(700, 0, 100, PER_ORDER)
    assert schedule_for("KXBTC15M", 0, ()) == Fees(700, 0, 100, PER_ORDER)


@pytest.mark.parametrize("rates", [(700, 0, 100), (350, 700, 300), (0, 0, 100), (700, 0, 0)])
def test_the_largest_size_is_the_last_whose_fee_rounded_up_fits_64_bits(rates):
    rate = max(rates[:2]) * rates[2]
    size = largest_size_centi(Fees(*rates, PER_ORDER))
    room = 2**63 - 1 - 10**14  # rounding up to a cent adds less than one
    dearest = fee_product(max(rates[:2]), rates[2], 1, 5_000)
    assert dearest == rate * 25_000_000
    assert size * dearest <= room
    assert (size + 1) * max(dearest, 1) > room
    assert isinstance(size, int)


def test_a_fee_holiday_ends_on_its_date():
    known = (FeeSchedule(), FeeSchedule("KXY", 1_000, multiplier_pct=0), FeeSchedule("KXY", 2_000))
    charged = [schedule_for("KXY", at_ms, known).multiplier_pct for at_ms in (999, 1_000, 2_000)]
    assert charged == [100, 0, 100]


def test_largest_position_does_not_overflow():
    assert fee_product(700, 100, 10**6, 5_000) == 1_750_000_000_000 * 10**6


@given(st.lists(st.tuples(sizes, prices), min_size=1, max_size=8), rates)
def test_an_orders_fills_pay_the_orders_fee_before_may_2026(fills, rate_bp):
    total, paid, carried = 0, 0, 0
    for size, price in fills:
        product = fee_product(rate_bp, 100, size, price)
        fee, carried = fill_fee_micro(PER_ORDER, product, -size * price, total, carried)
        assert fee >= 0
        total += product
        paid += fee
    assert paid == up_to_cent_micro(total)


@given(st.lists(st.tuples(sizes, prices), min_size=1, max_size=8), rates, st.booleans())
def test_balances_stay_whole_cents_after_may_2026(fills, rate_bp, buys):
    exact, paid, carried, balance = Fraction(0), 0, 0, 0
    for size, price in fills:
        revenue = -size * price if buys else size * price
        product = fee_product(rate_bp, 100, size, price)
        fee, carried = fill_fee_micro(PER_FILL, product, revenue, 0, carried)
        balance += revenue - fee
        exact += Fraction(product, 10**10)
        paid += fee
        assert fee >= 0
        assert balance % CENT == 0
    assert paid >= exact
    # each fill rounds up 0.01 cent, and what flooring took is what the accumulator holds
    assert paid - carried <= exact + 100 * len(fills)


def test_a_cent_of_rounding_is_given_back():
    # 0.5 contract at 3.5 cents: revenue -1.75 cents, no trade fee; flooring takes 0.25 cent a fill
    carried, fees = 0, []
    for _ in range(3):
        fee, carried = fill_fee_micro(PER_FILL, 0, -17_500, 0, carried)
        fees.append(fee)
    assert fees == [2_500, 2_500, 2_500]
    assert carried == 7_500
    # the fourth makes it exactly a cent, the fifth exceeds it, but its own fee is below a cent
    for _ in range(2):
        fee, carried = fill_fee_micro(PER_FILL, 0, -17_500, 0, carried)
    assert (fee, carried) == (2_500, 12_500)
    # a fill whose fee covers the rebate gets it
    product = fee_product(700, 100, 100, 5_000)  # 1.75 cents
    fee, carried = fill_fee_micro(PER_FILL, product, -500_000, 0, carried)
    assert (fee, carried) == (17_500 + 2_500 - CENT, 12_500 + 2_500 - CENT)


@pytest.mark.parametrize(
    ("fee_of_it", "carried", "charged", "left"),
    [
        (CENT, CENT, CENT, CENT),  # exactly a cent has not exceeded it
        (CENT, CENT + 1, 0, 1),  # a fee of exactly a cent covers it
        (CENT - 100, CENT + 1, CENT - 100, CENT + 1),
        (3 * CENT, 2 * CENT, 2 * CENT, CENT),  # one cent a fill
    ],
)
def test_a_cent_is_given_back_once_the_accumulator_exceeds_it_and_the_fee_covers_it(
    fee_of_it, carried, charged, left
):
    product = fee_of_it * 10**10
    # the balance stays at whole cents by itself: nothing is floored
    revenue = fee_of_it % CENT - CENT
    assert fill_fee_micro(PER_FILL, product, revenue, 0, carried) == (charged, left)


@pytest.mark.parametrize(
    ("product", "cent_micro", "centicent_micro"),
    [(0, 0, 0), (1, CENT, 100), (10**12, CENT, 100), (10**12 + 1, CENT, 200),
     (10**14, CENT, CENT), (10**14 + 1, 2 * CENT, CENT + 100), (3 * 10**14, 3 * CENT, 3 * CENT)],
)  # fmt: skip
def test_fees_round_up_to_the_cent_of_an_order_or_the_hundredth_of_it_of_a_fill(
    product, cent_micro, centicent_micro
):
    assert up_to_cent_micro(product) == worst_fee_micro(PER_ORDER, product) == cent_micro
    assert worst_fee_micro(PER_FILL, product) == centicent_micro + CENT
    # from cash of whole cents, flooring takes what the hundredths leave of a cent
    floored = -centicent_micro % CENT
    assert fill_fee_micro(PER_FILL, product, -CENT, 0, 0) == (centicent_micro + floored, floored)
    assert fill_fee_micro(PER_ORDER, product, -CENT, 0, 0) == (cent_micro, cent_micro)


@given(rates, sizes, prices, st.booleans())
def test_a_single_fill_never_pays_more_than_the_worst_fee(rate_bp, size, price, buys):
    product = fee_product(rate_bp, 100, size, price)
    revenue = -size * price if buys else size * price
    for rule in (PER_ORDER, PER_FILL):
        fee, _ = fill_fee_micro(rule, product, revenue, 0, 0)
        assert fee <= worst_fee_micro(rule, product)


def test_default_schedule_and_its_rounding_rule():
    assert schedule_for("KXBTC15M", PER_FILL_FROM_MS - 1) == Fees(700, 0, 100, PER_ORDER)
    assert schedule_for("KXBTC15M", PER_FILL_FROM_MS) == Fees(700, 0, 100, PER_FILL)


def test_a_series_own_schedule_wins_and_a_later_one_replaces_it():
    known = (
        FeeSchedule(),
        FeeSchedule("KXINX", taker_rate_bp=350),
        FeeSchedule("KXINX", from_ms=1_000, taker_rate_bp=350, maker_rate_bp=88),
        FeeSchedule(from_ms=2_000, taker_rate_bp=600),
    )
    assert schedule_for("KXINX", 999, known)[:2] == (350, 0)
    assert schedule_for("KXINX", 1_000, known)[:2] == (350, 88)
    assert schedule_for("KXINX", 5_000, known)[:2] == (350, 88)
    assert schedule_for("KXBTC", 1_999, known)[:2] == (700, 0)
    assert schedule_for("KXBTC", 2_000, known)[:2] == (600, 0)


def test_a_row_of_the_tape_has_names():
    fees = fees_of(np.array([700, 175, 50, 1]))
    assert (fees.taker_rate_bp, fees.maker_rate_bp, fees.multiplier_pct, fees.rule) == (
        700, 175, 50, 1,
    )  # fmt: skip
