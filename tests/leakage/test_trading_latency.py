"""An order decided on the book at t meets only books with time >= t + latency."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.portfolio import Account
from tests.tapes import book, random_universe, universe_from_messages
from tests.trading.play import column, simulator, summary_of

BID = (4_000, 900)


def asks(*by_time):
    return universe_from_messages([[book(time, BID, (ask, 900)) for time, ask in by_time]])


@pytest.mark.parametrize(
    ("latency_ms", "paid_bp"),
    [(0, 4_100), (100, 4_100), (101, 4_200), (250, 4_200), (251, 4_300), (600, None)],
)
def test_a_taker_meets_the_first_book_after_its_latency(latency_ms, paid_bp):
    universe = asks((0, 5_000), (100, 4_100), (250, 4_200), (400, 4_300), (500, 4_400))
    config = TradingConfig(latency_ms=latency_ms, fees=False)
    fast = simulator(universe, config)
    for action in (Action.BUY_BEST, 0, 0, 0):
        fast.step(np.array([int(action)]))
    if paid_bp is None:
        assert column(fast, Account.TRADED) == 0
    else:
        assert column(fast, Account.BASIS) == 100 * paid_bp


def test_a_price_that_was_gone_before_the_latency_is_never_got():
    universe = asks((0, 4_400), (249, 4_100), (250, 4_500), (900, 4_400))
    summary = summary_of(universe, [Action.BUY_BEST], TradingConfig(latency_ms=250))
    assert (summary.taker_fills, summary.cancels) == (0, 1)


def test_without_latency_an_order_meets_the_very_next_message():
    universe = asks((0, 4_400), (5, 4_300), (5, 4_400), (9, 4_400))
    summary = summary_of(universe, [Action.BUY_BEST], TradingConfig(latency_ms=0, fees=False))
    assert summary.pnl_micro == 100 * (4_000 - 4_300)


def assert_no_early_fill(seed, latency_ms, promised_ms):
    """Play takers with one latency; no fill may come earlier than another one allows."""
    rng = np.random.default_rng(seed)
    universe = random_universe(rng, episodes=4, steps=40)
    fast = simulator(universe, TradingConfig(latency_ms=latency_ms))
    decided = np.full(4, -1)
    for _ in range(39):
        fills = fast.state.account[:, Account.TAKER_FILLS].copy()
        actions = rng.choice((0, 1, 4), size=4)
        sent = fast.mask[np.arange(4), actions] & (actions != 0)
        decided = np.where(sent, fast.time_ms, decided)
        fast.step(actions)
        filled = fast.state.account[:, Account.TAKER_FILLS] > fills
        assert (fast.time_ms[filled] >= decided[filled] + promised_ms).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), latency_ms=st.sampled_from((1, 250, 5_000)))
def test_no_fill_comes_earlier_than_the_latency(seed, latency_ms):
    assert_no_early_fill(seed, latency_ms, latency_ms)


@pytest.mark.parametrize("missing_ms", [100, 250])
def test_a_latency_shorter_than_promised_is_found(missing_ms):
    def found(seed):
        try:
            assert_no_early_fill(seed, 250 - missing_ms, 250)
        except AssertionError:
            return True
        return False

    # it shows only where a message falls into what is missing
    assert any(found(seed) for seed in range(30))
