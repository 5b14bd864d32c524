"""What a phase asks of every algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from stable_baselines3.common.callbacks import CallbackList

from kalshi_pipeline.config import CONFIGS, LearnerConfig, PPOConfig, TradingConfig
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.learning.algorithms import make_learner
from kalshi_pipeline.learning.learner import Learner
from kalshi_pipeline.storage.checkpoints import optimizer_shapes, tensor_shapes
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.checkpoints import small_checkpoint
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(5), episodes=4, steps=5)
FREE = TradingConfig(fees=False)  # some episodes of the first rollout end with a profit
SMALL = {"n_envs": 4, "n_steps": 8, "hidden": (8, 8, 4)}
ALGORITHMS = sorted(CONFIGS)


def learner_of(algorithm: str, **changes: object) -> Learner:
    config = replace(CONFIGS[algorithm](), **{**SMALL, **changes})
    if hasattr(config, "batch_size"):
        config = replace(config, batch_size=16)
    if hasattr(config, "critic_steps"):
        config = replace(config, critic_steps=8)
    return make_learner(KalshiVecEnv(UNIVERSE, config.n_envs, FREE), config, 0)


def learn(learner: Learner, rollouts: int) -> None:
    for _ in learner.updates(rollouts, CallbackList([])):
        pass


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_the_tensors_of_one_checkpoint_format(algorithm: str) -> None:
    learner = learner_of(algorithm)
    for rollouts in (0, 1):  # before Adam's first step as well
        learn(learner, rollouts)
        for tensors, shapes in zip(
            learner.tensors(), (tensor_shapes((8, 8, 4)), optimizer_shapes((8, 8, 4))), strict=True
        ):
            assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
            assert {tensor.dtype.name for tensor in tensors.values()} == {"float32"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_update_is_made_from_one_rollout(algorithm: str) -> None:
    learner = learner_of(algorithm)
    learn(learner, 3)
    assert learner.timesteps == 3 * learner.config.rollout_steps == 3 * 32
    assert learner.actions.size == 32
    assert 0 <= learner.actions.min() <= learner.actions.max() < 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_knob_that_is_turned_says_so_and_counts(algorithm: str) -> None:
    still, turned = learner_of(algorithm), learner_of(algorithm)
    assert "learning_rate" in turned.knobs
    turned.adjust("learning_rate", 0.0)
    assert turned.knobs == {**still.knobs, "learning_rate": 0.0}
    before = turned.tensors()[0]
    learn(turned, 2)
    learn(still, 2)
    after = turned.tensors()[0]
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not np.array_equal(before["action_net.bias"], still.tensors()[0]["action_net.bias"])


def test_ppo_has_its_clip_range_entropy_coefficient_and_epochs_to_turn() -> None:
    learner = learner_of("ppo")
    assert set(learner.knobs) == {"learning_rate", "ent_coef", "clip_range", "n_epochs"}
    learner.adjust("n_epochs", 3.0)
    before = float(learner.tensors()[1]["step.action_net.bias"])
    learn(learner, 1)
    minibatches = learner.config.rollout_steps // 16
    assert learner.tensors()[1]["step.action_net.bias"] - before == 3 * minibatches
    learner.adjust("clip_range", 0.05)
    learner.adjust("ent_coef", 0.5)
    assert (learner.knobs["clip_range"], learner.knobs["ent_coef"]) == (0.05, 0.5)
    with pytest.raises(KeyError):
        learner.adjust("no_such_knob", 1.0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_parent_of_another_algorithm_gives_weights_and_no_moments(algorithm: str) -> None:
    other = next(name for name in [*ALGORITHMS, "none"] if name != algorithm)
    parent = small_checkpoint(config=PPOConfig(**SMALL, batch_size=16))
    theirs = replace(parent, state=replace(parent.state, algorithm=other))
    learner = learner_of(algorithm)
    learner.start_from(theirs)
    policy, optimizer = learner.tensors()
    assert all(np.array_equal(policy[name], parent.policy[name]) for name in policy)
    assert not any(moment.any() for moment in optimizer.values())
    assert learner.timesteps == parent.state.timesteps_total


def test_a_configuration_of_no_algorithm_is_refused() -> None:
    @dataclass(frozen=True)
    class Unknown(LearnerConfig):
        pass

    with pytest.raises(PlanError, match="Unknown"):
        make_learner(KalshiVecEnv(UNIVERSE, 4, TradingConfig()), Unknown(n_envs=4), 0)


def test_a2c_says_that_it_does_not_mask() -> None:
    with pytest.raises(PlanError, match="mask"):
        learner_of("a2c", mask_actions=True)
