"""A fast model is one of Stable-Baselines3: saved, loaded, and stock where it must be."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import Logger

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import PlanError, TrainingDiverged
from kalshi_pipeline.learning.fast.eligibility import why_not
from kalshi_pipeline.learning.ppo import FastPPO, make_ppo
from tests.learning.test_fast_update import weights
from tests.learning.toys import Identity

SMALL = PPOConfig(n_envs=4, n_steps=16, batch_size=32, n_epochs=2, hidden=(16,))


def trained(model: FastPPO, rollouts: int = 2) -> FastPPO:
    for _ in model.rollouts(rollouts, CallbackList([])):
        pass
    return model


def built(**settings: Any) -> FastPPO:
    arguments = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 0}
    network = {"net_arch": [16], "activation_fn": torch.nn.ReLU}
    settings = {**arguments, "policy_kwargs": network, **settings}
    model = FastPPO("MlpPolicy", Identity(4), **settings)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def test_a_saved_model_opens_in_stock_ppo(tmp_path):
    model = trained(make_ppo(Identity(4), SMALL, 1))
    model.save(tmp_path / "model.zip")
    stock = PPO.load(tmp_path / "model.zip", device="cpu")
    assert type(stock) is PPO
    np.testing.assert_array_equal(weights(stock), weights(model))
    seen = np.eye(52, dtype=np.float32)
    np.testing.assert_array_equal(
        stock.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )
    states = [m.policy.optimizer.state_dict()["state"] for m in (stock, model)]
    for number, state in states[0].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, states[1][number][name])


def test_a_loaded_model_learns_on_as_the_saved_one(tmp_path):
    model = trained(make_ppo(Identity(4), SMALL, 1))
    model.save(tmp_path / "model.zip")
    loaded = FastPPO.load(tmp_path / "model.zip", env=Identity(4), device="cpu")
    loaded.set_logger(Logger(folder=None, output_formats=[]))
    for each in (model, loaded):
        each.set_env(Identity(4, seed=5), force_reset=False)
        each.continue_from(each.env.reset(), np.ones(4, bool))
        trained(each)
    np.testing.assert_array_equal(weights(loaded), weights(model))


def test_stock_training_goes_on_from_compiled_training_and_back():
    model = trained(make_ppo(Identity(4), SMALL, 1))
    step = float(next(iter(model.policy.optimizer.state.values()))["step"])
    before = weights(model)
    PPO.train(model)
    between = weights(model)
    assert not np.array_equal(between, before)
    model.train()
    assert not np.array_equal(weights(model), between)
    states = model.policy.optimizer.state.values()
    assert {float(state["step"]) for state in states} == {step + 8}


UNSERVED = {
    "the value's change is clipped": {"clip_range_vf": 0.2},
    "an update ends early at a divergence": {"target_kl": 0.01},
    "the networks are not Linear and ReLU in turn": {"policy_kwargs": {"net_arch": [8]}},
    "the optimiser is not Adam as it comes": {
        "policy_kwargs": {
            "net_arch": [8],
            "activation_fn": torch.nn.ReLU,
            "optimizer_kwargs": {"weight_decay": 0.1},
        }
    },
}


@pytest.mark.parametrize("reason", UNSERVED)
def test_what_the_compiled_code_does_not_serve_is_trained_by_pytorch(reason, caplog):
    model = built(**UNSERVED[reason])
    assert why_not(model) == reason
    before = weights(model)
    with caplog.at_level(logging.WARNING):
        trained(model)
    assert not np.array_equal(weights(model), before)
    assert [record.getMessage() for record in caplog.records] == [
        f"PyTorch trains, not the compiled code: {reason}"
    ]


def test_a_shared_network_and_a_frozen_layer_are_not_served():
    shared = built(policy_kwargs={"net_arch": [8], "activation_fn": torch.nn.ReLU})
    shared.policy.value_net.weight.requires_grad_(False)
    assert why_not(shared) == "the networks are not Linear and ReLU in turn"


def test_dropout_is_not_served():
    model = built()
    model.policy.mlp_extractor.policy_net.append(torch.nn.Dropout(0.1))
    assert why_not(model) == "the networks are not Linear and ReLU in turn"


def test_pytorch_stops_before_a_non_finite_gradient_too():
    model = trained(built(target_kl=10.0), 1)
    model.rollout_buffer.advantages[:] = np.nan
    before = weights(model)
    with pytest.raises(TrainingDiverged, match="stopped being finite"):
        model.train()
    np.testing.assert_array_equal(weights(model), before)


def test_masked_actions_are_refused_where_they_cannot_be_learned():
    model = built(mask_actions=True, target_kl=0.01)
    with pytest.raises(PlanError, match="masked actions are learned on the compiled path alone"):
        trained(model)


def test_asking_for_a_gpu_where_there_is_none_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlanError, match="--device cpu"):
        make_ppo(Identity(4), SMALL, 0, device="cuda")
    assert make_ppo(Identity(4), SMALL, 0, device="auto").device.type == "cpu"


def test_a_learning_rate_and_a_clip_range_that_change_are_followed():
    model = built(learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left)
    _, callback = model._setup_learn(1000, CallbackList([]))
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    model._current_progress_remaining = 0.0
    before = weights(model)
    model.train()
    np.testing.assert_array_equal(weights(model), before)
    assert model.logger.name_to_value["train/clip_range"] == 0.0
    assert model.logger.name_to_value["train/learning_rate"] == 0.0


def test_the_order_of_transitions_is_new_in_every_update():
    config = replace(SMALL, n_epochs=1)
    first, second = (make_ppo(Identity(4), config, 1) for _ in range(2))
    trained(first, 1)
    trained(second, 1)
    np.testing.assert_array_equal(weights(first), weights(second))
    second.num_timesteps += 64
    first.train()
    second.train()
    assert not np.array_equal(weights(first), weights(second))
