"""The compiled update is Stable-Baselines3's: its losses, its gradients, its weights."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import TrainingDiverged
from kalshi_pipeline.learning.ppo import FastPPO, MaskedRolloutBuffer, make_ppo
from tests.learning.toys import Identity

# Adam's first step is nearly the gradient's sign: rounding of those about zero counts as much
NEARLY_SIGN = 1e-4
SMALL = PPOConfig(n_envs=4, n_steps=16, batch_size=64, n_epochs=1, hidden=(32, 16))


def with_a_random_rollout(config: PPOConfig, rng: np.random.Generator) -> FastPPO:
    """A model whose buffer holds numbers as a rollout might, log-probabilities a little stale."""
    model = make_ppo(Identity(config.n_envs), config, int(rng.integers(2**31)))
    buffer = model.rollout_buffer
    shape = buffer.rewards.shape
    buffer.observations = rng.normal(size=buffer.observations.shape).astype(np.float32)
    buffer.actions = rng.integers(7, size=buffer.actions.shape)
    if isinstance(buffer, MaskedRolloutBuffer):
        buffer.action_masks = rng.random(buffer.action_masks.shape) < 0.6
        np.put_along_axis(buffer.action_masks, buffer.actions, True, axis=2)
    buffer.log_probs = np.log(rng.uniform(0.05, 0.4, shape)).astype(np.float32)
    buffer.advantages = rng.normal(rng.normal(), rng.uniform(0.1, 10), shape).astype(np.float32)
    buffer.values = rng.normal(size=shape).astype(np.float32)
    buffer.returns = rng.normal(rng.normal(), rng.uniform(0.1, 10), shape).astype(np.float32)
    buffer.pos, buffer.full = config.n_steps, True
    return model


def weights(model: PPO) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in model.policy.parameters()]).numpy().copy()


def gradients(model: PPO) -> np.ndarray:
    """What Adam was given at its first step, clipped: a tenth of it is its first moment."""
    state = model.policy.optimizer.state
    moments = [state[parameter]["exp_avg"] for parameter in model.policy.parameters()]
    return 10 * torch.cat([moment.reshape(-1) for moment in moments]).numpy()


def compared(
    model: FastPPO, stock: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float, dict[str, tuple[float, float]]]:
    """Distance of the weights after both updates relative to the way gone, and all figures.

    Likewise of the gradients, where there was one minibatch.
    """
    before, twin = weights(model), copy.deepcopy(model)
    twin.set_logger(Logger(folder=None, output_formats=[]))
    model.train()
    # Stable-Baselines3 numbers transitions lane by lane, and so would learn in another order
    count = model.rollout_buffer.rewards.size
    by_lane = np.arange(count).reshape(model.n_steps, model.n_envs).T.reshape(-1)
    generator = np.random.default_rng([int(model._key), model.num_timesteps])
    orders = [np.argsort(by_lane)[generator.permutation(count)] for _ in range(model.n_epochs)]
    monkeypatch.setattr(np.random, "permutation", lambda _: orders.pop(0))
    stock(twin)
    ours, theirs = model.logger.name_to_value, twin.logger.name_to_value
    assert ours.keys() == theirs.keys()
    distance = apart(weights(model) - before, weights(twin) - before)
    figures = {name: (ours[name], theirs[name]) for name in theirs}
    return distance, apart(gradients(model), gradients(twin)), figures


def apart(own: np.ndarray, other: np.ndarray) -> float:
    """Distance of two vectors, relative to the second."""
    return float(np.linalg.norm(own - other) / np.linalg.norm(other))


def assert_equal_figures(figures: dict[str, tuple[float, float]], relative: float) -> None:
    for name, (own, other) in figures.items():
        # means near zero are differences of large numbers in single precision
        assert own == pytest.approx(other, rel=relative, abs=2e-6), name


def random_config(rng: np.random.Generator) -> PPOConfig:
    return replace(
        SMALL,
        hidden=tuple(int(width) for width in rng.integers(1, 80, rng.integers(0, 4))),
        clip_range=float(rng.uniform(0.02, 0.5)),
        ent_coef=float(rng.uniform(0, 0.2)),
        vf_coef=float(rng.uniform(0.1, 1)),
        max_grad_norm=float(rng.uniform(0.1, 20)),
        learning_rate=float(10 ** rng.uniform(-3, -2)),  # well above the weights' rounding
    )


@pytest.mark.parametrize("seed", range(100))
def test_a_minibatch_moves_the_weights_as_stable_baselines3_does(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    model = with_a_random_rollout(random_config(rng), rng)
    moved, gradient, figures = compared(model, PPO.train, monkeypatch)
    assert gradient < 1e-5
    assert moved < NEARLY_SIGN
    assert_equal_figures(figures, 1e-5)


@pytest.mark.parametrize("batch", [64, 24, 63, 1000])
def test_a_whole_update_is_stable_baselines3s_with_any_last_minibatch(batch, monkeypatch):
    rng = np.random.default_rng(batch)
    config = replace(SMALL, batch_size=batch, n_epochs=3, max_grad_norm=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a batch that does not divide the rollout
        model = with_a_random_rollout(config, rng)
    moved, _, figures = compared(model, PPO.train, monkeypatch)
    assert moved < 1e-4
    assert_equal_figures(figures, 1e-4)


def test_advantages_are_left_alone_where_they_are_not_to_be_normalised(monkeypatch):
    model = with_a_random_rollout(SMALL, np.random.default_rng(0))
    model.normalize_advantage = False
    moved, gradient, figures = compared(model, PPO.train, monkeypatch)
    assert gradient < 1e-5
    assert moved < NEARLY_SIGN
    assert_equal_figures(figures, 1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_masked_minibatch_moves_the_weights_as_maskable_ppo_does(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    model = with_a_random_rollout(replace(random_config(rng), mask_actions=True), rng)
    moved, gradient, figures = compared(model, maskable_train, monkeypatch)
    assert gradient < 1e-5
    assert moved < NEARLY_SIGN
    assert_equal_figures(figures, 1e-5)


def maskable_train(twin: FastPPO) -> None:
    """`MaskablePPO.train` on the weights, the optimiser's state and the buffer of `twin`."""
    from sb3_contrib import MaskablePPO

    arguments = {
        name: getattr(twin, name)
        for name in ("n_steps", "batch_size", "n_epochs", "ent_coef", "vf_coef", "max_grad_norm")
    }
    hidden = [layer.out_features for layer in twin.policy.mlp_extractor.policy_net[::2]]
    contrib = MaskablePPO(
        "MlpPolicy", twin.env, learning_rate=twin.learning_rate, clip_range=twin.clip_range(1.0),
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.ReLU},
        device="cpu", **arguments,
    )  # fmt: skip
    contrib.policy.load_state_dict(twin.policy.state_dict())
    contrib.set_logger(twin.logger)
    for name in ("observations", "actions", "log_probs", "advantages", "returns", "values"):
        setattr(contrib.rollout_buffer, name, getattr(twin.rollout_buffer, name))
    masks = twin.rollout_buffer.action_masks
    contrib.rollout_buffer.action_masks = masks.astype(np.float32)
    contrib.rollout_buffer.full = True
    contrib.train()
    twin.policy = contrib.policy


