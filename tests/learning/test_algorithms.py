"""What holds for a phase under every algorithm, and what SAC and cloning do of their own."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CallbackList

from kalshi_pipeline.config import CONFIGS, CloningConfig, LearnerConfig, SACConfig, TradingConfig
from kalshi_pipeline.errors import (
    CorruptCheckpoint,
    NoProfitableEpisode,
    PlanError,
    TrainingDiverged,
)
from kalshi_pipeline.learning.cloning import MAX_TRANSITIONS, Cloning, make_cloning
from kalshi_pipeline.learning.records import Snapshot, TrainingResult
from kalshi_pipeline.learning.sac import DiscreteSAC, make_sac, value_of
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.storage.checkpoints import MAX_FILE_BYTES, Checkpoint, decode, encode
from kalshi_pipeline.storage.sb3 import export_sb3_zip
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.learning.toys import Identity
from tests.tapes import random_universe

# short episodes, so that some of them end with a profit
UNIVERSE = random_universe(np.random.default_rng(7), episodes=6, steps=12)
ROLLOUT = 64
ALGORITHMS = sorted(CONFIGS)
SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"batch_size": 32, "n_epochs": 2},
    "a2c": {},
    # a buffer that is full and written over before the phase ends
    "sac": {"batch_size": 16, "gradient_steps": 4, "critic_steps": 6, "buffer_size": 160},
    "bc": {"batch_size": 16, "gradient_steps": 4, "buffer_size": 100},
}


def config_of(algorithm: str) -> LearnerConfig:
    shared: dict[str, Any] = {"n_envs": 4, "n_steps": 16, "hidden": (16, 8)}
    return replace(CONFIGS[algorithm](), **shared, **SMALL[algorithm])


def train(algorithm: str, rollouts: int = 5, **changes: Any) -> TrainingResult:
    arguments: dict[str, Any] = {
        "phase": "phase_1",
        "timesteps": rollouts * ROLLOUT,
        "config": config_of(algorithm),
        "trading": TradingConfig(),
        "seed": 3,
        "clock": count().__next__,
    }
    return train_phase(UNIVERSE, **{**arguments, **changes})


def through_files(checkpoint: Checkpoint) -> Checkpoint:
    return decode(encode(checkpoint), "memory")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_fixes_a_phase_and_a_resumed_one_equals_it_bit_for_bit(algorithm: str) -> None:
    kept: list[Snapshot] = []
    whole = train(algorithm, keep=kept.append, checkpoint_every=ROLLOUT)
    assert train(algorithm).final.content_hash == whole.final.content_hash
    assert train(algorithm, seed=4).final.content_hash != whole.final.content_hash
    assert whole.final.state.algorithm == algorithm
    for place in (0, 2, 3):
        snapshot = replace(kept[place], checkpoint=through_files(kept[place].checkpoint))
        resumed = train(algorithm, resume=snapshot)
        assert resumed.final.content_hash == whole.final.content_hash
        assert resumed.records[-1].diagnostics == whole.records[-1].diagnostics


@pytest.mark.parametrize("parent", ALGORITHMS)
@pytest.mark.parametrize("child", ALGORITHMS)
def test_any_algorithm_continues_from_any_other(parent: str, child: str) -> None:
    first = through_files(train(parent).final)
    second = train(child, phase="phase_2", parent=first).final
    assert second.state.timesteps_total == 10 * ROLLOUT
    assert second.state.parent == first.content_hash
    moved = np.abs(second.policy["action_net.weight"] - first.policy["action_net.weight"]).max()
    assert 0 < moved < 0.1
    # Adam goes on within an algorithm and begins anew in another
    fresh = train(child).final
    assert fresh.optimizer["step.action_net.bias"] > 0
    more = second.optimizer["step.action_net.bias"] > fresh.optimizer["step.action_net.bias"]
    assert more == (parent == child)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checkpoint_of_any_algorithm_opens_in_stock_ppo(algorithm: str, tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    checkpoint = train(algorithm).final
    export_sb3_zip(checkpoint, tmp_path / "model.zip")
    weights = PPO.load(tmp_path / "model.zip", device="cpu").policy.state_dict()
    for name, weight in checkpoint.policy.items():
        np.testing.assert_array_equal(weights[name].numpy(), weight)


SAC = SACConfig(
    n_envs=8, n_steps=8, hidden=(32, 32), learning_rate=3e-3, batch_size=64, gradient_steps=16,
    critic_steps=50, tau=0.05, gamma=0.5, temperature=0.1,
)  # fmt: skip


def learn(model: DiscreteSAC, rollouts: int) -> None:
    for _ in model.rollouts(rollouts, CallbackList([])):
        pass


def test_sac_learns_the_identity_and_what_it_is_worth() -> None:
    model = make_sac(Identity(8), SAC, seed=1)
    learn(model, 45)
    seen = torch.eye(52)[:7]
    everything = torch.ones((7, 7), dtype=torch.bool)
    chances = model.log_probabilities(seen, everything).exp()
    assert chances.argmax(1).tolist() == list(range(7))
    # V is the soft value of the lower Q under the actor, and the temperature holds the entropy
    soft = (
        chances
        * (model.critics.lower(seen) - torch.tensor(model.shown.temperature) * chances.log())
    ).sum(1)
    values = value_of(model.policy)(seen)[:, 0]
    assert (values - soft).abs().max() < 0.25
    assert 1.0 < values.min() < values.max() < 2.5  # 1 a step, half of it the next, and entropy
    assert model.shown.entropy == pytest.approx(0.3 * np.log(7), abs=0.25)


def test_the_temperature_rises_where_entropy_is_short_and_falls_where_it_abounds() -> None:
    models = [make_sac(Identity(8), SAC, seed=1) for _ in range(2)]
    models[0].goal, models[1].goal = 0.0, 1.5
    for model in models:
        learn(model, 10)
    falling, rising = (model.shown.temperature for model in models)
    assert falling < SAC.temperature < rising


def test_the_actor_waits_for_fresh_q_networks() -> None:
    model = make_sac(Identity(8), SAC, seed=0)
    before = model.policy.action_net.bias.detach().clone()
    learn(model, 3)  # 48 of the 50 gradient steps
    assert torch.equal(model.policy.action_net.bias, before)
    assert model.shown.entropy is None
    learn(model, 1)
    assert not torch.equal(model.policy.action_net.bias, before)


def test_sac_takes_no_masked_action_and_gives_it_no_chance() -> None:
    env = KalshiVecEnv(UNIVERSE, 8, TradingConfig())
    model = make_sac(env, replace(SAC, mask_actions=True), seed=0)
    learn(model, 20)
    buffer = model.replay_buffer
    rows = np.arange(buffer.pos)[:, None], np.arange(8)[None, :], buffer.actions[: buffer.pos, :, 0]
    assert not model.masks[: buffer.pos].all()
    assert model.masks[rows].all()
    mask = torch.tensor([[True, False] * 3 + [True]])
    chances = model.log_probabilities(torch.zeros((1, 52)), mask).exp()
    assert (chances[~mask] == 0).all()


def test_a_non_finite_q_loss_stops_before_any_weight_moves() -> None:
    model = make_sac(Identity(8), SAC, seed=0)
    learn(model, 5)
    before = {name: t.clone() for name, t in model.critics.state_dict().items()}
    model.replay_buffer.rewards[:] = np.nan
    with pytest.raises(TrainingDiverged, match="q_1"):
        model.train(1, 16)
    assert all(torch.equal(t, before[name]) for name, t in model.critics.state_dict().items())


def test_a_replay_buffer_that_no_checkpoint_could_hold_is_refused() -> None:
    with pytest.raises(PlanError, match="buffer_size"):
        make_sac(Identity(8), replace(SAC, buffer_size=1_000_000), seed=0)


@pytest.mark.parametrize("broken", ["replay.rewards", "replay.next_row"])
def test_a_replay_buffer_of_another_shape_is_not_resumed(broken: str) -> None:
    kept: list[Snapshot] = []
    train("sac", keep=kept.append, checkpoint_every=ROLLOUT)
    checkpoint = kept[0].checkpoint
    wrong = {**checkpoint.environment, broken: checkpoint.environment[broken][..., :0]}
    with pytest.raises(CorruptCheckpoint):
        train("sac", resume=replace(kept[0], checkpoint=replace(checkpoint, environment=wrong)))


CLONING = CloningConfig(n_envs=6, n_steps=30, hidden=(16, 16), batch_size=64, gradient_steps=8)


def clone(config: CloningConfig, rollouts: int) -> Cloning:
    model = make_cloning(KalshiVecEnv(UNIVERSE, config.n_envs, TradingConfig()), config, seed=0)
    for _ in model.rollouts(rollouts, CallbackList([])):
        pass
    return model


def test_what_is_cloned_is_a_profitable_episode_step_by_step() -> None:
    env = KalshiVecEnv(UNIVERSE, CLONING.n_envs, TradingConfig())
    model = make_cloning(env, CLONING, seed=0)
    summaries: list[Any] = []
    judge = model._judge
    model._judge = lambda lane, summary: (  # type: ignore[method-assign]
        summaries.append((summary, list(model.playing[lane]))), judge(lane, summary)
    )[1]  # fmt: skip
    for _ in model.rollouts(10, CallbackList([])):
        pass
    won = [(summary, actions) for summary, actions in summaries if summary.pnl_micro > 0]
    assert model.ended.tolist() == [len(summaries), len(won)]
    assert 0 < len(won) < len(summaries)
    assert model.shown.profitable_share == pytest.approx(len(won) / len(summaries))
    assert model.winners.rows == sum(len(actions) for _, actions in won)
    row, simulator = 0, Simulator(UNIVERSE, 1, TradingConfig())
    for summary, actions in won:
        simulator.reset([0], [summary.episode])
        rewards = []
        for step, action in enumerate(actions):
            winners = model.winners
            np.testing.assert_array_equal(winners.observation[row + step], simulator.observation[0])
            np.testing.assert_array_equal(winners.mask[row + step], simulator.mask[0])
            assert winners.action[row + step] == action
            simulator.step([action])
            rewards.append(simulator.reward[0])
        discounted = sum(CLONING.gamma**n * reward for n, reward in enumerate(rewards))
        assert model.winners.value[row] == pytest.approx(discounted, rel=1e-5, abs=1e-7)
        row += len(actions)


def test_without_a_profitable_episode_nothing_is_cloned_and_the_count_is_told() -> None:
    idle = replace(CLONING, act_shares=(0.0,))
    with pytest.raises(NoProfitableEpisode, match=r"none of \d\d+ episodes"):
        clone(idle, 4)


def test_blind_chance_counts_as_if_every_valid_action_had_been_as_likely() -> None:
    model = clone(CLONING, 0)
    mask = torch.tensor([[True] * 7, [True, True] + [False] * 5])
    chances, weights = model.chances(torch.zeros((2, 52)), mask, torch.tensor([0.1, 0.5]))
    assert torch.allclose(chances.sum(1), torch.ones(2))
    assert chances[0, Action.HOLD] == pytest.approx(0.9 + 0.1 / 7)
    assert chances[1].tolist() == pytest.approx([0.75, 0.25, 0, 0, 0, 0, 0])
    even = mask / mask.sum(1, keepdim=True)
    assert torch.allclose(chances * weights, even)


def test_a_parent_plays_its_own_policy_to_the_end_of_the_phase() -> None:
    parent = train("ppo").final
    kept: list[Snapshot] = []
    train("bc", phase="phase_2", parent=parent, keep=kept.append, checkpoint_every=ROLLOUT)
    played = kept[-1].checkpoint.environment
    for name, weight in parent.policy.items():
        np.testing.assert_array_equal(played[f"behaviour.{name}"], weight)
    assert (played["winners.weight"] == 1).all()


def test_more_winners_than_a_checkpoint_could_hold_are_refused() -> None:
    config = replace(CLONING, buffer_size=MAX_TRANSITIONS)
    model = clone(config, 1)
    row = sum(column[0].nbytes for column in model.winners.arrays.values())
    assert MAX_TRANSITIONS * row < MAX_FILE_BYTES
    with pytest.raises(PlanError, match="buffer_size"):
        clone(replace(config, buffer_size=MAX_TRANSITIONS + 1), 1)


def test_the_newest_transitions_of_winners_are_kept() -> None:
    model = clone(replace(CLONING, buffer_size=50), 12)
    more = clone(replace(CLONING, buffer_size=5_000), 12)
    assert model.winners.rows == 50 < more.winners.rows
    # both played the same, as one learns from more: the behaviour does not depend on the clone
    newest = more.winners.value[more.winners.rows - 50 : more.winners.rows]
    assert sorted(model.winners.value.tolist()) == pytest.approx(sorted(newest.tolist()))
