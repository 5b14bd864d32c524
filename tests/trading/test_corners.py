"""Corners of the rules, one by one; `docs/SIMULATOR.md` has them in one table."""

from dataclasses import replace

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.market.prices import grid_of_ranges
from kalshi_pipeline.trading.actions import BUY, SELL, Action
from kalshi_pipeline.trading.portfolio import Account, Order
from tests.tapes import (
    CENT_GRID,
    TAPERED_GRID,
    book,
    delta,
    snapshot,
    trade,
    universe_from_messages,
)
from tests.trading.play import column, play, summary_of

A = Action
FREE = TradingConfig(latency_ms=0, fees=False)
YES, NO = 0, 1
FINEST_GRID = grid_of_ranges(((0, 10_000, 1),))


def quiet(bid, ask, count=6, grid=CENT_GRID, **options):
    """The same book again and again."""
    return universe_from_messages([[book(t, bid, ask) for t in range(count)]], grid=grid, **options)


def resting(started, side):
    return int(started.state.orders[0, side, Order.PRICE])


def test_hold_leaves_resting_orders_alone():
    fast = play(quiet((4_000, 10), (4_400, 10)), [A.BUY_PASSIVE, A.SELL_PASSIVE, A.HOLD], FREE)
    before = fast.state.orders.copy()
    fast.step([A.HOLD])
    assert (resting(fast, BUY), resting(fast, SELL)) == (4_000, 4_400)
    np.testing.assert_array_equal(fast.state.orders, before)


@pytest.mark.parametrize(
    ("action", "side", "price"), [(A.BUY_IMPROVE, BUY, 4_300), (A.SELL_IMPROVE, SELL, 4_400)]
)
def test_improving_inside_a_spread_of_one_tick_joins_the_own_quote(action, side, price):
    fast = play(quiet((4_300, 70), (4_400, 80)), [action], FREE)
    assert resting(fast, side) == price
    assert fast.state.orders[0, side, Order.AHEAD] == (70 if side == BUY else 80)


@pytest.mark.parametrize(
    ("bid", "ask", "valid"),
    [
        (None, (4_400, 10), {A.BUY_BEST, A.BUY_IMPROVE, A.SELL_PASSIVE}),
        ((4_000, 10), None, {A.BUY_PASSIVE, A.SELL_BEST, A.SELL_IMPROVE}),
    ],
)
def test_on_a_one_sided_book_what_the_quote_is_needed_for_is_invalid(bid, ask, valid):
    fast = play(quiet(bid, ask), [], FREE)
    assert {A(k) for k in np.flatnonzero(fast.mask[0])} == valid | {A.HOLD}
    for action in valid:
        assert play(quiet(bid, ask), [action], FREE).state.account[0, Account.ORDERS] == 1


def test_an_improving_order_on_a_one_sided_book_stands_alone():
    fast = play(quiet(None, (4_400, 10)), [A.BUY_IMPROVE], FREE)
    assert resting(fast, BUY) == 4_300
    assert fast.state.orders[0, BUY, Order.AHEAD] == 0


def test_on_an_empty_book_only_hold_is_valid():
    rows = [book(0, (4_000, 10), (4_400, 10)), *(snapshot(t, {}, {}) for t in range(1, 4))]
    fast = play(universe_from_messages([rows]), [A.HOLD], FREE)
    assert fast.mask[0].tolist() == [True] + [False] * 6


@pytest.mark.parametrize(("action", "rests"), [(A.BUY_BEST, 0), (A.BUY_PASSIVE, 4_000)])
def test_an_order_that_arrives_on_an_empty_book_takes_nothing_and_rests_if_it_may(action, rests):
    rows = [book(0, (4_000, 10), (4_400, 10)), *(snapshot(t, {}, {}) for t in range(1, 4))]
    fast = play(universe_from_messages([rows]), [action], FREE)
    assert column(fast, Account.POSITION) == 0
    assert resting(fast, BUY) == rests


