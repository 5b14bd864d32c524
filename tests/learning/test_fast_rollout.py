"""The compiled rollout: actions, log-probabilities, values and advantages as stock PPO has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.learning.fast.blas import single_threaded
from kalshi_pipeline.learning.fast.engine import Engine
from kalshi_pipeline.learning.fast.rollout import advantages_of
from kalshi_pipeline.learning.ppo import FastPPO, make_ppo
from tests.learning.toys import Identity

SMALL = PPOConfig(n_envs=4, n_steps=16, batch_size=64, n_epochs=2, hidden=(32, 16), ent_coef=0.0)


class Cut(Identity):
    """`Identity` whose lanes end at different times, half of them cut by the clock."""

    def step_wait(self) -> tuple[Any, ...]:
        observations, rewards, _, _ = super().step_wait()
        lanes = np.arange(self.num_envs)
        dones = (self._steps + 3 * lanes) % 5 == 0
        infos: list[dict[str, Any]] = [{} for _ in lanes]
        for lane in np.flatnonzero(dones):
            ending = np.random.default_rng([self._steps, lane]).normal(size=52)
            infos[lane] = {
                "terminal_observation": ending.astype(np.float32),
                "TimeLimit.truncated": bool(lane % 2),
                "episode": {"r": 1.0, "l": 5},
            }
        return observations, rewards, dones, infos


class Masked(Identity):
    """`Identity` in which an action is valid where the observation's number and the step allow."""

    def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
        assert method_name == "action_masks"
        rng = np.random.default_rng(self._steps)
        masks = rng.random((self.num_envs, 7)) < 0.4
        masks[:, 0] = True
        return list(masks)


class Steps(BaseCallback):
    """Counts calls and keeps what a callback is shown."""

    def __init__(self, stop_at: int = 10**9) -> None:
        super().__init__()
        self.calls, self.stop_at, self.seen = 0, stop_at, []

    def _on_step(self) -> bool:
        self.calls += 1
        self.seen.append({name: self.locals[name] for name in ("rewards", "dones", "infos")})
        assert self.locals["new_obs"].shape == (4, 52)
        return self.calls < self.stop_at


def collected(env: VecEnv, config: PPOConfig = SMALL, seed: int = 3, **settings: Any) -> FastPPO:
    model = make_ppo(env, replace(config, **settings), seed)
    _, callback = model._setup_learn(10**6, CallbackList([]))
    assert model.collect_rollouts(env, callback, model.rollout_buffer, config.n_steps)
    return model


def test_values_and_log_probabilities_are_the_networks():
    model = collected(Identity(4))
    buffer = model.rollout_buffer
    seen = torch.as_tensor(buffer.observations.reshape(-1, 52))
    with torch.no_grad():
        values, log_probs, _ = model.policy.evaluate_actions(
            seen, torch.as_tensor(buffer.actions.reshape(-1))
        )
    np.testing.assert_allclose(buffer.values.ravel(), values.ravel(), atol=1e-6)
    np.testing.assert_allclose(buffer.log_probs.ravel(), log_probs, atol=1e-6)


def test_a_rollout_is_what_stock_ppo_collects_of_the_same_actions(monkeypatch):
    ours = collected(Cut(4))
    taken = iter(ours.rollout_buffer.actions.copy())
    stock = make_ppo(Cut(4), SMALL, 3)
    forward = stock.policy.forward

    def the_same(observations: torch.Tensor, deterministic: bool = False) -> Any:
        actions = torch.as_tensor(next(taken).reshape(-1))
        values, log_probs, _ = stock.policy.evaluate_actions(observations, actions)
        assert forward(observations)[1].shape == values.shape
        return actions, values, log_probs

    monkeypatch.setattr(stock.policy, "forward", the_same)
    _, callback = stock._setup_learn(10**6, CallbackList([]))
    PPO.collect_rollouts(stock, stock.env, callback, stock.rollout_buffer, SMALL.n_steps)
    for name in ("observations", "actions", "episode_starts"):
        np.testing.assert_array_equal(
            getattr(ours.rollout_buffer, name), getattr(stock.rollout_buffer, name), name
        )
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        np.testing.assert_allclose(
            getattr(ours.rollout_buffer, name), getattr(stock.rollout_buffer, name),
            atol=3e-6, err_msg=name,
        )  # fmt: skip
    assert list(ours.ep_info_buffer) == list(stock.ep_info_buffer)
    np.testing.assert_array_equal(ours.episode_starts, stock._last_episode_starts)
    assert ours.num_timesteps == stock.num_timesteps


