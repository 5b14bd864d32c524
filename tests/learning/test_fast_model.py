"""A fast model is one of Stable-Baselines3: saved, loaded, and stock where it must be."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger

from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.errors import PlanError, TrainingDiverged
from kalshi_pipeline.learning import ppo
from kalshi_pipeline.learning.fast.eligibility import why_not
from kalshi_pipeline.learning.fast.rollout import advantages_of
from kalshi_pipeline.learning.ppo import FastPPO, make_ppo
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.learning.test_fast_update import weights
from tests.learning.toys import Identity
from tests.tapes import random_universe

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
    with pytest.raises(PlanError, match="mask_actions is served by the compiled path alone"):
        trained(model)


def test_discounting_by_time_is_refused_where_it_cannot_be_learned():
    with pytest.raises(PlanError, match="discount_unit_s is served by the compiled path alone"):
        trained(built(discount_unit_s=1.0, target_kl=0.01))


def test_gamma_of_market_time_is_raised_to_the_time_each_step_took(monkeypatch):
    config = replace(SMALL, n_steps=32, discount_unit_s=0.5)
    universe = random_universe(np.random.default_rng(7), episodes=6, steps=20)
    env = KalshiVecEnv(universe, config.n_envs, TradingConfig())
    elapsed, weighed = [], []

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            elapsed.append(env.elapsed_ms.copy())
            return True

    monkeypatch.setattr(ppo, "advantages_of", lambda *a: weighed.append(a) or advantages_of(*a))
    for _ in make_ppo(env, config, 3).rollouts(1, Clock()):
        pass
    (given,) = weighed
    gamma = np.power(config.gamma, np.array(elapsed) / 500)
    assert gamma.min() < gamma.max() <= 1  # else any constant would do
    np.testing.assert_allclose(given[5], gamma, atol=1e-6)
    np.testing.assert_allclose(given[6], gamma * config.gae_lambda, atol=1e-6)


def test_asking_for_a_gpu_where_there_is_none_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PlanError, match="--device cpu"):
        make_ppo(Identity(4), SMALL, 0, device="cuda")
    assert make_ppo(Identity(4), SMALL, 0, device="auto").device.type == "cpu"
