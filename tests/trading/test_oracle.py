"""The kernel against its slow twin: every integer exact, every feature to 1e-6."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.portfolio import Account
from tests.oracle.simulator import SlowEpisode
from tests.tapes import (
    CENT_GRID,
    DEFAULT_FEES,
    FEES_PER_FILL,
    TAPERED_GRID,
    random_universe,
)
from tests.trading.play import simulator

STEPS, EPISODES = 30, 2
SCHEDULES = (DEFAULT_FEES, FEES_PER_FILL, (700, 175, 100, 0))
COUNTS = {
    "taker_fills": Account.TAKER_FILLS,
    "maker_fills": Account.MAKER_FILLS,
    "orders": Account.ORDERS,
    "cancels": Account.CANCELS,
    "invalid": Account.INVALID,
    "trips": Account.TRIPS,
    "wins": Account.WINS,
}

configs = st.builds(
    TradingConfig,
    cash_start_micro=st.sampled_from((100_000_000, 3_000_000, 1_000_000, 200_000)),
    order_size_centi=st.sampled_from((100, 37, 500)),
    position_limit_centi=st.sampled_from((1_000, 500)),
    latency_ms=st.sampled_from((0, 250, 1_000)),
    fees=st.sampled_from((True, True, False)),
    mark=st.sampled_from(("liquidation", "mid")),
    daily_loss_limit_micro=st.sampled_from((0, 0, 1, 20_000, 500_000)),
    queue_alpha=st.sampled_from((0.0, 0.33, 0.5, 1.0)),
)
FILL_MODELS = ("cross", "queue", "touch")


@pytest.mark.parametrize("fill_model", FILL_MODELS)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    config=configs,
    grid=st.sampled_from((CENT_GRID, TAPERED_GRID)),
    fees=st.sampled_from(SCHEDULES),
    only_valid=st.booleans(),
)
def test_kernel_equals_the_slow_twin(fill_model, seed, config, grid, fees, only_valid):
    play_beside_the_twin(
        seed, replace(config, fill_model=fill_model), grid, fees, only_valid=only_valid
    )


@pytest.mark.slow
@pytest.mark.parametrize("fill_model", FILL_MODELS)
def test_kernel_equals_the_slow_twin_over_ten_thousand_episodes(fill_model):
    rng = np.random.default_rng(FILL_MODELS.index(fill_model))
    for seed in range(10_000 // len(FILL_MODELS) // EPISODES + 1):
        config = TradingConfig(
            cash_start_micro=int(rng.choice((100_000_000, 3_000_000, 1_000_000, 200_000))),
            order_size_centi=int(rng.choice((100, 37, 500))),
            position_limit_centi=int(rng.choice((1_000, 500))),
            latency_ms=int(rng.choice((0, 250, 1_000))),
            fees=bool(rng.random() < 0.7),
            mark="mid" if rng.random() < 0.5 else "liquidation",
            fill_model=fill_model,
            queue_alpha=float(rng.choice((0.0, 0.33, 0.5, 1.0))),
            daily_loss_limit_micro=int(rng.choice((0, 0, 1, 20_000, 500_000))),
        )
        grid = TAPERED_GRID if rng.random() < 0.3 else CENT_GRID
        schedule = SCHEDULES[int(rng.integers(len(SCHEDULES)))]
        play_beside_the_twin(seed, config, grid, schedule, only_valid=bool(rng.integers(2)))


def play_beside_the_twin(seed, config, grid, fees, *, only_valid):
    rng = np.random.default_rng(seed)
    universe = random_universe(rng, episodes=EPISODES, steps=STEPS, grid=grid, fee_schedule=fees)
    fast = simulator(universe, config)
    slow = [SlowEpisode(universe, episode, config) for episode in range(EPISODES)]
    for _ in range(STEPS - 1):
        for lane, twin in enumerate(slow):
            assert fast.mask[lane].tolist() == twin.mask()
            np.testing.assert_allclose(fast.observation[lane, 35:], twin.features(), atol=1e-6)
        actions = rng.integers(0, 7, size=EPISODES)
        if only_valid:
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in fast.mask])
        fast.step(actions)
        for lane, twin in enumerate(slow):
            reward_micro = twin.step(int(actions[lane]))
            assert fast.reward[lane] == reward_micro / 1e6
            assert_same_account(fast, lane, twin)
    for lane, twin in enumerate(slow):
        assert (twin.terminated, twin.truncated) == (fast.terminated[lane], fast.truncated[lane])
        assert twin.terminated or twin.truncated
        assert fast.mask[lane].tolist() == twin.last_mask
        np.testing.assert_allclose(fast.observation[lane, 35:], twin.last_features, atol=1e-6)


def assert_same_account(fast, lane, twin):
    account = fast.state.account[lane]
    assert twin.equity == fast.equity_micro[lane]
    assert twin.equity_mid == fast.equity_mid_micro[lane]
    assert twin.position == account[Account.POSITION]
    assert twin.linear_cash == account[Account.CASH]
    assert twin.fees == account[Account.FEES]
    assert twin.realised == account[Account.REALISED]
    assert twin.traded == account[Account.TRADED]
    assert twin.drawdown == account[Account.DRAWDOWN]
    assert twin.capital == account[Account.CAPITAL]
    assert twin.counts == {name: account[column] for name, column in COUNTS.items()}


@pytest.mark.parametrize("column", ["cancels", "maker_fills", "taker_fills", "invalid"])
def test_random_universes_exercise_what_the_twin_checks(column):
    universe = random_universe(np.random.default_rng(1), episodes=8, steps=60)
    fast = simulator(universe, TradingConfig(cash_start_micro=1_000_000, latency_ms=250))
    rng = np.random.default_rng(2)
    for _ in range(59):
        fast.step(rng.integers(0, 7, size=8))
    assert fast.state.account[:, COUNTS[column]].sum() > 8
