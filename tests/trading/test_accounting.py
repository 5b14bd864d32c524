"""No sequence of actions on any book can mint money (identities of full collateral)."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.portfolio import Account
from tests.oracle.simulator import SlowEpisode
from tests.tapes import (
    CENT_GRID,
    FEES_PER_FILL,
    NO_FEES,
    TAPERED_GRID,
    random_universe,
    universe_from_books,
)
from tests.trading.play import MIRRORED, available, column, mirror, play, simulator, summary_of

DOLLAR = 1_000_000
START = 100 * DOLLAR
NO_FEE = TradingConfig(latency_ms=0, fees=False)
seeds = st.integers(0, 2**32 - 1)
configs = st.builds(
    TradingConfig,
    cash_start_micro=st.sampled_from((START, 2 * DOLLAR, 300_000)),
    order_size_centi=st.sampled_from((100, 37, 1_000)),
    latency_ms=st.sampled_from((0, 250)),
    fees=st.booleans(),
    fill_model=st.sampled_from(("cross", "queue", "touch")),
    daily_loss_limit_micro=st.sampled_from((0, 10_000, 300_000)),
    queue_alpha=st.sampled_from((0.0, 0.5, 1.0)),
)


@settings(max_examples=40)
@given(seed=seeds, config=configs, per_fill=st.booleans())
def test_identities_hold_at_every_step(seed, config, per_fill):
    rng = np.random.default_rng(seed)
    options = {"fee_schedule": FEES_PER_FILL} if per_fill else {}
    universe = random_universe(rng, episodes=4, steps=40, **options)
    fast = simulator(universe, config)
    for _ in range(39):
        fast.step(rng.integers(0, 7, size=4))
        for lane in range(4):
            x, cash = column(fast, Account.POSITION, lane), column(fast, Account.CASH, lane)
            collateral = 10_000 * max(-x, 0)
            value = position_value(fast, lane)  # V, by the independent walk below
            assert 0 <= value <= 10_000 * abs(x)
            assert fast.equity_micro[lane] == cash - collateral + value  # E = A + V
            worth = value if x >= 0 else value - 10_000 * abs(x)  # x v
            assert fast.equity_micro[lane] == cash + worth  # E = L + x v
            equity = int(fast.equity_micro[lane])
            assert cash - collateral >= 0
            assert available(fast, lane) >= 0
            assert abs(x) <= config.position_limit_centi
            assert equity >= 0


def position_value(fast, lane):
    """What the position brings: settlement, or the bids of its own outcome less the taker fee."""
    account = fast.state.account[lane]
    episode, x = account[Account.EPISODE], int(account[Account.POSITION])
    if fast.terminated[lane]:
        settlement = int(fast.tape.settlement_bp[episode])
        return x * settlement if x >= 0 else -x * (10_000 - settlement)
    row = fast.tape.step_row[account[Account.STEP]]
    empty = fast.tape.bid_bp[row] == 0 and fast.tape.ask_bp[row] == 10_000
    if empty and not fast.truncated[lane]:  # at the end the last book that was not empty counts
        return 0
    side, wanted, proceeds, exact = (0 if x > 0 else 1), abs(x), 0, Fraction(0)
    rate = Fraction(int(fast.tape.fee_schedule[episode, 0]), 10_000)
    step_bp = int(fast.tape.grid_step_bp[0])
    for index in reversed(range(fast.state.ladder.shape[2])):
        shown = fast.state.ladder[lane, side, index] - fast.state.consumed[lane, side, index]
        size = min(wanted, int(shown))
        price = Fraction(index * step_bp, 10_000)
        proceeds += size * index * step_bp
        exact += rate * Fraction(size, 100) * price * (1 - price)
        wanted -= size
    return max(0, proceeds - math.ceil(exact * 100) * 10_000)


@settings(max_examples=30)
@given(seed=seeds, config=configs)
def test_profit_is_what_the_fills_made_at_settlement_less_fees(seed, config):
    rng = np.random.default_rng(seed)
    universe = random_universe(
        rng, episodes=1, steps=40, settlement_bp=int(rng.choice((0, 10_000)))
    )
    actions = rng.integers(0, 7, size=39)
    fast = simulator(universe, config)
    twin = SlowEpisode(universe, 0, config)
    for action in actions:
        fast.step(np.array([action]))
        twin.step(int(action))
    settlement = int(universe.tape.settlement_bp[0])
    made = sum(
        (size if side == "buy" else -size) * (settlement - price)
        for _, side, price, size in twin.fills
    )
    summary = fast.summary(0)
    assert summary.terminated
    assert summary.pnl_micro == made - summary.fees_micro == summary.pnl_mid_micro


@settings(max_examples=20)
@given(seed=seeds, mark=st.sampled_from(("liquidation", "mid")))
def test_rewards_add_up_to_the_profit(seed, mark):
    rng = np.random.default_rng(seed)
    universe = random_universe(rng, episodes=4, steps=30)
    fast = simulator(universe, TradingConfig(mark=mark))
    total = np.zeros(4)
    for _ in range(29):
        fast.step(rng.integers(0, 7, size=4))
        total += fast.reward
    summaries = [fast.summary(lane) for lane in range(4)]
    profit = [s.pnl_mid_micro if mark == "mid" else s.pnl_micro for s in summaries]
    np.testing.assert_allclose(total, np.array(profit) / DOLLAR, atol=1e-9)


@settings(max_examples=25)
@given(seed=seeds, config=configs, grid=st.sampled_from((CENT_GRID, TAPERED_GRID)))
def test_describing_the_market_from_no_changes_nothing(seed, config, grid):
    rng = np.random.default_rng(seed)
    universe = random_universe(rng, episodes=4, steps=40, grid=grid)
    yes, no = simulator(universe, config), simulator(mirror(universe), config)
    for _ in range(39):
        np.testing.assert_array_equal(yes.mask, no.mask[:, MIRRORED])
        actions = rng.integers(0, 7, size=4)
        yes.step(actions)
        no.step(MIRRORED[actions])
        np.testing.assert_array_equal(yes.equity_micro, no.equity_micro)
        for lane in range(4):
            assert available(yes, lane) == available(no, lane)
            assert column(yes, Account.POSITION, lane) == -column(no, Account.POSITION, lane)
            assert column(yes, Account.FEES, lane) == column(no, Account.FEES, lane)


@settings(max_examples=25)
@given(
    seed=seeds,
    bid_bp=st.integers(1, 97),
    spread=st.integers(1, 40),
    fees=st.booleans(),
)
def test_nothing_is_earned_where_the_touch_never_moves(seed, bid_bp, spread, fees):
    rng = np.random.default_rng(seed)
    bid, ask = 100 * bid_bp, 100 * min(bid_bp + spread, 99)
    if ask <= bid:
        ask = bid + 100
    books = [
        (1_000 * t, (bid, int(rng.integers(1, 900))), (ask, int(rng.integers(1, 900))))
        for t in range(40)
    ]
    fast = simulator(universe_from_books([books]), TradingConfig(latency_ms=0, fees=fees))
    for _ in range(39):
        fast.step(rng.integers(0, 7, size=1))
        assert fast.equity_micro[0] <= START
    assert fast.summary(0).pnl_micro <= 0


@settings(max_examples=15)
@given(seed=seeds, config=configs)
def test_holding_earns_exactly_nothing(seed, config):
    universe = random_universe(np.random.default_rng(seed), episodes=4, steps=30)
    fast = simulator(universe, config)
    for _ in range(29):
        fast.step(np.zeros(4, dtype=np.int64))
        assert (fast.reward == 0.0).all()
    for lane in range(4):
        summary = fast.summary(lane)
        assert summary.pnl_micro == summary.pnl_mid_micro == summary.fees_micro == 0
        assert summary.orders == summary.flat_trips == summary.max_capital_micro == 0


def test_selling_from_flat_costs_one_minus_p():
    universe = universe_from_books([[(t, (4_000, 500), (4_400, 500)) for t in range(4)]])
    fast = play(universe, [Action.SELL_BEST], NO_FEE)
    assert column(fast, Account.POSITION) == -100
    assert available(fast) == START - 600_000  # 1 - 0.40
    # equity moved by p - v only: v is the ask, where the NO would be sold
    assert fast.equity_micro[0] == START + 400_000 - 440_000
    assert fast.equity_mid_micro[0] == START + 400_000 - 420_000


def test_buying_yes_then_no_nets_to_a_dollar():
    universe = universe_from_books([[(t, (4_000, 500), (4_400, 500)) for t in range(4)]])
    fast = play(universe, [Action.BUY_BEST, Action.SELL_BEST], NO_FEE)
    assert column(fast, Account.POSITION) == 0
    # YES at 0.44 and NO at 0.60 cost 1.04 and pay 1.00
    assert fast.equity_micro[0] == available(fast) == START - 1_040_000 + 1_000_000


@pytest.mark.parametrize(("settlement_bp", "pnl"), [(10_000, -600_000), (0, 400_000)])
def test_settlement_turns_equity_into_cash(settlement_bp, pnl):
    universe = universe_from_books(
        [[(t, (4_000, 500), (4_400, 500)) for t in range(4)]], settlement_bp=settlement_bp
    )
    summary = summary_of(universe, [Action.SELL_BEST], NO_FEE)
    assert summary.terminated
    assert summary.pnl_micro == summary.pnl_mid_micro == pnl


def test_a_thousand_sells_from_flat_are_stopped_by_cash_not_credited():
    universe = universe_from_books([[(t, (4_000, 10**6), (4_400, 10**6)) for t in range(60)]])
    config = TradingConfig(
        latency_ms=0, cash_start_micro=10 * DOLLAR, position_limit_centi=10**6, fees=False
    )
    summary = summary_of(universe, [Action.SELL_BEST] * 59, config)
    assert summary.final_position_centi == -1_600  # 16 x 0.60 of 10 dollars
    assert summary.invalid_actions == 59 - 16
    assert summary.pnl_micro == -16 * 40_000


def test_fees_off_means_no_rounding_either():
    universe = random_universe(
        np.random.default_rng(3), fee_schedule=FEES_PER_FILL, settlement_bp=-1
    )
    fast = simulator(universe, TradingConfig(fees=False))
    free = simulator(random_universe(np.random.default_rng(3), fee_schedule=NO_FEES))
    rng = np.random.default_rng(4)
    for _ in range(59):
        actions = rng.integers(0, 7, size=4)
        fast.step(actions)
        free.step(actions)
    assert fast.state.account[:, Account.FEES].sum() == 0
    assert fast.state.account[:, Account.TRADED].sum() > 0
