"""Soft actor-critic for discrete actions, on the replay machinery of Stable-Baselines3.

Stable-Baselines3's own SAC takes continuous actions only. This one keeps the value network of the
first paper: V is what stands in the Bellman target, so a parent's critic is of use from the first
step, and V is what a child under another algorithm continues from. With seven actions every
expectation over them is a sum, so that nothing needs to be sampled.

Source: Haarnoja et al. 2018, "Soft actor-critic" (V, its target, two Q networks) and "Soft
actor-critic algorithms and applications" (temperature); Christodoulou 2019 (discrete actions).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from kalshi_pipeline.config import SACConfig
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.learning.guards import guard_optimizer
from kalshi_pipeline.learning.learner import UpdateFigures
from kalshi_pipeline.storage.checkpoints import ACTION_COUNT, MAX_FILE_BYTES
from kalshi_pipeline.storage.sb3 import network_arguments
from kalshi_pipeline.trading.vector import KalshiVecEnv

# 443 bytes each, and some room for the lanes
MAX_TRANSITIONS = MAX_FILE_BYTES // 443 * 9 // 10
INVALID_LOGIT = -1e8  # a probability of exactly 0, and no infinity to multiply it with


class Batch(NamedTuple):
    """Transitions drawn from the replay buffer, `[batch, ...]` each."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    ended: Tensor  # 1 where nothing follows; a truncated episode goes on in V
    mask: Tensor


class SoftCritics(nn.Module):
    """What SAC has beside actor and V: two Q networks, the slow copy of V, the temperature."""

    def __init__(self, policy: ActorCriticPolicy, inputs: int, config: SACConfig) -> None:
        super().__init__()

        def network() -> nn.Sequential:
            layers: list[nn.Module] = []
            width = inputs
            for following in config.hidden:
                layers += [nn.Linear(width, following), nn.ReLU()]
                width = following
            head = nn.Linear(width, ACTION_COUNT)
            nn.init.zeros_(head.weight)  # no action is better than another until one is
            nn.init.zeros_(head.bias)
            return nn.Sequential(*layers, head)

        self.q_1, self.q_2 = network(), network()
        self.slow_value = copy.deepcopy(value_of(policy)).requires_grad_(requires_grad=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def lower(self, observation: Tensor) -> Tensor:
        """`[batch, 7]` the smaller of the two Q values."""
        return torch.minimum(self.q_1(observation), self.q_2(observation))


def value_of(policy: ActorCriticPolicy) -> nn.Sequential:
    """The critic of an actor-critic policy as one network; it shares the policy's weights."""
    return nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)


