"""What PPO and its kin have in common: rollouts one by one, and a guard before the optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.learning.guards import guard_optimizer
from kalshi_pipeline.learning.learner import ModelLearner, UpdateFigures, taken
from kalshi_pipeline.storage.checkpoints import Checkpoint


class GuardedOnPolicy(OnPolicyAlgorithm):
    """Stops before a non-finite gradient moves the weights, and hands each update to the caller."""

    def _setup_model(self) -> None:
        super()._setup_model()
        guard_optimizer(self.policy.optimizer, self.policy, lambda: self.num_timesteps)

    @property
    def episode_starts(self) -> NDArray[np.bool_]:
        """`[lanes]` whether the next observation is the first of an episode."""
        return np.asarray(self._last_episode_starts, np.bool_)

    def continue_from(
        self, observation: NDArray[np.float32], episode_starts: NDArray[np.bool_]
    ) -> None:
        """Begin the next rollout here, instead of by resetting the environment."""
        self._last_obs, self._last_episode_starts = observation, episode_starts

    def rollouts(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """Collect a rollout and learn from it, `count` times; yields after each update."""
        steps = count * self.n_steps * self.n_envs
        _, callback = self._setup_learn(steps, callback, reset_num_timesteps=False)
        env = cast(VecEnv, self.env)
        for _ in range(count):
            self.collect_rollouts(env, callback, self.rollout_buffer, self.n_steps)
            self.train()
            yield


class OnPolicyLearner(ModelLearner[GuardedOnPolicy]):
    """All they need to go on lies in the weights and the lanes."""

    @property
    def actions(self) -> NDArray[np.integer]:
        """See `Learner`."""
        actions: NDArray[np.integer] = self.model.rollout_buffer.actions.astype(np.int64)
        return actions

    @property
    def observations(self) -> NDArray[np.float32]:
        """See `Learner`."""
        observations: NDArray[np.float32] = self.model.rollout_buffer.observations
        return observations

    @property
    def figures(self) -> UpdateFigures:
        """See `Learner`."""
        logged = {name: float(v) for name, v in self.model.logger.name_to_value.items()}
        explained = logged["train/explained_variance"]
        return UpdateFigures(
            entropy=-logged["train/entropy_loss"],
            approx_kl=logged.get("train/approx_kl"),
            clip_fraction=logged.get("train/clip_fraction"),
            explained_variance=explained if np.isfinite(explained) else None,
            value_loss=logged["train/value_loss"],
            policy_loss=logged.get("train/policy_gradient_loss", logged.get("train/policy_loss")),
        )

    @property
    def knobs(self) -> dict[str, float]:
        """See `Learner`."""
        knobs = {**super().knobs, "ent_coef": float(self.model.ent_coef)}
        if isinstance(self.model, PPO):
            knobs["clip_range"] = float(cast(Schedule, self.model.clip_range)(1.0))
            knobs["n_epochs"] = float(self.model.n_epochs)
        return knobs

    def adjust(self, name: str, value: float) -> None:
        """See `Learner`."""
        if name == "ent_coef":
            self.model.ent_coef = value
        elif name == "n_epochs" and isinstance(self.model, PPO):
            self.model.n_epochs = int(value)
        elif name == "clip_range" and isinstance(self.model, PPO):
            self.model.clip_range = lambda _progress: value
        else:
            super().adjust(name, value)

    def updates(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """See `Learner`."""
        yield from self.model.rollouts(count, callback)

    def running(self) -> Mapping[str, NDArray[Any]]:
        """See `Learner`."""
        return {"episode_starts": self.model.episode_starts.copy()}

    def resume(self, checkpoint: Checkpoint, observation: NDArray[np.float32]) -> None:
        """See `Learner`."""
        super().resume(checkpoint, observation)
        lanes = (self.config.n_envs,)
        starts = taken(checkpoint.environment, "episode_starts", np.bool_, lanes)
        self.model.continue_from(observation, starts)
