"""Behavioural cloning of the episodes that made money.

A behaviour plays: the parent's policy with its chance, or blind chance where there is no parent.
Episodes that end with a profit after fees are kept, and the actor learns to do what was done in
them (cross-entropy), the critic what they returned.

Two things to keep in mind. The episodes are chosen by their outcome, so luck is cloned with skill:
where there is nothing to find, a winner is a winner by chance, and its clone earns what the
behaviour earns, or less. Only an evaluation on other markets tells one from the other. And the
critic has seen winners alone: its values are too high, which a child's advantages, being centred,
hardly feel.

Source: Pomerleau 1991 (cloning); Oh et al. 2018, "Self-imitation learning" (of the good episodes).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from kalshi_pipeline.config import CloningConfig
from kalshi_pipeline.errors import NoProfitableEpisode, PlanError, TrainingDiverged
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.learning.guards import guard_optimizer
from kalshi_pipeline.learning.learner import UpdateFigures
from kalshi_pipeline.storage.checkpoints import ACTION_COUNT, MAX_FILE_BYTES
from kalshi_pipeline.storage.sb3 import network_arguments
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.vector import KalshiVecEnv

INVALID_LOGIT = -1e8
# 231 bytes each, and some room for the lanes, who plays and what they play
MAX_TRANSITIONS = MAX_FILE_BYTES // 231 * 9 // 10


@dataclass
class Winners:
    """The transitions of profitable episodes, the newest `size` of them; rows `[:rows]` are filled.

    Args:
        observation: `[size, 52]`.
        mask: `[size, 7]` what was valid.
        action: `[size]` what was done.
        weight: `[size]` how much it counts.
        value: `[size]` dollars that followed, discounted.
        rows: filled so far.
        next_row: written next.
    """

    observation: NDArray[np.float32]
    mask: NDArray[np.bool_]
    action: NDArray[np.int64]
    weight: NDArray[np.float32]
    value: NDArray[np.float32]
    rows: int = 0
    next_row: int = 0

    @classmethod
    def of_size(cls, size: int) -> Winners:
        """Room for `size` transitions."""
        return cls(
            np.zeros((size, OBSERVATION_WIDTH), np.float32),
            np.zeros((size, ACTION_COUNT), np.bool_),
            np.zeros(size, np.int64),
            np.zeros(size, np.float32),
            np.zeros(size, np.float32),
        )

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its columns by name, whole."""
        names = ("observation", "mask", "action", "weight", "value")
        return {name: getattr(self, name) for name in names}

    def add(self, episode: dict[str, NDArray[Any]]) -> None:
        """Write an episode over the oldest rows."""
        size = len(self.action)
        steps = min(size, len(episode["action"]))
        places = (self.next_row + np.arange(steps)) % size
        for name, column in self.arrays.items():
            column[places] = episode[name][-steps:]
        self.rows = min(size, self.rows + steps)
        self.next_row = (self.next_row + steps) % size


