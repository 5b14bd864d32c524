"""The network is the plan's, it learns, and a non-finite gradient never reaches it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CallbackList

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import TrainingDiverged
from kalshi_pipeline.learning.ppo import (
    FastPPO,
    generator_states,
    make_ppo,
    set_generator_states,
)
from kalshi_pipeline.storage.checkpoints import tensor_shapes
from kalshi_pipeline.storage.sb3 import tensors_of
from tests.learning.toys import Identity

QUICK = PPOConfig(
    n_envs=16, n_steps=16, batch_size=64, hidden=(32, 32), learning_rate=3e-3, n_epochs=4
)


def learn(model: FastPPO, rollouts: int) -> None:
    for _ in model.rollouts(rollouts, CallbackList([])):
        pass


def test_the_networks_are_the_plans_separate_actor_and_critic() -> None:
    policy = make_ppo(Identity(4), PPOConfig(n_envs=4), seed=0).policy

    def layers(*modules: torch.nn.Module) -> list[str]:
        return [
            f"{layer.in_features}-{layer.out_features}"
            if isinstance(layer, torch.nn.Linear)
            else type(layer).__name__
            for module in modules
            for layer in (module if isinstance(module, torch.nn.Sequential) else [module])
        ]

    hidden = ["52-256", "ReLU", "256-256", "ReLU", "256-128", "ReLU"]
    assert layers(policy.mlp_extractor.policy_net, policy.action_net) == [*hidden, "128-7"]
    assert layers(policy.mlp_extractor.value_net, policy.value_net) == [*hidden, "128-1"]
    assert not set(policy.mlp_extractor.policy_net.parameters()) & set(
        policy.mlp_extractor.value_net.parameters()
    )
    shapes = {name: tuple(weight.shape) for name, weight in policy.state_dict().items()}
    assert shapes == tensor_shapes((256, 256, 128))


def test_the_hyper_parameters_are_those_of_the_configuration() -> None:
    config = PPOConfig(n_envs=4)
    model = make_ppo(Identity(4), config, seed=0)
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef"):
        assert getattr(model, name) == getattr(config, name)
    assert model.clip_range(1.0) == config.clip_range
    assert model.policy.optimizer.param_groups[0]["lr"] == config.learning_rate
    assert torch.get_num_threads() == 1


def test_it_learns_the_identity() -> None:
    model = make_ppo(Identity(16), QUICK, seed=1)
    learn(model, 25)
    observation = np.eye(52, dtype=np.float32)[:7]
    actions, _ = model.predict(observation, deterministic=True)
    assert actions.tolist() == list(range(7))


def test_a_seed_fixes_every_weight_and_seed_zero_is_a_seed() -> None:
    def trained(seed: int) -> bytes:
        model = make_ppo(Identity(4), replace(QUICK, n_envs=4), seed)
        learn(model, 2)
        policy, optimizer = tensors_of(model)
        return b"".join(t.tobytes() for t in [*policy.values(), *optimizer.values()])

    first = trained(0)
    assert trained(0) == first
    assert trained(1) != first


def test_a_non_finite_gradient_stops_training_before_the_weights_move() -> None:
    model = make_ppo(Identity(4), replace(QUICK, n_envs=4), seed=0)
    learn(model, 1)
    model.rollout_buffer.advantages[3, 0] = np.nan
    with pytest.raises(TrainingDiverged, match="stopped being finite"):
        model.train()
    policy, optimizer = tensors_of(model)
    for tensor in [*policy.values(), *optimizer.values()]:
        assert np.isfinite(tensor).all()


def test_generators_continue_from_their_saved_states() -> None:
    make_ppo(Identity(4), replace(QUICK, n_envs=4), seed=5)
    states = json.loads(json.dumps(generator_states()))
    drawn = torch.rand(3), np.random.permutation(9)  # noqa: NPY002
    set_generator_states(states)
    assert torch.equal(torch.rand(3), drawn[0])
    np.testing.assert_array_equal(np.random.permutation(9), drawn[1])  # noqa: NPY002
