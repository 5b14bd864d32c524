"""FIFO round trips against a list of lots in exact fractions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.evaluation.trades.lots import NONE, fifo_lots, trips_of
from kalshi_pipeline.trading.record import Fills
from tests.oracle.lots import round_trips

FILLS = st.lists(
    st.tuples(st.booleans(), st.integers(1, 9_999), st.integers(1, 300), st.integers(0, 30_000)),
    max_size=25,
)


def fills_of(jobs):
    """`(is_buy, price, size, fee)` of each job as the players write them."""
    rows = [(job, *fill) for job, fills in enumerate(jobs) for fill in fills]
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    zeros = np.zeros(len(rows), np.int64)
    job, is_buy, price, size, fee = columns
    none = np.zeros(len(rows), np.bool_)
    return Fills(job, zeros, zeros, zeros, 1 - is_buy, price, size, fee, none, none)


def matched(jobs, worth, flags=None):
    fills = fills_of(jobs)
    bits = np.zeros(len(fills.job), np.int64) if flags is None else flags
    return fills, fifo_lots(fills, np.array(worth, np.int64), bits)


@given(st.lists(FILLS, min_size=1, max_size=3), st.lists(st.integers(-(10**9), 10**9), min_size=3))
def test_lots_are_those_of_a_list_and_add_up_to_the_last_micro_dollar(jobs, worth):
    fills, lots = matched(jobs, worth)
    trips, wins = trips_of(lots, len(jobs))
    for job, own in enumerate(jobs):
        signed = sum(size if is_buy else -size for is_buy, _, size, _ in own)
        left = worth[job] if signed else 0
        expected = round_trips(own, left)
        mine = np.flatnonzero(lots.job == job)
        assert lots.size_centi[mine].tolist() == [lot.size_centi for lot in expected]
        assert (lots.closed_by[mine] == NONE).tolist() == [lot.by_end for lot in expected]
        pieces = 2 + len(own)  # each is rounded once
        for lot, twin in zip(mine, expected, strict=True):
            assert fills.side[lots.opened_by[lot]] == (0 if twin.is_buy else 1)
            assert abs(lots.gain_micro[lot] - twin.gain_micro) <= pieces
        cash = sum(-price * size * (1 if b else -1) - fee for b, price, size, fee in own)
        assert lots.gain_micro[mine].sum() == cash + left
        assert trips[job] == len(mine)
        assert wins[job] == np.count_nonzero(lots.gain_micro[mine] > 0)


def test_the_oldest_contract_is_sold_first_and_each_fee_is_borne_by_its_own():
    buys = [(True, 4_000, 100, 2_000), (True, 5_000, 100, 4_000)]
    _, lots = matched([[*buys, (False, 4_500, 150, 3_000)]], [50 * 4_600])
    assert lots.gain_micro.tolist() == [
        100 * 500 - 2_000 - 2_000,  # two thirds of the sale's fee
        -50 * 500 - 4_000 - 1_000 - 50 * 400,
    ]
    assert lots.closed_by.tolist() == [2, NONE]
    assert lots.at_end_centi.tolist() == [0, 50]
    assert lots.closes.tolist() == [NONE, NONE, 0]


def test_a_fill_through_zero_closes_one_trip_and_opens_another():
    _, lots = matched([[(True, 4_000, 100, 0), (False, 6_000, 300, 900)]], [-200 * 7_000])
    assert lots.gain_micro.tolist() == [100 * 2_000 - 300, 200 * (6_000 - 7_000) - 600]
    assert (lots.opens.tolist(), lots.closes.tolist()) == ([0, 1], [NONE, 0])


def test_a_trip_that_gains_nothing_is_no_win():
    _, lots = matched([[(True, 4_000, 100, 0), (False, 4_000, 100, 0)]], [0])
    assert [count.tolist() for count in trips_of(lots, 1)] == [[1], [0]]


def test_a_trip_gathers_the_flags_of_its_fills():
    fills = [(True, 4_000, 100, 0), (True, 4_000, 100, 0), (False, 5_000, 200, 0)]
    _, lots = matched([fills], [0], np.array([1, 0, 4]))
    assert lots.flags.tolist() == [5, 4]
