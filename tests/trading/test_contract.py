"""Calls that no contract allows are refused with a typed error, and leave no trace.

Beside them what Stable-Baselines3 and its wrappers ask of a vector environment. Source:
Stable-Baselines3, `VecEnv`; Gymnasium, `Env`.
"""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import InvalidAction, NotInPlay
from kalshi_pipeline.trading.environment import ENVIRONMENT_ID, MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.tapes import random_universe

CONFIG = TradingConfig()
LANES, STEPS = 3, 12
UNIVERSE = random_universe(np.random.default_rng(21), episodes=5, steps=STEPS)

NO_ACTIONS = [
    [0, 0, 7],
    [0, 0, -1],
    [0, 0],
    [0, 0, 0, 0],
    [],
    0,
    None,
    "buy",
    [0.0, 1.0, 2.0],
    [np.nan, 0, 0],
    [np.inf, 0, 0],
    [True, False, True],
    [[0], [0], [0]],
    [[0], [0, 1], [0]],
    ["0", "1", "2"],
    np.zeros((3, 3), np.int64),
    np.array([2**63, 0, 0], np.uint64),
    np.array([2**63 - 1, 0, 0]),
    np.array([0, 0, 2**40]),
    np.array([0, 1, 2], dtype=object),
    np.zeros(3, np.complex128),
    np.zeros(3, "datetime64[ms]"),
]


def state_of(simulator):
    return [np.array(part) for part in simulator.state]


def assert_unharmed(simulator, before):
    for now, then in zip(simulator.state, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.fixture
def vec():
    env = KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=3)
    env.reset()
    env.step(np.array([1, 3, 4]))
    return env


@pytest.mark.parametrize("actions", NO_ACTIONS, ids=repr)
def test_what_is_no_action_for_each_lane_is_refused(vec, actions):
    before = state_of(vec.simulator)
    with pytest.raises(InvalidAction):
        vec.step(actions)
    assert_unharmed(vec.simulator, before)
    vec.step(np.array([0, 1, 2]))  # and play goes on


@settings(max_examples=150)
@given(
    actions=st.one_of(
        st.lists(st.integers(-(2**70), 2**70), max_size=6),
        st.lists(st.floats(), min_size=LANES, max_size=LANES),
        st.lists(st.one_of(st.integers(-2, 9), st.none(), st.text()), min_size=LANES, max_size=4),
        st.binary(max_size=6),
    )
)
def test_any_actions_either_step_or_change_nothing(actions):
    simulator = Simulator(UNIVERSE, LANES, CONFIG)
    simulator.reset(range(LANES), range(LANES))
    before = state_of(simulator)
    valid = len(actions) == LANES and all(type(a) is int and 0 <= a < 7 for a in actions)
    if valid and not isinstance(actions, bytes):
        simulator.step(actions)
        assert (simulator.state.action_counts.sum(axis=1) == 1).all()
    else:
        with pytest.raises(InvalidAction):
            simulator.step(actions)
        assert_unharmed(simulator, before)


@pytest.mark.parametrize("action", [7, -1, 1.0, np.nan, None, "1", True, [0, 1], [[1]], 2**70])
def test_one_environment_refuses_what_is_no_action(action):
    env = MarketAgnosticKalshiEnv(UNIVERSE)
    env.reset(options={"episode": 1})
    before = state_of(env.simulator)
    with pytest.raises(InvalidAction):
        env.step(action)
    assert_unharmed(env.simulator, before)