class DiscreteSAC(OffPolicyAlgorithm):
    """SAC over seven actions.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).

    Attributes:
        critics: what it has beside the policy.
        shown: figures of the last update.
        actions: `[n_steps, lanes]` of the last rollout.
        observations: `[n_steps, lanes, 52]` of the last rollout.
        masks: `[rows, lanes, 7]` beside the rows of the replay buffer.
        goal: share of the largest possible entropy that the temperature aims at.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": ActorCriticPolicy}
    policy: ActorCriticPolicy
    replay_buffer: ReplayBuffer

    def __init__(self, env: VecEnv, config: SACConfig, seed: int) -> None:
        arguments = network_arguments(config)
        # Stable-Baselines3's PPO lifts Adam's epsilon to 1e-5, which is no small number beside the
        # gradients of a few cents
        arguments["policy_kwargs"]["optimizer_kwargs"] = {"eps": 1e-8}
        super().__init__(
            "MlpPolicy",
            env,
            learning_rate=config.learning_rate,
            buffer_size=config.buffer_size,
            batch_size=config.batch_size,
            learning_starts=0,  # a fresh policy is as good as uniform, and a parent's is better
            tau=config.tau,
            gamma=config.gamma,
            train_freq=(config.n_steps, "step"),
            gradient_steps=config.gradient_steps,
            seed=seed,
            sde_support=False,
            support_multi_env=True,
            supported_action_spaces=(spaces.Discrete,),
            **arguments,
        )
        self.config = config
        self.goal = config.entropy_share
        self.shown = UpdateFigures()
        self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        lanes, rows = self.n_envs, self.replay_buffer.buffer_size
        inputs = self.replay_buffer.obs_shape[0]
        self.masks = np.ones((rows, lanes, ACTION_COUNT), np.bool_)
        self.actions = np.zeros((self.config.n_steps, lanes), np.int64)
        self.observations = np.zeros((self.config.n_steps, lanes, inputs), np.float32)
        self.critics = SoftCritics(self.policy, inputs, self.config)
        rate = self.config.learning_rate
        qs = [*self.critics.q_1.parameters(), *self.critics.q_2.parameters()]
        self.q_optimizer = torch.optim.Adam(qs, lr=rate)
        self.temperature_optimizer = torch.optim.Adam(
            [self.critics.log_temperature], lr=self.config.temperature_rate
        )
        for optimizer, network in (
            (self.policy.optimizer, self.policy),
            (self.q_optimizer, self.critics),
            (self.temperature_optimizer, self.critics),
        ):
            guard_optimizer(optimizer, network, lambda: self.num_timesteps)

    @property
    def q_steps(self) -> int:
        """Gradient steps that the Q networks have taken, parents included."""
        state = self.q_optimizer.state.get(next(self.critics.q_1.parameters()))
        return int(state["step"]) if state else 0

    def rollouts(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """Collect a rollout and learn from the buffer, `count` times; yields after each update."""
        steps = count * self.config.rollout_steps
        _, callback = self._setup_learn(steps, callback, reset_num_timesteps=False)
        env, frequency = cast(VecEnv, self.env), cast(TrainFreq, self.train_freq)
        for _ in range(count):
            self._step = 0
            self.collect_rollouts(env, callback, frequency, self.replay_buffer)
            self.train(self.gradient_steps, self.batch_size)
            yield

    def log_probabilities(self, observation: Tensor, mask: Tensor) -> Tensor:
        """`[batch, 7]` of the actor; invalid actions have none."""
        latent = self.policy.mlp_extractor.forward_actor(observation)
        logits = self.policy.action_net(latent).masked_fill(~mask, INVALID_LOGIT)
        return torch.log_softmax(logits, dim=1)

    def _mask_now(self) -> NDArray[np.bool_]:
        if self.config.mask_actions:
            return cast(KalshiVecEnv, self.env).action_masks()
        return np.ones((self.n_envs, ACTION_COUNT), np.bool_)

    def _sample_action(self, *_: Any, **__: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        observation = np.asarray(self._last_obs, np.float32)
        mask = self._mask_now()
        self.masks[self.replay_buffer.pos] = mask
        with torch.no_grad():
            chances = self.log_probabilities(torch.tensor(observation), torch.tensor(mask)).exp()
            actions = torch.multinomial(chances, 1).numpy()[:, 0]
        self.actions[self._step], self.observations[self._step] = actions, observation
        self._step += 1
        return actions, actions

    def _draw(self, size: int) -> Batch:
        buffer = self.replay_buffer
        rows = torch.randint(buffer.buffer_size if buffer.full else buffer.pos, (size,)).numpy()
        place = rows, torch.randint(self.n_envs, (size,)).numpy()
        return Batch(
            torch.tensor(buffer.observations[place]),
            torch.tensor(buffer.actions[place]),
            torch.tensor(buffer.rewards[place]),
            torch.tensor(buffer.next_observations[place]),
            torch.tensor(buffer.dones[place] * (1 - buffer.timeouts[place])),
            torch.tensor(self.masks[place]),
        )

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Take gradient steps on batches of the replay buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.policy.optimizer, self.q_optimizer])
        seen = []
        for _ in range(gradient_steps):
            batch = self._draw(batch_size)
            q_loss = self._learn_q(batch)
            # the actor follows Q, so Q comes first: fresh networks would lead a parent astray
            if self.q_steps > self.config.critic_steps:
                seen.append((q_loss, *self._learn_policy(batch)))
                polyak_update(
                    value_of(self.policy).parameters(),
                    self.critics.slow_value.parameters(),
                    self.tau,
                )
        self.shown = UpdateFigures()
        if seen:
            q_loss, policy_loss, value_loss, entropy = np.mean(seen, axis=0).tolist()
            self.shown = UpdateFigures(
                entropy=entropy,
                value_loss=value_loss,
                policy_loss=policy_loss,
                q_loss=q_loss,
                temperature=self.critics.log_temperature.exp().item(),
            )

    def _learn_q(self, batch: Batch) -> float:
        with torch.no_grad():
            following = self.critics.slow_value(batch.following)[:, 0]
            target = batch.reward + self.gamma * (1 - batch.ended) * following
        loss = torch.zeros(())
        for network in (self.critics.q_1, self.critics.q_2):
            chosen = network(batch.observation).gather(1, batch.action)[:, 0]
            loss = loss + nn.functional.mse_loss(chosen, target)
        self.q_optimizer.zero_grad()
        loss.backward()
        self.q_optimizer.step()
        return loss.item() / 2

    def _learn_policy(self, batch: Batch) -> tuple[float, float, float]:
        """One step of actor, V and temperature: losses of actor and V, and the entropy."""
        log_chances = self.log_probabilities(batch.observation, batch.mask)
        chances = log_chances.exp()
        temperature = self.critics.log_temperature.exp().detach()
        with torch.no_grad():
            worth = self.critics.lower(batch.observation)
            value = (chances * (worth - temperature * log_chances)).sum(1)
            entropy = -(chances * log_chances).sum(1)
            largest = batch.mask.sum(1).log()
        # in units of the temperature: nats, whatever a dollar is
        policy_loss = (chances * (log_chances - worth / temperature)).sum(1).mean()
        value_loss = nn.functional.mse_loss(value_of(self.policy)(batch.observation)[:, 0], value)
        self.policy.optimizer.zero_grad()
        (policy_loss + value_loss).backward()
        self.policy.optimizer.step()

        surplus = (entropy - self.goal * largest).mean()
        self.temperature_optimizer.zero_grad()
        (self.critics.log_temperature * surplus).backward()
        self.temperature_optimizer.step()
        return policy_loss.item(), value_loss.item(), entropy.mean().item()


def make_sac(env: VecEnv, config: SACConfig, seed: int) -> DiscreteSAC:
    """A fresh SAC on one torch thread that logs to memory only.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).

    Raises:
        PlanError: the replay buffer would not fit into a checkpoint.
    """
    if config.buffer_size > MAX_TRANSITIONS:
        raise PlanError(
            "a replay buffer of this size cannot be kept in a checkpoint: make buffer_size smaller",
            rule=f"buffer_size <= {MAX_TRANSITIONS}",
            value=config.buffer_size,
        )
    torch.set_num_threads(1)
    model = DiscreteSAC(env, config, seed)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model