@given(
    steps=st.integers(1, 10).map(lambda half: 2 * half),
    lanes=st.integers(1, 5),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_advantages_are_the_rollout_buffers_bit_for_bit(steps, lanes, gamma, lam, seed):
    rng = np.random.default_rng(seed)
    model = PPO(
        "MlpPolicy", Identity(lanes), n_steps=steps, gamma=gamma, gae_lambda=lam,
        batch_size=2, policy_kwargs={"net_arch": [1]}, device="cpu",
    )  # fmt: skip
    buffer = model.rollout_buffer
    shape = buffer.rewards.shape
    buffer.rewards[:], buffer.values[:] = rng.normal(size=(2, *shape))
    buffer.episode_starts[:] = rng.random(shape) < 0.2
    last = rng.normal(size=lanes).astype(np.float32)
    dones = rng.random(lanes) < 0.5
    buffer.compute_returns_and_advantage(torch.as_tensor(last), dones)
    advantages, returns = np.empty(shape, np.float32), np.empty(shape, np.float32)
    discounts = np.full(shape, gamma, np.float32), np.full(shape, gamma * lam, np.float32)
    for kernel in (advantages_of, getattr(advantages_of, "py_func", advantages_of)):
        kernel(
            buffer.rewards, buffer.values, buffer.episode_starts, last, dones, *discounts,
            advantages, returns,
        )  # fmt: skip
        np.testing.assert_array_equal(advantages, buffer.advantages)
        np.testing.assert_array_equal(returns, buffer.returns)


@given(steps=st.integers(1, 12), lanes=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_advantages_with_a_discount_of_each_step_equal_a_slow_twin(steps, lanes, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, steps, lanes)).astype(np.float32)
    starts = (rng.random((steps, lanes)) < 0.2).astype(np.float32)
    last, dones = rng.normal(size=lanes).astype(np.float32), rng.random(lanes) < 0.5
    gamma = rng.random((steps, lanes)).astype(np.float32)
    decay = gamma * np.float32(0.9)
    advantages, returns = np.empty((2, steps, lanes), np.float32)
    advantages_of(rewards, values, starts, last, dones, gamma, decay, advantages, returns)
    for lane in range(lanes):
        begins = [*starts[1:, lane], dones[lane]]  # whether the next observation is a new episode's
        following = [*values[1:, lane], last[lane]]
        for step in range(steps):
            expected, weight = 0.0, 1.0
            for later in range(step, steps):
                goes_on = 1.0 - begins[later]
                target = rewards[later, lane] + gamma[later, lane] * following[later] * goes_on
                expected += weight * (target - values[later, lane])
                weight *= decay[later, lane] * goes_on
            assert advantages[step, lane] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_array_equal(returns, advantages + values)


def sampled(model: FastPPO, observation: np.ndarray, masks: np.ndarray, draws: int) -> np.ndarray:
    lanes = np.repeat(observation[None], draws, axis=0)
    with single_threaded():
        engine = Engine(model.policy)
        return engine.act(lanes, masks, np.uint64(12345), 0, np.empty(draws, np.float32))


def a_decided_model() -> tuple[FastPPO, np.ndarray]:
    model = make_ppo(Identity(4), SMALL, 1)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(150)  # the first weights leave all actions alike
    return model, np.random.default_rng(0).normal(size=52).astype(np.float32)


@pytest.mark.parametrize("allowed", [range(7), (0, 2, 5), (6,)])
def test_actions_are_drawn_from_the_distribution_over_the_valid_ones(allowed):
    model, observation = a_decided_model()
    mask = np.isin(np.arange(7), list(allowed))[None]
    counts = np.bincount(sampled(model, observation, mask, 40_000), minlength=7)
    distribution = model.policy.get_distribution(torch.as_tensor(observation[None]))
    shares = distribution.distribution.probs.detach().numpy()[0] * mask[0]
    assert not counts[~mask[0]].any()
    expected = shares[mask[0]].astype(np.float64)
    expected *= counts.sum() / expected.sum()
    if len(expected) > 1:
        assert expected.max() / expected.min() > 1.3
        assert chisquare(counts[mask[0]], expected).pvalue > 0.001


def test_actions_hang_on_seed_and_timestep_alone():
    def actions(seed: int, timesteps: int) -> list[int]:
        model = make_ppo(Identity(4), SMALL, 7)
        model.num_timesteps = timesteps
        model._key = make_ppo(Identity(4), SMALL, seed)._key
        model.continue_from(model.env.reset(), np.ones(4, bool))
        _, callback = model._setup_learn(10**6, CallbackList([]), reset_num_timesteps=False)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, SMALL.n_steps)
        return model.rollout_buffer.actions.ravel().tolist()

    assert actions(1, 64) == actions(1, 64)
    assert actions(1, 64) != actions(2, 64)
    assert actions(1, 64) != actions(1, 128)


def test_masked_rollouts_take_valid_actions_and_keep_the_masks():
    model = collected(Masked(4), mask_actions=True, n_steps=SMALL.n_steps)
    buffer = model.rollout_buffer
    assert np.take_along_axis(buffer.action_masks, buffer.actions, axis=2).all()
    assert not buffer.action_masks.all()
    with torch.no_grad():
        seen = torch.as_tensor(buffer.observations.reshape(-1, 52))
        logits = model.policy.get_distribution(seen).distribution.logits.numpy()
    logits = np.where(buffer.action_masks.reshape(-1, 7), logits, -1e8)  # as MaskablePPO does
    normaliser = np.log(np.exp(logits).sum(axis=1))
    chosen = np.take_along_axis(logits, buffer.actions.reshape(-1, 1), axis=1)[:, 0]
    np.testing.assert_allclose(buffer.log_probs.ravel(), chosen - normaliser, atol=1e-6)


def test_masked_ppo_learns_the_identity_among_what_is_valid():
    config = replace(SMALL, n_envs=16, learning_rate=3e-3, n_epochs=4, mask_actions=True)
    model = make_ppo(Masked(16), config, seed=1)
    for _ in model.rollouts(25, CallbackList([])):
        pass
    actions, _ = model.predict(np.eye(52, dtype=np.float32)[:7], deterministic=True)
    assert actions.tolist() == list(range(7))


def test_a_callback_sees_every_step_and_can_stop_the_rollout():
    model = make_ppo(Cut(4), SMALL, 0)
    steps = Steps()
    _, callback = model._setup_learn(10**6, steps)
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    assert steps.calls == 16
    before_the_bootstrap = np.array([seen["rewards"] for seen in steps.seen])
    assert set(np.unique(before_the_bootstrap)) <= {0.0, 1.0}
    assert not np.array_equal(before_the_bootstrap, model.rollout_buffer.rewards)
    _, callback = model._setup_learn(10**6, Steps(stop_at=5))
    assert not model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
