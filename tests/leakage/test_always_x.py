"""Policies without skill lose about spread and fees on driftless markets, never gain."""

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from tests.tapes import universe_from_books
from tests.trading.play import simulator

EPISODES, STEPS = 400, 30
SPREAD_BP = 200
DOLLAR = 1_000_000


@pytest.fixture(scope="module")
def driftless():
    """Martingale mids, a spread of two cents, deep levels, a step a second."""
    rng = np.random.default_rng(2)
    episodes = []
    for _ in range(EPISODES):
        mid = 100 * (int(rng.integers(40, 61)) + np.cumsum(rng.choice((-2, -1, 1, 2), size=STEPS)))
        episodes.append(
            [(1_000 * t, (int(m) - 100, 10**6), (int(m) + 100, 10**6)) for t, m in enumerate(mid)]
        )
    return universe_from_books(episodes)


def play(universe, choose, **rules):
    fast = simulator(universe, TradingConfig(latency_ms=0, **rules))
    for _ in range(STEPS - 1):
        fast.step(choose())
    summaries = [fast.summary(lane) for lane in range(EPISODES)]
    profit = np.array([summary.pnl_micro for summary in summaries])
    contracts = sum(summary.contracts_centi for summary in summaries) / 100
    return profit, contracts, summaries


@pytest.mark.parametrize("action", [a for a in Action if a != Action.HOLD])
@pytest.mark.parametrize("fees", [True, False])
def test_doing_one_thing_forever_loses_within_spread_and_fees(driftless, action, fees):
    constant = np.full(EPISODES, int(action))
    profit, contracts, _ = play(driftless, lambda: constant, fees=fees)
    assert_loses_within_bounds(profit, contracts, fees=fees)


def assert_loses_within_bounds(profit, contracts, *, fees):
    # a contract crosses the spread once, and pays at most 2 cents a side in fees
    bound = contracts * (SPREAD_BP * 100 + (40_000 if fees else 0))
    error = profit.std(ddof=1) * np.sqrt(EPISODES)
    assert contracts > EPISODES
    assert -bound - 4 * error <= profit.sum() <= -4 * error


@pytest.mark.parametrize("fault_micro", [-60_000, 60_000])
def test_six_cents_a_contract_minted_or_lost_are_found(driftless, fault_micro):
    constant = np.full(EPISODES, int(Action.BUY_BEST))
    profit, contracts, summaries = play(driftless, lambda: constant)
    traded = np.array([summary.contracts_centi for summary in summaries]) / 100
    with pytest.raises(AssertionError):
        assert_loses_within_bounds(profit + fault_micro * traded, contracts, fees=True)


def test_who_knows_the_next_book_is_found(driftless):
    tape = driftless.tape
    rises = np.append(
        np.diff(tape.bid_bp.reshape(EPISODES, STEPS), axis=1) > 0, [[0]] * EPISODES, 1
    )
    step = iter(range(STEPS))

    def knowing():
        now = next(step)
        return np.where(rises[:, now + 1], int(Action.BUY_BEST), int(Action.SELL_BEST))

    profit, contracts, _ = play(driftless, knowing, fees=False)
    with pytest.raises(AssertionError):
        assert_loses_within_bounds(profit, contracts, fees=False)


def test_random_actions_lose_within_spread_and_fees(driftless):
    rng = np.random.default_rng(3)
    profit, contracts, _ = play(driftless, lambda: rng.integers(0, 7, size=EPISODES))
    bound = contracts * (SPREAD_BP * 100 + 40_000)
    assert -bound <= profit.sum() <= -4 * profit.std(ddof=1) * np.sqrt(EPISODES)


@pytest.mark.parametrize("action", [Action.BUY_BEST, Action.SELL_BEST])
def test_a_taker_loses_exactly_the_spread(driftless, action):
    """Without fees, what is lost in the mean is the spread once a contract: half of it each way."""
    constant = np.full(EPISODES, int(action))
    profit, _, summaries = play(driftless, lambda: constant, fees=False)
    spread_paid = SPREAD_BP * np.array([summary.contracts_centi for summary in summaries])
    drift = profit + spread_paid
    standard_error = drift.std(ddof=1) / np.sqrt(EPISODES)
    assert abs(drift.mean()) < 4 * standard_error < spread_paid.mean()
    at_mid = np.array([summary.pnl_mid_micro for summary in summaries])
    np.testing.assert_array_equal(2 * (at_mid - profit), spread_paid)


def test_nobody_earns_by_holding(driftless):
    profit, contracts, _ = play(driftless, lambda: np.zeros(EPISODES, dtype=np.int64))
    assert contracts == 0
    assert (profit == 0).all()