class Cloning(BaseAlgorithm):
    """Learns to do what was done in profitable episodes.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).

    Attributes:
        behaviour: the parent's policy, which plays; None: blind chance.
        winners: what is learned from.
        playing: the actions of each lane's episode so far.
        ended: episodes that ended, and how many of them with a profit.
        shown: figures of the last update.
        actions: `[n_steps, lanes]` of the last rollout.
        observations: `[n_steps, lanes, 52]` of the last rollout.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": ActorCriticPolicy}
    policy: ActorCriticPolicy

    def __init__(self, env: KalshiVecEnv, config: CloningConfig, seed: int) -> None:
        super().__init__(
            "MlpPolicy",
            env,
            learning_rate=config.learning_rate,
            seed=seed,
            support_multi_env=True,
            supported_action_spaces=(spaces.Discrete,),
            **network_arguments(config),
        )
        self.config, self.lanes = config, env
        self.behaviour: ActorCriticPolicy | None = None
        self.winners = Winners.of_size(config.buffer_size)
        self.playing: list[list[int]] = [[] for _ in range(config.n_envs)]
        self.ended = np.zeros(2, np.int64)
        self.shown = UpdateFigures()
        self.actions = np.zeros((config.n_steps, config.n_envs), np.int64)
        self.observations = np.zeros((*self.actions.shape, OBSERVATION_WIDTH), np.float32)
        # blind chance that acts at every step pays the spread at every step and hardly ever wins
        shares = np.asarray(config.act_shares, np.float32)
        self._acts = torch.tensor(shares[np.arange(config.n_envs) % len(shares)])
        self._replay = Simulator(env.simulator.universe, 1, env.simulator.config)
        self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = cast(type[ActorCriticPolicy], self.policy_class)(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        guard_optimizer(self.policy.optimizer, self.policy, lambda: self.num_timesteps)

    def learn(self, total_timesteps: int, callback: Any = None, *_: Any, **__: Any) -> Cloning:
        """Of Stable-Baselines3: rollouts until `total_timesteps` were taken."""
        for _update in self.rollouts(-(-total_timesteps // self.config.rollout_steps), callback):
            pass
        return self

    def follow(self, policy: ActorCriticPolicy) -> None:
        """Let a copy of this policy play from now on."""
        self.behaviour = copy.deepcopy(policy)

    def rollouts(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """Play and learn, `count` times; yields after each update.

        Raises:
            NoProfitableEpisode: none has ended with a profit, to the last.
        """
        steps = count * self.config.rollout_steps
        _, callback = self._setup_learn(steps, callback, reset_num_timesteps=False)
        for done in range(1, count + 1):
            self._play(callback)
            self._update_learning_rate(self.policy.optimizer)
            if self.winners.rows:
                self._clone()
            elif done == count:
                raise NoProfitableEpisode(
                    f"none of {self.ended[0]} episodes ended with a profit after fees: there is "
                    "nothing to clone; play longer, or from a parent that sometimes wins",
                    rule="episodes with a profit >= 1",
                    value=0,
                )
            yield

    def chances(self, observation: Tensor, mask: Tensor, acts: Tensor) -> tuple[Tensor, Tensor]:
        """What the behaviour does.

        Args:
            observation: `[n, 52]`.
            mask: `[n, 7]` what is valid.
            acts: `[n]` share of the steps at which blind chance does not hold.

        Returns:
            `[n, 7]` chance of each action, and `[n, 7]` how much it counts when it was taken: blind
            chance that mostly holds is weighed as if every valid action had been as likely.
        """
        if self.behaviour is not None:
            hidden = self.behaviour.mlp_extractor.forward_actor(observation)
            chances = torch.softmax(masked(self.behaviour.action_net(hidden), mask, self.config), 1)
            return chances, torch.ones_like(chances)
        valid = mask.float()
        even = valid / valid.sum(1, keepdim=True)
        chances = even * acts[:, None]
        chances[:, Action.HOLD] += 1 - acts
        return chances, torch.where(mask, even / chances.clamp(min=1e-6), 0.0)

    def _play(self, callback: BaseCallback) -> None:
        env = self.lanes
        callback.on_rollout_start()
        for step in range(self.config.n_steps):
            observation = np.asarray(self._last_obs, np.float32)
            mask = torch.tensor(env.action_masks())
            with torch.no_grad():
                chances, _ = self.chances(torch.tensor(observation), mask, self._acts)
                actions = torch.multinomial(chances, 1).numpy()[:, 0]
            self.actions[step], self.observations[step] = actions, observation
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(
                {"rewards": rewards, "dones": dones, "infos": infos, "new_obs": new_obs}
            )
            callback.on_step()
            for lane, action in enumerate(actions.tolist()):
                self.playing[lane].append(action)
            for lane in np.flatnonzero(dones).tolist():
                self._judge(lane, infos[lane]["summary"])
            self._last_obs = cast(Any, new_obs)
        callback.on_rollout_end()

    def _judge(self, lane: int, summary: EpisodeSummary) -> None:
        actions, self.playing[lane] = self.playing[lane], []
        profitable = summary.pnl_micro > 0
        self.ended += (1, profitable)
        if profitable:
            self.winners.add(self._played_again(lane, summary, actions))

    def _played_again(
        self, lane: int, summary: EpisodeSummary, actions: list[int]
    ) -> dict[str, NDArray[Any]]:
        """The transitions of an episode, from its actions: the simulator is deterministic."""
        simulator, steps = self._replay, len(actions)
        episode = {name: c[:1].repeat(steps, 0) for name, c in self.winners.arrays.items()}
        rewards = np.zeros(steps)
        simulator.reset([0], [summary.episode])
        for _ in range(summary.steps - steps):  # a lane's first episode may begin within it, held
            simulator.step([Action.HOLD])
        for step, action in enumerate(actions):
            episode["observation"][step] = simulator.observation[0]
            episode["mask"][step] = simulator.mask[0]
            simulator.step([action])
            rewards[step] = simulator.reward[0]
        if simulator.summary(0).pnl_micro != summary.pnl_micro:
            raise TrainingDiverged(
                "an episode played again earned something else: a fault of the simulator",
                row=self.num_timesteps,
                rule="deterministic simulator",
                value=(summary.pnl_micro, simulator.summary(0).pnl_micro),
            )
        episode["action"][:] = actions
        with torch.no_grad():
            acts = self._acts[lane].expand(steps)
            seen = torch.tensor(episode["observation"]), torch.tensor(episode["mask"])
            weights = self.chances(*seen, acts)[1].numpy()
        episode["weight"][:] = weights[np.arange(steps), actions]
        later = 0.0
        for step in reversed(range(steps)):
            later = episode["value"][step] = rewards[step] + self.config.gamma * later
        return episode

    def _clone(self) -> None:
        """Gradient steps on batches of what profitable episodes did."""
        self.policy.set_training_mode(True)
        seen = []
        for _ in range(self.config.gradient_steps):
            places = torch.randint(self.winners.rows, (self.config.batch_size,)).numpy()
            observation, mask, action, weight, value = (
                torch.tensor(column[places]) for column in self.winners.arrays.values()
            )
            latent, latent_value = self.policy.mlp_extractor(observation)
            logits = masked(self.policy.action_net(latent), mask, self.config)
            log_chances = torch.log_softmax(logits, 1)
            chosen = log_chances.gather(1, action[:, None])[:, 0]
            policy_loss = -(weight * chosen).sum() / weight.sum().clamp(min=1e-6)
            value_loss = nn.functional.mse_loss(self.policy.value_net(latent_value)[:, 0], value)
            self.policy.optimizer.zero_grad()
            (policy_loss + self.config.vf_coef * value_loss).backward()
            self.policy.optimizer.step()
            entropy = -(log_chances.exp() * log_chances).sum(1).mean()
            seen.append((entropy.item(), value_loss.item(), policy_loss.item()))
        entropies, value_losses, policy_losses = np.mean(seen, axis=0).tolist()
        self.shown = UpdateFigures(
            entropy=entropies,
            value_loss=value_losses,
            policy_loss=policy_losses,
            profitable_share=float(self.ended[1] / self.ended[0]),
        )


def masked(logits: Tensor, mask: Tensor, config: CloningConfig) -> Tensor:
    """`[n, 7]` logits, where the configuration wants it without the actions that are not valid."""
    return logits.masked_fill(~mask, INVALID_LOGIT) if config.mask_actions else logits


def make_cloning(env: KalshiVecEnv, config: CloningConfig, seed: int) -> Cloning:
    """A fresh learner on one torch thread that logs to memory only.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).

    Raises:
        PlanError: what is to be cloned would not fit into a checkpoint.
    """
    if config.buffer_size > MAX_TRANSITIONS:
        raise PlanError(
            "so many transitions cannot be kept in a checkpoint: make buffer_size smaller",
            rule=f"buffer_size <= {MAX_TRANSITIONS}",
            value=config.buffer_size,
        )
    torch.set_num_threads(1)
    model = Cloning(env, config, seed)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model
