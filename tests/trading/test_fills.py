"""What happens to an order between the decision and its end, on hand-made tapes."""

import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.trading.actions import BUY, SELL, Action
from kalshi_pipeline.trading.portfolio import Account, Order
from tests.tapes import FEES_PER_FILL, book, delta, snapshot, trade, universe_from_messages
from tests.trading.play import available, column, play, summary_of

A = Action
FREE = TradingConfig(latency_ms=0, fees=False)
YES, NO = 0, 1


def market(*messages, bid=(4_000, 1_000), ask=(4_400, 1_000), tail=3, **options):
    """A book, then messages at later milliseconds, then the same state for a while."""
    rows = [book(0, bid, ask), *messages]
    last = rows[-1].time_ms
    rows += [trade(last + 1 + k, 4_200, 1) for k in range(tail)]  # inside the spread: no effect
    return universe_from_messages([rows], **options)


def resting(started, side):
    return int(started.state.orders[0, side, Order.PRICE])


def test_best_takes_at_the_touch_it_meets():
    fast = play(market(delta(1, NO, 5_700, 300)), [A.BUY_BEST], FREE)  # ask improves to 43 cents
    assert column(fast, Account.POSITION) == 100
    assert column(fast, Account.BASIS) == 100 * 4_300
    assert column(fast, Account.TAKER_FILLS) == 1