@pytest.mark.parametrize("action", [3, np.int64(3), np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers_of_any_width_are_actions(action):
    env = MarketAgnosticKalshiEnv(UNIVERSE)
    env.reset(options={"episode": 1})
    env.step(action)
    assert env.simulator.state.action_counts[0, 3] == 1


def test_nothing_steps_before_its_first_reset():
    vec, env = KalshiVecEnv(UNIVERSE, LANES, CONFIG), MarketAgnosticKalshiEnv(UNIVERSE)
    with pytest.raises(NotInPlay):
        vec.step(np.zeros(LANES, np.int64))
    with pytest.raises(NotInPlay):
        env.step(0)
    vec.reset()
    env.reset()
    vec.step(np.zeros(LANES, np.int64))
    env.step(0)


def test_one_environment_does_not_step_after_its_end():
    env = MarketAgnosticKalshiEnv(UNIVERSE)
    env.reset(options={"episode": 0})
    done = False
    while not done:
        _, _, terminated, truncated, _ = env.step(0)
        done = terminated or truncated
    before = state_of(env.simulator)
    with pytest.raises(NotInPlay):
        env.step(0)
    assert_unharmed(env.simulator, before)
    env.reset()
    env.reset()  # twice is no harm
    env.step(0)


def test_a_sampler_that_fails_leaves_lanes_that_say_so(vec):
    class Nowhere:
        def draw(self, count):
            return np.full(count, len(UNIVERSE))

    vec.sampler = Nowhere()
    hold = np.zeros(LANES, np.int64)
    for _ in range(STEPS - 3):
        vec.step(hold)
    with pytest.raises(IndexError, match="episode must be 0 to 4"):
        vec.step(hold)
    with pytest.raises(NotInPlay):
        vec.step(hold)


@pytest.mark.parametrize("episode", [-1, 5, 1.0, np.nan, None, "0", True, [0, 1], 2**70])
def test_an_episode_that_does_not_exist_is_refused(vec, episode):
    env = MarketAgnosticKalshiEnv(UNIVERSE)
    env.reset(seed=0, options={"episode": 2})
    before = state_of(env.simulator), state_of(vec.simulator)
    with pytest.raises(IndexError, match="episode must be"):
        env.reset(options={"episode": episode})
    vec.set_options({"episode": episode})
    with pytest.raises(IndexError, match="episode must be"):
        vec.reset()
    assert_unharmed(env.simulator, before[0])
    assert_unharmed(vec.simulator, before[1])


@pytest.mark.parametrize("lanes", [[-1], [LANES], [0.5], [[0]], ["a"], [np.nan], [None]])
def test_a_lane_that_does_not_exist_is_refused(vec, lanes):
    before = state_of(vec.simulator)
    with pytest.raises(IndexError, match="lane must be"):
        vec.simulator.reset(lanes, [0])
    for call in (vec.get_attr, lambda name, indices: vec.env_method(name, indices=indices)):
        if lanes != [-1]:  # the last lane, as in any list
            with pytest.raises((IndexError, TypeError)):
                call("action_masks", lanes)
    assert_unharmed(vec.simulator, before)


def test_resetting_no_lane_changes_nothing(vec):
    before = state_of(vec.simulator)
    vec.simulator.reset([], [])
    assert_unharmed(vec.simulator, before)


def rollout(vec, steps=2 * STEPS):
    rng = np.random.default_rng(1)
    seen = [vec.reset()]
    for _ in range(steps):
        observation, rewards, dones, _ = vec.step(rng.integers(0, 7, vec.num_envs))
        seen += [observation, rewards, dones]
    return seen


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_a_seed_counts_at_the_next_reset_and_once(seed):
    first, second = (KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=s) for s in (50, 60))
    second.reset()
    first.seed(seed)
    assert second.seed(seed) == [seed, seed + 1, seed + 2]
    for left, right in zip(rollout(first), rollout(second), strict=True):
        np.testing.assert_array_equal(left, right)
    first.seed(seed)
    seeded = np.concatenate([first.reset() for _ in range(4)])
    assert (np.concatenate([first.reset() for _ in range(4)]) != seeded).any()
    first.seed(seed)
    assert first.seed(None) == [None] * LANES  # takes it back
    assert (np.concatenate([first.reset() for _ in range(4)]) != seeded).any()


def test_options_choose_the_episode_of_each_lane_once(vec):
    vec.set_options([{"episode": 4}, {}, {"episode": 0}])
    vec.reset()
    episodes = [vec.simulator.summary(lane).episode for lane in range(LANES)]
    assert episodes[0] == 4
    assert episodes[2] == 0
    vec.set_options([{"episode": 4}])
    with pytest.raises(IndexError, match="3 lanes need as many options"):
        vec.reset()
    vec.set_options()
    drawn = set()
    for _ in range(20):
        vec.reset()
        drawn.add(vec.simulator.summary(0).episode)
    assert len(drawn) > 1


def test_marks_are_kept_by_lane(vec):
    vec.set_attr("note", "left", indices=0)
    vec.set_attr("note", "others", indices=[1, 2])
    assert vec.get_attr("note") == ["left", "others", "others"]
    assert vec.get_attr("note", indices=2) == ["others"]
    vec.set_attr("own", 1, indices=[1])
    with pytest.raises(AttributeError):
        vec.get_attr("own")
    assert vec.has_attr("note")
    assert not vec.has_attr("own")
    for shared in ("num_envs", "simulator", "config", "reward"):
        with pytest.raises(AttributeError, match="of their own"):
            vec.set_attr(shared, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda vec: vec,
        lambda vec: VecNormalize(vec),
        lambda vec: VecFrameStack(vec, 3),
        lambda vec: VecCheckNan(vec, raise_exception=True),
    ],
    ids=["bare", "VecNormalize", "VecFrameStack", "VecCheckNan"],
)
def test_masks_come_through_wrappers_as_maskable_ppo_asks_for_them(wrap):
    vec = wrap(KalshiVecEnv(UNIVERSE, LANES, CONFIG))
    vec.reset()
    assert vec.has_attr("action_masks")
    masks = np.stack(vec.env_method("action_masks"))
    assert masks.shape == (LANES, 7)
    assert masks.dtype == np.bool_
    assert masks[:, 0].all()
    np.testing.assert_array_equal(vec.env_method("action_masks", indices=[2])[0], masks[2])


