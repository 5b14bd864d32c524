"""The Gymnasium and the Stable-Baselines3 contracts."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.evaluation import evaluate_policy

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.environment import ENVIRONMENT_ID, MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.tapes import random_universe

CONFIG = TradingConfig()


@pytest.fixture(scope="module")
def universe():
    return random_universe(np.random.default_rng(11), episodes=6, steps=20)


class InTurn:
    """Episodes one after the other."""

    def __init__(self, episodes):
        self.episodes, self.next = episodes, 0

    def draw(self, count):
        drawn = (self.next + np.arange(count)) % self.episodes
        self.next += count
        return drawn


def test_environment_passes_both_checkers(universe):
    env = gymnasium.make(ENVIRONMENT_ID, universe=universe).unwrapped
    check_env(env)
    check_env_for_sb3(env)


def test_environment_is_a_lane_of_the_simulator(universe):
    env = MarketAgnosticKalshiEnv(universe)
    lane = Simulator(universe, 1, CONFIG)
    lane.reset(np.array([0]), np.array([4]))
    observation, info = env.reset(options={"episode": 4})
    rng = np.random.default_rng(0)
    done = False
    while not done:
        np.testing.assert_array_equal(observation, lane.observation[0])
        np.testing.assert_array_equal(info["action_mask"], lane.mask[0])
        assert env.observation_space.contains(observation)
        action = rng.integers(0, 7)
        observation, reward, terminated, truncated, info = env.step(action)
        lane.step(np.array([action]))
        assert (reward, terminated, truncated) == (
            lane.reward[0], lane.terminated[0], lane.truncated[0],
        )  # fmt: skip
        done = terminated or truncated
    assert info["summary"] == lane.summary(0)


def test_seed_chooses_the_same_episodes_again(universe):
    env = MarketAgnosticKalshiEnv(universe)
    first = [env.reset(seed=3)[0], *(env.reset()[0] for _ in range(5))]
    again = [env.reset(seed=3)[0], *(env.reset()[0] for _ in range(5))]
    np.testing.assert_array_equal(first, again)


def test_finished_lanes_report_and_start_anew(universe):
    vec = KalshiVecEnv(universe, 3, CONFIG, InTurn(6))
    reference = Simulator(universe, 3, CONFIG)
    reference.reset(np.arange(3), np.arange(3))
    observation = vec.reset()
    rng = np.random.default_rng(5)
    rewards_so_far = np.zeros(3)
    for step in range(19):
        np.testing.assert_array_equal(observation, reference.observation)
        actions = rng.integers(0, 7, size=3)
        observation, rewards, dones, infos = vec.step(actions)
        reference.step(actions)
        rewards_so_far += reference.reward
        np.testing.assert_allclose(rewards, reference.reward, rtol=1e-6)
        assert dones.all() == (step == 18)
        if step < 18:
            assert infos == [{}, {}, {}]
    for lane, info in enumerate(infos):
        np.testing.assert_array_equal(info["terminal_observation"], reference.observation[lane])
        assert info["TimeLimit.truncated"] == reference.truncated[lane]
        assert info["summary"] == reference.summary(lane)
        assert info["episode"] == {"r": pytest.approx(rewards_so_far[lane]), "l": 19}
    reference.reset(np.arange(3), np.array([3, 4, 5]))
    np.testing.assert_array_equal(observation, reference.observation)


def test_returned_arrays_outlive_the_next_step(universe):
    vec = KalshiVecEnv(universe, 2, CONFIG)
    kept = vec.reset()
    copy = kept.copy()
    after, rewards, dones, _ = vec.step(np.array([1, 4]))
    kept_after = [array.copy() for array in (after, rewards, dones)]
    vec.step(np.array([0, 0]))
    np.testing.assert_array_equal(kept, copy)
    for array, saved in zip((after, rewards, dones), kept_after, strict=True):
        np.testing.assert_array_equal(array, saved)


def test_same_seed_same_episodes_another_seed_others(universe):
    def firsts(seed):
        vec = KalshiVecEnv(universe, 16, CONFIG, seed=seed)
        return vec.reset()

    np.testing.assert_array_equal(firsts(1), firsts(1))
    assert (firsts(1) != firsts(2)).any()
    vec = KalshiVecEnv(universe, 16, CONFIG, seed=9)
    assert vec.seed(1) == [*range(1, 17)]
    np.testing.assert_array_equal(vec.reset(), firsts(1))


def test_lanes_answer_only_what_they_can(universe):
    vec = KalshiVecEnv(universe, 2, CONFIG)
    vec.reset()
    masks = vec.env_method("action_masks")
    np.testing.assert_array_equal(masks, vec.action_masks())
    assert len(vec.env_method("action_masks", indices=[1])) == 1
    assert vec.get_attr("num_envs", indices=0) == [2]
    with pytest.raises(AttributeError, match="no method 'render'"):
        vec.env_method("render")
    with pytest.raises(AttributeError, match="of their own"):
        vec.set_attr("config", CONFIG)
    vec.close()


def test_stock_ppo_learns_and_is_evaluated_without_a_warning(universe):
    torch.set_num_threads(1)
    vec = KalshiVecEnv(universe, 4, CONFIG)
    model = PPO("MlpPolicy", vec, n_steps=32, batch_size=64, n_epochs=2, seed=1, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(2 * 32 * 4)
    assert model.num_timesteps == 256
    assert any(
        (old != new).any() for old, new in zip(before, model.policy.parameters(), strict=True)
    )
    assert len(model.ep_info_buffer) == 256 // 19 // 4 * 4
    mean, _ = evaluate_policy(model, vec, n_eval_episodes=4)
    assert np.isfinite(mean)
