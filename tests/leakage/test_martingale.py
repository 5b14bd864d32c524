"""On generated markets, whose fair value is a martingale, nobody without skill gains.

Under `cross`, with fees, at the liquidation mark: any gain is a leak or a mint. Ten sessions with
markets of their own, the event as the unit, one-sided, 5 % for the whole family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kalshi_pipeline.config import SuitabilityConfig, TradingConfig
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.recordings.generator import QUICK_PROFILES, write_session
from kalshi_pipeline.suitability import in_memory, suitable_markets
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import SessionData, build_universe
from tests.sessions import replayed

SEEDS = range(10)
LEVEL = 0.05
DOLLAR = 1_000_000
Policy = Callable[[Simulator, np.random.Generator], np.ndarray]


def always(action: Action) -> Policy:
    return lambda simulator, rng: np.full(simulator.lanes, int(action))


def at_random(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 7, simulator.lanes)


def rarely(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(simulator.lanes) < 0.05, at_random(simulator, rng), 0)


def quoting(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
    """Both sides of the touch, one after the other."""
    side = simulator.state.action_counts.sum(axis=1) % 2
    return np.where(side == 0, int(Action.BUY_PASSIVE), int(Action.SELL_PASSIVE))


def following(feature: str, up: Action, down: Action) -> Policy:
    def act(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
        signal = simulator.observation[:, COLUMN[feature]]
        return np.select([signal > 0, signal < 0], [int(up), int(down)], int(Action.HOLD))

    return act


WITHOUT_SKILL: dict[str, Policy] = {
    **{f"always {action.name}": always(action) for action in Action if action != Action.HOLD},
    "random": at_random,
    "rarely": rarely,
    "quoting": quoting,
    "momentum": following("mid_change_60s", Action.BUY_BEST, Action.SELL_BEST),
    "reversion": following("mid_change_60s", Action.SELL_BEST, Action.BUY_BEST),
    "with the imbalance": following("imbalance_touch", Action.BUY_PASSIVE, Action.SELL_PASSIVE),
    "against the imbalance": following("imbalance_touch", Action.SELL_IMPROVE, Action.BUY_IMPROVE),
}


@pytest.fixture(scope="module")
def universes(tmp_path_factory: pytest.TempPathFactory) -> list[Universe]:
    return [session(seed, tmp_path_factory.mktemp(f"seed_{seed}")) for seed in SEEDS]


def session(seed: int, folder) -> Universe:
    """A session of forty events that all settle, with markets and flow of its own."""
    quick = QUICK_PROFILES[903]
    profile = replace(quick, seed=seed, universe=replace(quick.universe, seed=1_000 + seed))
    made = replayed(write_session(profile, folder))
    suitable = suitable_markets(
        in_memory(made.books.rows), made.books.segments, made.tensors.step_row,
        made.books.markets, None, SuitabilityConfig(),
    )  # fmt: skip
    data = SessionData(
        903, made.books.rows, made.books.ladders, made.tensors, suitable, made.books.markets
    )
    universe, _ = build_universe([data], 2)
    return universe


def profits(universe: Universe, policy: Policy, config: TradingConfig) -> np.ndarray:
    """Dollars by event."""
    return by_event(universe, played(universe, policy, config).equity_micro, config)


def played(universe: Universe, policy: Policy, config: TradingConfig) -> Simulator:
    simulator = Simulator(universe, len(universe), config)
    simulator.reset(range(len(universe)), range(len(universe)))
    rng = np.random.default_rng(12)
    while not (simulator.terminated | simulator.truncated).all():
        simulator.step(policy(simulator, rng))
    return simulator


def by_event(universe: Universe, equity_micro: np.ndarray, config: TradingConfig) -> np.ndarray:
    _, event = np.unique([episode.event for episode in universe.episodes], return_inverse=True)
    return np.bincount(event, (equity_micro - config.cash_start_micro) / DOLLAR)


def assert_nobody_gains(found: list[np.ndarray]) -> None:
    """Holm's test of each sample's mean being above 0, at 5 % for all of them together."""
    p_values = sorted(
        float(stats.ttest_1samp(sample, 0, alternative="greater").pvalue)
        for sample in found
        if sample.std() > 0  # who never traded gained nothing
    )
    assert p_values, "nobody traded at all"
    assert p_values[0] > LEVEL / len(p_values), f"a gain at p = {p_values[0]}"


def test_nobody_without_skill_gains_on_a_martingale(universes):
    found = [
        profits(universe, policy, TradingConfig())
        for universe in universes
        for policy in WITHOUT_SKILL.values()
    ]
    assert len(found) == len(SEEDS) * len(WITHOUT_SKILL)
    assert min(len(sample) for sample in found) >= 30
    assert_nobody_gains(found)
    # and the test has the power to see what they lose: spread and fees
    pooled = np.concatenate([profits(one, at_random, TradingConfig()) for one in universes])
    assert stats.ttest_1samp(pooled, 0, alternative="less").pvalue < 1e-6


def test_who_knows_the_result_is_found(universes):
    """The test of the test: a leak of what will be."""

    def knowing(simulator: Simulator, rng: np.random.Generator) -> np.ndarray:
        yes = simulator.tape.settlement_bp == 10_000
        return np.where(yes, int(Action.BUY_BEST), int(Action.SELL_BEST))

    found = [profits(universe, knowing, TradingConfig()) for universe in universes]
    with pytest.raises(AssertionError, match="a gain"):
        assert_nobody_gains(found)


def test_who_is_paid_for_selling_short_is_found(universes):
    """The test of the test: the predecessor's mint, a dollar for each contract sold short."""
    found = []
    for universe in universes:
        simulator = played(universe, always(Action.SELL_BEST), TradingConfig())
        short = [
            max(-simulator.summary(lane).final_position_centi, 0) * DOLLAR // 100
            for lane in range(simulator.lanes)
        ]
        minted = simulator.equity_micro + np.array(short)
        found.append(by_event(universe, minted, TradingConfig()))
    with pytest.raises(AssertionError, match="a gain"):
        assert_nobody_gains(found)


def test_fills_that_nobody_could_have_are_found(universes):
    """The test of the test: under `touch` whoever quotes is paid the spread."""
    config = TradingConfig(fill_model="touch")
    found = [profits(universe, quoting, config) for universe in universes]
    with pytest.raises(AssertionError, match="a gain"):
        assert_nobody_gains(found)
