"""What happens inside a rollout: a check on every step, and the facts diagnostics are made of."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from kalshi_pipeline.learning.guards import check_observations, check_rewards, check_rollout
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.vector import KalshiVecEnv


class Watch(BaseCallback):
    """Callback of one phase.

    Args:
        env: the environment of the phase.
        reward_bound: largest honest |reward| of one step, dollars.
        n_steps: steps of each lane in a rollout.

    Attributes:
        rewards: `[n_steps, lanes]` dollars of the rollout, as the environment gave them (those of
            the rollout buffer have the value of a truncated end added).
        ended: summaries of the episodes that ended in the rollout.
    """

    def __init__(self, env: KalshiVecEnv, reward_bound: float, n_steps: int) -> None:
        super().__init__()
        self.rewards = np.empty((0, 0))
        self.ended: list[EpisodeSummary] = []
        self._env = env
        self._bound, self._n_steps = reward_bound, n_steps
        self._markets = np.array([episode.market for episode in env.simulator.universe.episodes])
        self._played: list[NDArray[np.str_]] = []  # market of each transition, by step
        self._playing = np.empty(0, np.str_)

    def _on_rollout_start(self) -> None:
        self.rewards = np.zeros((self._n_steps, self._env.num_envs))
        self.ended, self._played = [], []
        self._playing = self._markets_now()
        check_observations(cast(Any, self.model._last_obs), self._playing, self.num_timesteps)

    def _on_step(self) -> bool:
        rewards, dones, infos = (self.locals[name] for name in ("rewards", "dones", "infos"))
        check_rewards(rewards, self._bound, self._playing, self.num_timesteps)
        self.rewards[len(self._played)] = rewards
        self._played.append(self._playing)
        if dones.any():  # those lanes have begun their next episode
            self.ended += [infos[lane]["summary"] for lane in np.flatnonzero(dones)]
            self._playing = self._markets_now()
        check_observations(self.locals["new_obs"], self._playing, self.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):  # what others learn from is not this rollout
            before = self.num_timesteps - self.rewards.size
            check_rollout(self.model.rollout_buffer, np.array(self._played), before)

    def _markets_now(self) -> NDArray[np.str_]:
        return self._markets[self._env.simulator.state.account[:, Account.EPISODE]]
