"""`queue` and `touch` on hand-made tapes, and the nesting of all three models."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import BUY, SELL, Action
from kalshi_pipeline.trading.portfolio import Account, Order
from tests.tapes import (
    CENT_GRID,
    TAPERED_GRID,
    book,
    delta,
    random_messages,
    snapshot,
    trade,
    universe_from_messages,
)
from tests.trading.play import MIRRORED, column, mirror, play, simulator

A = Action
YES, NO = 0, 1
FREE = TradingConfig(latency_ms=0, fees=False)
BID, ASK = 4_000, 4_400
SOLD = NO  # the taker of a trade that meets bids bought NO


def queue(alpha):
    return replace(FREE, fill_model="queue", queue_alpha=alpha)


def after(messages, config, action=A.BUY_PASSIVE):
    """Position and queue ahead after each message; the order rests behind 1,000 from ms 1 on."""
    rows = [book(0, (BID, 1_000), (ASK, 1_000)), trade(1, 4_200, 1), *messages]
    rows.append(trade(rows[-1].time_ms + 1, 4_200, 1))
    universe = universe_from_messages([rows], step_on_every_row=True)
    side = BUY if action == A.BUY_PASSIVE else SELL
    seen = []
    for count in range(len(messages)):
        fast = play(universe, [action, *[A.HOLD] * (count + 1)], config)
        ahead = int(fast.state.orders[0, side, Order.AHEAD])
        seen.append((column(fast, Account.POSITION), ahead))
    return seen


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_trades_at_the_price_pass_the_queue_and_then_fill(alpha):
    messages = [trade(2, BID, 900, SOLD), trade(3, BID, 130, SOLD), trade(4, BID, 500, SOLD)]
    assert after(messages, queue(alpha)) == [(0, 100), (30, 0), (100, 0)]
    assert after(messages, FREE)[-1] == (0, 1_000)  # `cross` waits for a trade below


def test_trades_of_the_other_taker_or_another_price_pass_nothing():
    messages = [trade(2, BID, 5_000, YES), trade(3, 4_100, 5_000, SOLD)]
    assert after(messages, queue(1.0)) == [(0, 1_000), (0, 1_000)]


def test_a_trade_through_the_price_fills_whatever_the_queue():
    assert after([trade(2, 3_900, 60, SOLD)], queue(0.0)) == [(60, 1_000)]


@pytest.mark.parametrize(
    ("alpha", "ahead"),
    [(0.0, (1_000, 1_000)), (0.33, (967, 868)), (0.5, (950, 800)), (1.0, (900, 600))],
)
def test_a_share_of_unexplained_decreases_passes_the_queue(alpha, ahead):
    # 3,000 others joined behind, so that the level never shows less than the queue
    messages = [delta(2, YES, BID, 3_000), delta(3, YES, BID, -100), delta(4, YES, BID, -300)]
    assert [queue_ahead for _, queue_ahead in after(messages, queue(alpha))[1:]] == list(ahead)


def test_the_share_is_of_the_sum_and_rounded_down():
    # a third of 1 + 1 + 1 + 1: every share alone would be nothing
    messages = [delta(2, YES, BID, 3_000), *(delta(3 + k, YES, BID, -1) for k in range(4))]
    assert [a for _, a in after(messages, queue(0.33))] == [1_000, 1_000, 1_000, 1_000, 999]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_trade_and_its_decrease_shrink_the_queue_once_in_either_order(alpha):
    joined = delta(2, YES, BID, 3_000)
    trade_first = [joined, trade(3, BID, 400, SOLD), delta(4, YES, BID, -400)]
    delta_first = [joined, delta(3, YES, BID, -400), trade(4, BID, 400, SOLD)]
    assert after(trade_first, queue(alpha))[1:] == [(0, 600), (0, 600)]
    assert after(delta_first, queue(alpha))[-1] == (0, 600)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_level_showing_less_than_the_queue_is_no_second_decrease(alpha):
    # the decrease alone leaves 400 shown, which bounds the queue; then comes its trade
    messages = [delta(2, YES, BID, -600), trade(3, BID, 600, SOLD), trade(4, BID, 430, SOLD)]
    assert after(messages, queue(alpha)) == [(0, 400), (0, 400), (30, 0)]


def test_at_alpha_one_decreases_behind_a_gone_queue_fill():
    messages = [delta(2, YES, BID, -1_000), delta(3, YES, BID, 50), delta(4, YES, BID, -40)]
    assert after(messages, queue(1.0)) == [(0, 0), (0, 0), (40, 0)]
    assert after(messages, queue(0.0)) == [(0, 0), (0, 0), (0, 0)]


def test_a_snapshot_that_shows_less_is_an_unexplained_decrease():
    shot = snapshot(2, {BID: 700}, {10_000 - ASK: 1_000})
    messages = [shot, trade(3, BID, 300, SOLD), trade(4, BID, 710, SOLD)]
    assert after(messages, queue(0.0)) == [(0, 700), (0, 700), (10, 0)]


def test_an_order_alone_at_its_price_is_first_in_the_queue():
    rows = [book(0, (BID, 1_000), (ASK, 1_000)), trade(1, 4_200, 1), trade(2, 4_300, 70, SOLD)]
    universe = universe_from_messages([[*rows, trade(3, 4_200, 1)]])
    fast = play(universe, [A.BUY_IMPROVE, A.HOLD], queue(0.0))
    assert column(fast, Account.POSITION) == 70
    assert column(fast, Account.BASIS) == 70 * 4_300
    assert column(fast, Account.MAKER_FILLS) == 1


def test_a_sell_waits_in_the_other_ladder():
    messages = [trade(2, ASK, 900, YES), trade(3, ASK, 150, NO), trade(4, ASK, 150, YES)]
    assert after(messages, queue(0.0), A.SELL_PASSIVE) == [(0, 100), (0, 100), (-50, 0)]


def test_touch_fills_the_whole_order_on_the_next_message():
    touch = replace(FREE, fill_model="touch")
    assert after([delta(2, NO, 5_000, 10)], touch) == [(100, 0)]  # any message, any size shown
    rows = [book(0, (BID, 10), (ASK, 10)), trade(1, 4_200, 1), trade(2, 4_200, 1)]
    fast = play(universe_from_messages([rows]), [A.BUY_PASSIVE], touch)
    assert column(fast, Account.POSITION) == 0  # not on the one it arrives with


def test_the_same_quote_again_keeps_its_queue():
    rows = [book(0, (BID, 1_000), (ASK, 1_000)), trade(1, 4_200, 1), trade(2, BID, 700, SOLD)]
    rows += [trade(3, 4_200, 1), trade(4, 4_200, 1)]
    fast = play(universe_from_messages([rows]), [A.BUY_PASSIVE, A.HOLD, A.BUY_PASSIVE], queue(0.0))
    assert fast.state.orders[0, BUY, Order.AHEAD] == 300


@pytest.mark.parametrize(
    "config",
    [
        TradingConfig(fill_model="hope"),  # type: ignore[arg-type]
        TradingConfig(queue_alpha=-0.01),
        TradingConfig(queue_alpha=1.01),
        TradingConfig(queue_alpha=0.333),
    ],
)
def test_fill_models_that_are_none_are_refused(config):
    with pytest.raises(ValueError, match=r"fill model|queue_alpha"):
        after([trade(2, 4_200, 1)], config)


# ---- nesting ----------------------------------------------------------------------------------

STEPS = 40
MODELS = (
    replace(FREE, fill_model="cross"),
    queue(0.0),
    queue(0.37),
    queue(0.5),
    queue(1.0),
    replace(FREE, fill_model="touch"),
)


def filled_by_message(universe, config, start, action):
    """`[rows]` size of one order filled after each message, sent at step `start`."""
    fast = simulator(universe, config)
    filled = []
    for step in range(len(universe.tape.step_row) - 1):
        fast.step(np.array([action if step == start else A.HOLD]))
        filled.append(abs(column(fast, Account.POSITION)))
    return np.array(filled)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    action=st.sampled_from([a for a in A if a != A.HOLD]),
    start=st.integers(0, STEPS),
    size=st.sampled_from((100, 37, 900)),
    latency_ms=st.sampled_from((0, 250, 1_000)),
    grid=st.sampled_from((CENT_GRID, TAPERED_GRID)),
    fees=st.booleans(),
)
def test_what_cross_fills_queue_fills_and_what_queue_fills_touch_fills(
    seed, action, start, size, latency_ms, grid, fees
):
    messages = random_messages(np.random.default_rng(seed), STEPS, grid=grid)
    universe = universe_from_messages([messages], step_on_every_row=True, grid=grid)
    filled = [
        filled_by_message(
            universe,
            replace(model, latency_ms=latency_ms, order_size_centi=size, fees=fees),
            start,
            action,
        )
        for model in MODELS
    ]
    for worse, better in itertools.pairwise(filled):
        assert (worse <= better).all()


def test_each_model_fills_orders_the_one_before_does_not():
    totals = np.zeros(len(MODELS), dtype=np.int64)
    for seed in range(80):
        messages = random_messages(np.random.default_rng(seed), STEPS)
        universe = universe_from_messages([messages], step_on_every_row=True)
        for index, model in enumerate(MODELS):
            totals[index] += filled_by_message(
                universe, replace(model, order_size_centi=700), seed % 20, A.BUY_PASSIVE
            )[-1]
    assert (np.diff(totals) > 0).all()


@pytest.mark.parametrize("model", MODELS[1:], ids=["0", "0.37", "0.5", "1", "touch"])
def test_describing_the_market_from_no_changes_no_fill(model):
    for seed in range(10):
        messages = random_messages(np.random.default_rng(seed), STEPS)
        universe = universe_from_messages([messages], step_on_every_row=True)
        yes, no = simulator(universe, model), simulator(mirror(universe), model)
        rng = np.random.default_rng(seed)
        for _ in range(len(universe.tape.step_row) - 1):
            action = rng.integers(0, 7, size=1)
            yes.step(action)
            no.step(MIRRORED[action])
            assert column(yes, Account.POSITION) == -column(no, Account.POSITION)
            assert column(yes, Account.MAKER_FILLS) == column(no, Account.MAKER_FILLS)