def test_best_never_pays_more_than_the_ask_it_saw():
    away = market(delta(1, NO, 5_600, -1_000), delta(1, NO, 5_500, 500))  # the ask leaves to 45
    fast = play(away, [A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 0
    assert column(fast, Account.CANCELS) == 1


def test_best_fills_what_the_level_shows_and_cancels_the_rest():
    universe = market(trade(1, 4_200, 1), ask=(4_400, 30))
    fast = play(universe, [A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 30
    assert column(fast, Account.CANCELS) == 1
    assert column(fast, Account.TAKER_FILLS) == 1


def test_own_fills_consume_the_level_until_a_message_changes_it():
    universe = market(
        trade(1, 4_200, 1), trade(2, 4_200, 1), delta(3, NO, 5_600, 50), ask=(4_400, 130)
    )
    fast = play(universe, [A.BUY_BEST, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 130  # 100, then the 30 that were left
    fast = play(universe, [A.BUY_BEST, A.BUY_BEST, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 230  # the level was refreshed to 180


def test_liquidation_cannot_sell_into_consumed_size():
    # 100 bought at 44; the only bid shows 100, and 100 were already sold into it
    universe = market(trade(1, 4_200, 1), trade(2, 4_200, 1), trade(3, 4_200, 1), bid=(4_000, 100))
    fast = play(universe, [A.BUY_BEST, A.SELL_BEST, A.BUY_BEST], FREE)
    assert column(fast, Account.POSITION) == 100
    assert fast.equity_micro[0] == column(fast, Account.CASH)  # worth nothing now


@pytest.mark.parametrize(
    ("action", "price"),
    [
        (A.BUY_IMPROVE, 4_300),
        (A.BUY_PASSIVE, 4_000),
        (A.SELL_IMPROVE, 4_100),
        (A.SELL_PASSIVE, 4_400),
    ],
)
def test_post_only_orders_rest_at_their_price(action, price):
    fast = play(market(trade(1, 4_200, 1)), [action], FREE)
    side = BUY if action in (A.BUY_IMPROVE, A.BUY_PASSIVE) else SELL
    assert resting(fast, side) == price
    assert column(fast, Account.POSITION) == 0


def test_post_only_order_that_would_cross_is_cancelled():
    fast = play(
        market(delta(1, NO, 6_000, 10), delta(1, YES, 4_000, -1_000)), [A.BUY_PASSIVE], FREE
    )
    assert resting(fast, BUY) == 0
    assert column(fast, Account.CANCELS) == 1


def test_resting_buy_fills_when_the_ask_comes_to_it():
    crossing = (delta(2, YES, 4_000, -1_000), delta(2, NO, 6_000, 60))
    fast = play(market(trade(1, 4_200, 1), *crossing), [A.BUY_PASSIVE, A.HOLD], FREE)
    assert column(fast, Account.POSITION) == 60  # what the new ask shows
    assert column(fast, Account.BASIS) == 60 * 4_000
    assert column(fast, Account.MAKER_FILLS) == 1
    assert resting(fast, BUY) == 4_000  # the rest keeps waiting


def test_resting_sell_fills_when_a_trade_prints_above_it():
    universe = market(trade(1, 4_200, 1), trade(2, 4_400, 900), trade(3, 4_401, 40))
    fast = play(universe, [A.SELL_PASSIVE, A.HOLD], FREE)
    assert column(fast, Account.POSITION) == 0  # a trade at the price may have been others'
    fast = play(universe, [A.SELL_PASSIVE, A.HOLD, A.HOLD], FREE)
    assert column(fast, Account.POSITION) == -40
    assert column(fast, Account.CASH) == FREE.cash_start_micro + 40 * 4_400


def test_the_row_an_order_arrives_on_does_not_fill_it():
    fast = play(market(trade(1, 3_000, 500)), [A.BUY_PASSIVE], FREE)
    assert column(fast, Account.POSITION) == 0
    assert resting(fast, BUY) == 4_000


def test_the_same_quote_again_keeps_its_place():
    universe = market(trade(1, 4_200, 1), trade(2, 4_200, 1))
    fast = play(universe, [A.BUY_PASSIVE, A.BUY_PASSIVE], FREE)
    assert fast.state.orders[0, BUY, Order.SINCE_MS] == 1
    assert column(fast, Account.ORDERS) == 1
    assert column(fast, Account.CANCELS) == 0


def test_another_price_replaces_the_resting_order():
    universe = market(trade(1, 4_200, 1), trade(2, 4_200, 1))
    fast = play(universe, [A.BUY_PASSIVE, A.BUY_IMPROVE], FREE)
    assert resting(fast, BUY) == 4_300
    assert (column(fast, Account.ORDERS), column(fast, Account.CANCELS)) == (2, 1)


@pytest.mark.parametrize("action", [A.BUY_BEST, A.BUY_IMPROVE])
def test_an_order_first_cancels_the_own_order_it_would_meet(action):
    universe = market(trade(1, 4_200, 1), trade(2, 4_200, 1), trade(3, 4_200, 1))
    sell = A.SELL_IMPROVE  # rests at 41
    fast = play(universe, [sell, action], FREE)
    assert resting(fast, SELL) == 0
    fast = play(universe, [sell, A.BUY_PASSIVE], FREE)  # at 40: meets nothing
    assert (resting(fast, BUY), resting(fast, SELL)) == (4_000, 4_100)


def test_only_hold_is_valid_while_an_order_is_in_flight():
    universe = market(trade(100, 4_200, 1), trade(200, 4_200, 1), trade(300, 4_200, 1))
    fast = play(universe, [A.BUY_BEST, A.BUY_BEST], TradingConfig(latency_ms=250))
    assert fast.mask[0].tolist() == [True] + [False] * 6
    assert column(fast, Account.INVALID) == 1
    fast.step([A.HOLD])
    assert column(fast, Account.POSITION) == 100
    assert fast.mask[0].all()


def test_an_order_still_in_flight_at_the_end_is_cancelled():
    summary = summary_of(market(trade(1, 4_200, 1)), [A.HOLD, A.BUY_BEST], TradingConfig())
    assert (summary.orders, summary.cancels, summary.taker_fills) == (1, 1, 0)
    assert summary.pnl_micro == 0


def test_missing_quotes_are_masked():
    only_bids = universe_from_messages([[book(0, (4_000, 10), None), trade(1, 4_200, 1)]])
    valid = play(only_bids, [], FREE).mask[0].tolist()
    assert valid == [True, False, False, True, True, True, False]
    at_the_edge = universe_from_messages(
        [[book(0, (9_900, 10), None), trade(1, 4_200, 1), trade(2, 4_200, 1)]]
    )
    valid = play(at_the_edge, [], FREE).mask[0].tolist()
    assert valid == [True, False, False, True, True, False, False]  # nothing between 99c and $1


def test_position_limit_counts_what_rests():
    universe = market(*(trade(t, 4_200, 1) for t in range(1, 8)))
    config = TradingConfig(latency_ms=0, fees=False, position_limit_centi=200)
    fast = play(universe, [A.BUY_BEST, A.BUY_PASSIVE], config)
    assert column(fast, Account.POSITION) == 100
    assert fast.mask[0, A.BUY_BEST : A.BUY_PASSIVE + 1].tolist() == [False] * 3
    assert fast.mask[0, A.SELL_BEST : A.SELL_PASSIVE + 1].all()


def test_closing_is_possible_without_any_cash():
    universe = market(*(trade(t, 4_200, 1) for t in range(1, 5)))
    config = TradingConfig(latency_ms=0, fees=False, cash_start_micro=440_000)
    fast = play(universe, [A.BUY_BEST], config)
    assert column(fast, Account.CASH) == 0
    assert fast.mask[0].tolist() == [True, False, False, False, True, True, True]


def test_resting_orders_reserve_their_whole_cost():
    universe = market(*(trade(t, 4_200, 1) for t in range(1, 5)))
    fast = play(universe, [A.BUY_PASSIVE, A.SELL_PASSIVE], FREE)
    free = FREE.cash_start_micro - 100 * 4_000 - 100 * 5_600
    expected = free / FREE.cash_start_micro
    assert fast.observation[0, COLUMN["available_cash"]] == pytest.approx(expected, abs=1e-7)


def short_then_buying_twice(*, waiting_sell):
    """A short closed by its resting buy while another buy, priced as closing, is on its way."""
    rows = [
        book(0, (4_000, 900), (4_400, 900)),
        book(1, (4_000, 900), (4_400, 900)),
        book(2, (6_000, 900), (7_000, 900)),
        book(3, (6_000, 900), (7_000, 900)),
        book(4, (6_800, 900), (6_900, 900)),
        trade(5, 6_850, 1),
        trade(6, 6_700, 900),
        trade(7, 6_850, 1),
    ]
    cash = 600_000 + (300_000 if waiting_sell else 0)
    config = TradingConfig(latency_ms=0, fees=False, cash_start_micro=cash)
    wait = A.SELL_PASSIVE if waiting_sell else A.HOLD
    universe = universe_from_messages([rows])
    actions = [A.SELL_BEST, A.HOLD, wait, A.HOLD, A.BUY_PASSIVE, A.BUY_BEST]
    return play(universe, actions, config)


@pytest.mark.parametrize("waiting_sell", [False, True])
def test_a_fill_is_cut_to_what_cash_can_carry(waiting_sell):
    fast = short_then_buying_twice(waiting_sell=waiting_sell)
    if waiting_sell:  # 62 cents are left at 0; each contract bought frees the sell's 30
        assert column(fast, Account.POSITION) == 82
        assert available(fast) == 620_000 - 82 * 6_900 - 18 * 3_000
        assert resting(fast, SELL) == 7_000
    else:  # 32 cents are left at 0
        assert column(fast, Account.POSITION) == 46
        assert available(fast) == 320_000 - 46 * 6_900
    assert column(fast, Account.CANCELS) == 1


def test_a_resting_order_is_cancelled_when_cash_no_longer_carries_it():
    # post May 2026 a fill of 0.01 contract pays rounding too: more than was reserved for its share
    rows = [book(0, (5_100, 900), (5_500, 900)), trade(1, 5_300, 1), trade(2, 5_000, 1)]
    universe = universe_from_messages([[*rows, trade(3, 5_300, 1)]], fee_schedule=FEES_PER_FILL)
    config = TradingConfig(latency_ms=0, cash_start_micro=510_000 + 4_400 + 10_000)
    fast = play(universe, [A.BUY_PASSIVE], config)
    assert (resting(fast, BUY), available(fast)) == (5_100, 0)
    fast = play(universe, [A.BUY_PASSIVE, A.HOLD], config)
    assert column(fast, Account.POSITION) == 1
    assert column(fast, Account.FEES) == 10_000 - 5_100
    assert (resting(fast, BUY), column(fast, Account.CANCELS)) == (0, 1)
    assert available(fast) == 514_400


def test_queue_ahead_starts_as_the_displayed_size_and_only_shrinks():
    universe = market(trade(1, 4_200, 1), delta(2, YES, 4_000, -700), delta(3, YES, 4_000, 5_000))
    ahead = [
        int(
            play(universe, [A.BUY_PASSIVE, A.HOLD, A.HOLD][:k], FREE).state.orders[
                0, BUY, Order.AHEAD
            ]
        )
        for k in (1, 2, 3)
    ]
    assert ahead == [1_000, 300, 300]


def test_truncated_episode_is_marked_at_the_last_book_that_was_not_empty():
    rows = [
        book(0, (4_000, 1_000), (4_400, 1_000)),
        trade(1, 4_200, 1),
        delta(2, NO, 5_600, -1_000),  # only bids
        snapshot(3, {}, {}),
        trade(4, 4_200, 1),
    ]
    universe = universe_from_messages([rows])
    fast = play(universe, [A.BUY_BEST, A.HOLD, A.HOLD], FREE)
    assert fast.equity_micro[0] == column(fast, Account.CASH)  # nothing to sell into meanwhile
    summary = summary_of(universe, [A.BUY_BEST], FREE)
    assert not summary.terminated
    assert summary.pnl_micro == -100 * 4_400 + 100 * 4_000
    assert summary.pnl_mid_micro == -100 * 4_400 + 100 * 4_200


def test_a_delta_after_an_empty_book_starts_a_new_one():
    rows = [
        book(0, (4_000, 1_000), (4_400, 1_000)),
        trade(1, 4_200, 1),
        snapshot(2, {}, {}),
        delta(3, YES, 1_000, 500),
    ]
    summary = summary_of(universe_from_messages([rows]), [A.BUY_BEST], FREE)
    assert summary.pnl_micro == -100 * 4_400 + 100 * 1_000


def test_round_trips_and_their_wins():
    rows = [book(0, (4_000, 900), (4_400, 900)), book(1, (4_000, 900), (4_400, 900))]
    rows += [book(t, (5_000, 900), (5_400, 900)) for t in range(2, 6)]
    universe = universe_from_messages([rows])
    summary = summary_of(universe, [A.BUY_BEST, A.SELL_BEST, A.BUY_BEST], FREE)
    assert (summary.flat_trips, summary.flat_wins) == (
        2,
        1,
    )  # the open one is closed, lost
    assert summary.action_counts == (2, 2, 0, 0, 1, 0, 0)
    assert summary.steps == 5


def test_unknown_actions_and_lanes_are_refused():
    fast = play(market(trade(1, 4_200, 1)), [], FREE)
    with pytest.raises(ValueError, match="actions are 0 to 6"):
        fast.step([7])
    with pytest.raises(IndexError, match="episode must be 0 to 0"):
        fast.reset([0], [1])
    with pytest.raises(IndexError, match="lane must be 0 to 0"):
        fast.reset([1], [0])
    with pytest.raises(IndexError, match="each lane needs one episode"):
        fast.reset([0], [0, 0])


def test_fees_that_would_not_fit_64_bits_are_refused():
    universe = market(trade(1, 4_200, 1), fee_schedule=(700, 0, 600, 0))
    with pytest.raises(ValueError, match="do not fit 64 bits"):
        play(universe, [], TradingConfig(position_limit_centi=10**6))
    play(universe, [], TradingConfig(position_limit_centi=800_000))


@pytest.mark.parametrize(
    "config",
    [
        TradingConfig(position_limit_centi=10**7),
        TradingConfig(order_size_centi=0),
        TradingConfig(cash_start_micro=0),
        TradingConfig(latency_ms=-1),
        TradingConfig(daily_loss_limit_micro=-1),
    ],
)
def test_rules_that_make_no_sense_are_refused(config):
    with pytest.raises(ValueError, match=r"must be|sizes are"):
        play(market(trade(1, 4_200, 1)), [], config)