@pytest.mark.parametrize(
    ("bid", "ask", "invalid"),
    [
        ((1, 50), (2, 50), set()),
        (None, (1, 50), {A.BUY_IMPROVE, A.BUY_PASSIVE, A.SELL_BEST, A.SELL_IMPROVE}),
        ((9_998, 50), (9_999, 50), set()),
        ((9_999, 50), None, {A.BUY_BEST, A.BUY_IMPROVE, A.SELL_IMPROVE, A.SELL_PASSIVE}),
    ],
)
def test_no_order_is_priced_at_nothing_or_a_dollar(bid, ask, invalid):
    fast = play(quiet(bid, ask, grid=FINEST_GRID), [], FREE)
    assert {A(k) for k in np.flatnonzero(~fast.mask[0])} == invalid


@pytest.mark.parametrize(
    ("action", "price", "unit", "fee_cents"),
    [(A.BUY_BEST, 1, 1, 1), (A.SELL_BEST, 1, 9_999, 1), (A.BUY_BEST, 9_999, 9_999, 1)],
)
def test_a_contract_at_the_last_price_costs_it_and_a_cent(action, price, unit, fee_cents):
    bid, ask = (None, (price, 500)) if action == A.BUY_BEST else ((price, 500), None)
    config = TradingConfig(latency_ms=0)
    fast = play(quiet(bid, ask, grid=FINEST_GRID), [action], config)
    account = fast.state.account[0]
    short = max(-int(account[Account.POSITION]), 0)
    spent = config.cash_start_micro - (int(account[Account.CASH]) - 10_000 * short)
    assert abs(account[Account.POSITION]) == 100
    assert spent == 100 * unit + fee_cents * 10_000


@pytest.mark.parametrize(
    ("bid", "ask", "action", "price"),
    [
        (700, 1_000, A.BUY_IMPROVE, 990),  # a tenth of a cent below ten cents
        (700, 1_100, A.BUY_IMPROVE, 1_000),
        (990, 1_500, A.SELL_IMPROVE, 1_000),
        (1_000, 1_500, A.SELL_IMPROVE, 1_100),
        (9_000, 9_500, A.SELL_IMPROVE, 9_010),
        (8_000, 9_010, A.BUY_IMPROVE, 9_000),
    ],
)
def test_a_tick_is_that_of_the_price_it_leaves_from(bid, ask, action, price):
    fast = play(quiet((bid, 10), (ask, 10), grid=TAPERED_GRID), [action], FREE)
    assert resting(fast, BUY if action == A.BUY_IMPROVE else SELL) == price


