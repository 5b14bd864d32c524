"""The daily loss limit: reached, enforced, and over at midnight UTC."""

from dataclasses import replace

import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import BUY, SELL, Action
from kalshi_pipeline.trading.portfolio import Account, Order
from tests.tapes import book, trade, universe_from_messages
from tests.trading.play import column, play

A = Action
FREE = TradingConfig(latency_ms=0, fees=False)
DAY_MS = 86_400_000
HIGH = ((4_000, 1_000), (4_400, 1_000))
LOW = ((3_000, 1_000), (3_400, 1_000))


def market(*later, start_ms=0):
    """100 bought at 44 cents lose 4 cents at once, 10 more with the fall at ms 2."""
    rows = [book(start_ms, *HIGH), book(start_ms + 1, *HIGH), book(start_ms + 2, *LOW)]
    rows += [book(t, *LOW) for t in (later or range(start_ms + 3, start_ms + 8))]
    return universe_from_messages([rows])


def limited(micro):
    return replace(FREE, daily_loss_limit_micro=micro)


@pytest.mark.parametrize(
    ("limit_micro", "buys"), [(0, True), (140_001, True), (140_000, False), (1, False)]
)
def test_a_loss_that_reaches_the_limit_leaves_orders_that_reduce(limit_micro, buys):
    fast = play(market(), [A.BUY_BEST, A.HOLD], limited(limit_micro))
    assert column(fast, Account.EQUITY) == FREE.cash_start_micro - 140_000
    assert fast.mask[0].tolist() == [True, *[buys] * 3, *[True] * 3]


def test_without_a_position_nothing_but_hold_is_left():
    fast = play(market(), [A.BUY_BEST, A.HOLD, A.SELL_BEST], limited(100_000))
    assert column(fast, Account.POSITION) == 0
    assert fast.mask[0].tolist() == [True] + [False] * 6
    fast.step([A.BUY_BEST])
    assert column(fast, Account.INVALID) == 1


def test_a_forbidden_action_is_a_counted_no_op():
    fast = play(market(), [A.BUY_BEST, A.HOLD, A.BUY_BEST, A.HOLD], limited(100_000))
    assert (column(fast, Account.INVALID), column(fast, Account.POSITION)) == (1, 100)


def test_what_rests_on_the_other_side_is_cancelled_and_what_reduces_stays():
    actions = [A.BUY_BEST, A.BUY_PASSIVE, A.SELL_PASSIVE]
    rows = [book(t, *HIGH) for t in range(4)] + [book(t, LOW[0], HIGH[1]) for t in range(5, 8)]
    fast = play(universe_from_messages([rows]), [*actions, A.HOLD], limited(100_000))
    assert fast.state.orders[0, BUY, Order.PRICE] == 0
    assert fast.state.orders[0, SELL, Order.PRICE] == 4_400
    unlimited = play(universe_from_messages([rows]), [*actions, A.HOLD], FREE)
    assert unlimited.state.orders[0, BUY, Order.PRICE] == 4_000


def test_an_order_larger_than_the_position_is_cut_to_it():
    rows = [book(0, (4_000, 1_000), (4_400, 30))]
    rows += [book(1, (4_000, 1_000), (4_400, 30)), *(book(t, *LOW) for t in range(2, 8))]
    fast = play(universe_from_messages([rows]), [A.BUY_BEST, A.HOLD, A.SELL_BEST], limited(10_000))
    assert column(fast, Account.POSITION) == 0  # 30 bought, 30 of the 100 sold
    assert column(fast, Account.TRADED) == 60


def test_an_order_in_flight_when_the_limit_is_reached_opens_nothing():
    rows = [book(0, *HIGH), book(250, *HIGH), book(300, *LOW), book(400, *LOW), book(600, *LOW)]
    rows += [trade(700, 3_200, 1)]
    config = replace(limited(100_000), latency_ms=250)
    for second in (A.BUY_BEST, A.BUY_PASSIVE):
        fast = play(universe_from_messages([rows]), [A.BUY_BEST, second, A.HOLD, A.HOLD], config)
        assert column(fast, Account.STOPPED) == 1
        assert column(fast, Account.POSITION) == 100
        assert fast.state.orders[0, BUY, Order.PRICE] == 0
        assert column(fast, Account.CANCELS) == 1


def test_it_stays_though_equity_recovers():
    rows = [book(0, *HIGH), book(1, *HIGH), book(2, *LOW), *(book(t, *HIGH) for t in range(3, 7))]
    fast = play(universe_from_messages([rows]), [A.BUY_BEST, A.HOLD, A.HOLD], limited(100_000))
    assert column(fast, Account.EQUITY) == FREE.cash_start_micro - 40_000
    assert not fast.mask[0, A.BUY_BEST]


def test_the_next_utc_day_starts_anew_from_the_last_mark_of_the_day_before():
    start = 20_000 * DAY_MS - 10
    universe = market(start + 5, start + 10, start + 11, start + 12, start_ms=start)
    fast = play(universe, [A.BUY_BEST, A.HOLD, A.HOLD], limited(100_000))
    assert column(fast, Account.STOPPED) == 1
    fast.step([A.HOLD])
    assert (column(fast, Account.STOPPED), fast.time_ms[0] % DAY_MS) == (0, 0)
    assert column(fast, Account.DAY_EQUITY) == FREE.cash_start_micro - 140_000
    assert fast.mask[0].all()


def test_a_fall_over_midnight_belongs_to_the_new_day():
    start = 20_000 * DAY_MS - 2  # the fall comes with the first message of the day
    fast = play(market(start_ms=start), [A.BUY_BEST, A.HOLD], limited(100_000))
    assert column(fast, Account.DAY_EQUITY) == FREE.cash_start_micro - 40_000
    assert column(fast, Account.STOPPED) == 1