def test_wrappers_find_what_they_need_at_the_end_of_an_episode():
    bare = KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=4)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=4))
    stacked = VecFrameStack(KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=4), 2)
    normal = VecNormalize(KalshiVecEnv(UNIVERSE, LANES, CONFIG, seed=4), gamma=0.9)
    environments = (bare, monitored, stacked, normal)
    for env in environments:
        env.reset()
    rng = np.random.default_rng(2)
    finished = 0
    for _ in range(3 * STEPS):
        actions = rng.integers(0, 7, LANES)
        (_, _, dones, infos), watched, deep, scaled = (env.step(actions) for env in environments)
        for lane in np.flatnonzero(dones):
            finished += 1
            ours, theirs = infos[lane]["episode"], watched[3][lane]["episode"]
            assert theirs["l"] == ours["l"]
            assert theirs["r"] == pytest.approx(ours["r"], abs=1e-5)
            end = infos[lane]["terminal_observation"]
            np.testing.assert_array_equal(deep[3][lane]["terminal_observation"][-len(end) :], end)
            assert np.isfinite(scaled[3][lane]["terminal_observation"]).all()
            assert np.isfinite(scaled[0]).all()
    assert finished >= 3 * LANES


def test_it_steps_as_as_many_single_environments_do():
    """Beside Stable-Baselines3's own vector environment over ours, lane by lane."""
    episodes = [4, 0, 2]
    single = DummyVecEnv([lambda: MarketAgnosticKalshiEnv(UNIVERSE)] * LANES)
    vec = KalshiVecEnv(UNIVERSE, LANES, CONFIG)
    for env in (single, vec):
        env.set_options([{"episode": episode} for episode in episodes])
    np.testing.assert_array_equal(single.reset(), vec.reset())
    rng = np.random.default_rng(8)
    for step in range(STEPS - 1):
        actions = rng.integers(0, 7, LANES)
        theirs, ours = single.step(actions), vec.step(actions)
        np.testing.assert_array_equal(theirs[1], ours[1])
        np.testing.assert_array_equal(theirs[2], ours[2])
        if step < STEPS - 2:
            np.testing.assert_array_equal(theirs[0], ours[0])
    for their_info, our_info in zip(theirs[3], ours[3], strict=True):
        for name in ("TimeLimit.truncated", "summary"):
            assert their_info[name] == our_info[name]
        np.testing.assert_array_equal(
            their_info["terminal_observation"], our_info["terminal_observation"]
        )


def test_nothing_returned_is_overwritten_by_a_later_step(vec):
    returned = [vec.reset(), vec.action_masks(), *vec.env_method("action_masks")]
    observation, rewards, dones, _ = vec.step(np.array([1, 3, 4]))
    returned += [observation, rewards, dones]
    for _ in range(STEPS):
        _, _, dones, infos = vec.step(np.array([4, 1, 2]))
        returned += [info["terminal_observation"] for info in infos if info]
    saved = [array.copy() for array in returned]
    for _ in range(STEPS):
        vec.step(np.array([1, 4, 5]))
    vec.reset()
    for array, copy in zip(returned, saved, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, part) for part in vec.simulator.state)


def test_the_registered_environment_keeps_order(vec):
    env = gymnasium.make(ENVIRONMENT_ID, universe=UNIVERSE)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    env.close()