def test_a_taking_order_ends_what_rests_on_its_side():
    fast = play(quiet((4_000, 900), (4_400, 30)), [A.BUY_PASSIVE, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 30
    assert resting(fast, BUY) == 0
    assert (column(fast, Account.ORDERS), column(fast, Account.CANCELS)) == (2, 2)


def test_a_replacement_that_is_refused_leaves_nothing_resting():
    # the ask comes to 43 while BUY_IMPROVE at 43 is on its way
    rows = [book(t, (4_000, 900), (4_400, 900)) for t in range(3)]
    rows += [book(t, (4_000, 900), (4_300, 900)) for t in range(3, 6)]
    fast = play(universe_from_messages([rows]), [A.BUY_PASSIVE, A.HOLD, A.BUY_IMPROVE], FREE)
    assert resting(fast, BUY) == 0
    assert (column(fast, Account.ORDERS), column(fast, Account.CANCELS)) == (2, 2)


def test_the_same_quote_again_leaves_a_partly_filled_order_as_it_is():
    rows = [book(0, (4_000, 900), (4_400, 900)), trade(1, 4_200, 1), trade(2, 3_900, 30, NO)]
    rows += [trade(t, 4_200, 1) for t in range(3, 6)]
    fast = play(universe_from_messages([rows]), [A.BUY_PASSIVE, A.HOLD, A.BUY_PASSIVE], FREE)
    assert fast.state.orders[0, BUY, Order.REMAINING] == 70
    assert column(fast, Account.ORDERS) == 1


def test_a_new_order_at_another_price_goes_to_the_back_of_its_queue():
    rows = [book(t, (4_000, 900), (4_400, 900)) for t in range(2)]
    rows += [book(t, (4_100, 500), (4_400, 900)) for t in range(2, 6)]
    fast = play(universe_from_messages([rows]), [A.BUY_PASSIVE, A.HOLD, A.BUY_PASSIVE], FREE)
    assert resting(fast, BUY) == 4_100
    assert fast.state.orders[0, BUY, Order.AHEAD] == 500


def test_an_order_that_arrives_on_a_crossed_book_takes_or_is_cancelled():
    crossed = delta(1, NO, 6_100, 40)  # an ask at 39 below the bid at 40
    rows = [book(0, (4_000, 900), (4_400, 900)), crossed, trade(2, 4_200, 1)]
    universe = universe_from_messages([rows])
    taking = play(universe, [A.BUY_BEST], FREE)
    assert (column(taking, Account.POSITION), column(taking, Account.BASIS)) == (40, 40 * 3_900)
    passive = play(universe, [A.BUY_PASSIVE], FREE)
    assert (column(passive, Account.POSITION), resting(passive, BUY)) == (0, 0)
    assert column(passive, Account.CANCELS) == 1


def test_an_invalid_action_changes_nothing_but_its_count():
    universe = quiet(None, (4_400, 10))
    acted, held = (play(universe, [action], FREE) for action in (A.SELL_BEST, A.HOLD))
    account = acted.state.account.copy()
    assert account[0, Account.INVALID] == 1
    account[0, Account.INVALID] = 0
    np.testing.assert_array_equal(account, held.state.account)
    np.testing.assert_array_equal(acted.observation, held.observation)


@pytest.mark.parametrize("model", ["cross", "queue", "touch"])
@pytest.mark.parametrize(
    ("settlement_bp", "pnl"), [(0, -440_000), (10_000, 560_000), (-1, -40_000)]
)
def test_the_end_cancels_every_order_and_fills_none(model, settlement_bp, pnl):
    rows = [book(t, (4_000, 900), (4_400, 900)) for t in range(4)]
    universe = universe_from_messages([rows], settlement_bp=settlement_bp)
    config = replace(FREE, fill_model=model)
    summary = summary_of(universe, [A.BUY_BEST, A.HOLD, A.BUY_PASSIVE], config)
    assert summary.pnl_micro == pnl  # of the one contract; what rested was never filled
    assert (summary.orders, summary.cancels, summary.maker_fills) == (2, 1, 0)


def test_two_messages_of_one_millisecond_are_two_messages():
    rows = [book(0, (4_000, 900), (4_400, 900)), *(trade(0, 4_200, 1) for _ in range(4))]
    universe = universe_from_messages([rows], step_on_every_row=True)
    fast = play(universe, [A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 100  # on the next message, in the same millisecond
    assert play(universe, [A.BUY_BEST] * 3, TradingConfig(latency_ms=1)).state.account[
        0, Account.POSITION
    ] == 0  # fmt: skip


def test_a_snapshot_refreshes_what_own_fills_consumed():
    rows = [book(t, (4_000, 900), (4_400, 130)) for t in (0, 1)]
    rows += [trade(2, 4_200, 1), book(3, (4_000, 900), (4_400, 130)), trade(4, 4_200, 1)]
    fast = play(universe_from_messages([rows]), [A.BUY_BEST, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 130
    fast = play(universe_from_messages([rows]), [A.BUY_BEST, A.BUY_BEST, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 230


def test_a_taker_never_walks_past_the_touch():
    shot = snapshot(0, {4_000: 900}, {5_600: 30, 5_500: 900})
    rows = [shot, *(trade(t, 4_200, 1) for t in range(1, 5))]
    fast = play(universe_from_messages([rows]), [A.BUY_BEST, A.BUY_BEST], FREE)
    assert (column(fast, Account.POSITION), column(fast, Account.CANCELS)) == (30, 2)