def test_one_thread_and_two_train_the_same_weights_bit_for_bit():
    def trained(threads: int) -> list[bytes]:
        model = with_a_random_rollout(
            replace(SMALL, batch_size=8, n_epochs=5), np.random.default_rng(3)
        )
        model.threads = threads
        model.train()
        state = model.policy.optimizer.state
        figures = [repr(model.logger.name_to_value).encode()]
        return figures + [
            tensor.detach().numpy().tobytes()
            for parameter in model.policy.parameters()
            for tensor in (parameter, *state[parameter].values())
        ]

    assert trained(1) == trained(2)


def test_two_processes_train_the_same_weights():
    program = (
        "from hashlib import sha256; from stable_baselines3.common.callbacks import CallbackList;"
        "from tests.learning.test_fast_update import *;"
        "model = make_ppo(Identity(4), SMALL, 5);"
        "list(model.rollouts(3, CallbackList([])));"
        "print(sha256(weights(model).tobytes()).hexdigest())"
    )
    digests = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
        for _ in range(2)
    ]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_non_finite_gradient_is_named_before_adam_moves(threads):
    model = with_a_random_rollout(SMALL, np.random.default_rng(1))
    model.train()  # Adam has moments now
    model.threads = threads
    model.rollout_buffer.returns[2, 1] = np.inf
    before = copy.deepcopy(model.policy.optimizer.state_dict()), weights(model)
    with pytest.raises(TrainingDiverged, match=r"the gradient of \S*value_net\S* stopped"):
        model.train()
    after = model.policy.optimizer.state_dict()
    np.testing.assert_array_equal(weights(model), before[1])
    for number, state in after["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, before[0]["state"][number][name])


def test_a_large_gradient_is_clipped_and_not_mistaken_for_one_that_is_not_finite():
    model = with_a_random_rollout(SMALL, np.random.default_rng(1))
    model.rollout_buffer.returns *= np.float32(1e12)
    model.vf_coef = 1e10  # squares of the gradients overflow single precision
    model.train()
    assert np.isfinite(weights(model)).all()


def test_the_update_means_the_same_uncompiled():
    program = (
        "from tests.learning.test_fast_update import *;"
        "model = with_a_random_rollout(SMALL, np.random.default_rng(0)); model.train();"
        "print(weights(model).tobytes().hex())"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    model = with_a_random_rollout(SMALL, np.random.default_rng(0))
    before = weights(model)
    model.train()
    uncompiled = np.frombuffer(bytes.fromhex(plain.stdout), np.float32)
    assert apart(weights(model) - before, uncompiled - before) < NEARLY_SIGN
