"""The market time of a step is that of the tape, and discounts follow it."""

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.discount import discounts
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.tapes import book, universe_from_messages

LENGTHS = (2, 3, 5, 9)


def uneven():
    """Episodes of uneven lengths and steps."""
    rng = np.random.default_rng(5)
    episodes = []
    for length in LENGTHS:
        apart = rng.permutation(np.resize((4_000_000, 1, 250, 9_000), length))
        times = 1_765_000_000_000 + np.cumsum(apart)
        episodes.append([book(int(time), (4_000, 100), (4_200, 100)) for time in times])
    return universe_from_messages(episodes)


def test_elapsed_time_is_that_between_two_steps_of_the_tape_also_across_an_auto_reset():
    universe = uneven()
    tape = universe.tape
    times = tape.time_ms[tape.step_row]
    vec = KalshiVecEnv(universe, 3, TradingConfig(), seed=2)
    vec.reset()
    ended = 0
    for _ in range(60):
        before = vec.simulator.state.account[:, Account.STEP].copy()
        _, _, dones, _ = vec.step(np.array([0, 1, 3]))
        np.testing.assert_array_equal(vec.elapsed_ms, times[before + 1] - times[before])
        ended += dones.sum()
    assert ended > 20


def test_a_finished_lane_takes_no_time_and_a_reset_leaves_what_was():
    universe = uneven()
    simulator = Simulator(universe, 2, TradingConfig())
    assert simulator.elapsed_ms.tolist() == [0, 0]
    simulator.reset([0, 1], [0, 3])
    simulator.step([0, 0])
    last = simulator.elapsed_ms.copy()
    assert (last > 0).all()
    simulator.reset([1], [2])
    np.testing.assert_array_equal(simulator.elapsed_ms, last)
    simulator.step([0, 0])
    assert simulator.elapsed_ms[0] == 0
    assert simulator.elapsed_ms[1] > 0


def test_the_discounts_of_an_episode_multiply_to_that_of_its_duration():
    universe = uneven()
    simulator = Simulator(universe, 1, TradingConfig())
    simulator.reset([0], [3])
    worth = 1.0
    while not (simulator.terminated | simulator.truncated)[0]:
        simulator.step([0])
        worth *= discounts(simulator.elapsed_ms, 0.9, 3_600)[0]
    seconds = (universe.episodes[3].end_ms - universe.episodes[3].start_ms) / 1_000
    assert worth == pytest.approx(0.9 ** (seconds / 3_600), rel=1e-12)
    assert worth < 0.99


def test_a_unit_of_time_costs_gamma_and_without_a_unit_a_step_does():
    elapsed = np.array([[0, 60_000], [30_000, 120_000]])
    expected = [[1.0, 0.9], [0.9**0.5, 0.9**2]]
    np.testing.assert_allclose(discounts(elapsed, 0.9, 60), expected, rtol=1e-15)
    assert discounts(elapsed, 0.9).tolist() == [[0.9, 0.9], [0.9, 0.9]]


@pytest.mark.parametrize(("gamma", "unit_s"), [(1.1, 1), (-0.1, 1), (0.9, -1), (np.nan, 1)])
def test_what_is_no_discount_is_refused(gamma, unit_s):
    with pytest.raises(ValueError, match="gamma must be"):
        discounts(np.array([1]), gamma, unit_s)
