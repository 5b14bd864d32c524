"""Toy vector environments of the observation and action spaces of the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.storage.checkpoints import ACTION_COUNT


class Identity(VecEnv):
    """Pays 1 for the action whose column is lit in the observation; episodes of 8 steps."""

    def __init__(self, lanes: int, seed: int = 0) -> None:
        super().__init__(
            lanes,
            spaces.Box(-1, 2, (OBSERVATION_WIDTH,), np.float32),
            spaces.Discrete(ACTION_COUNT),
        )
        self._rng = np.random.default_rng(seed)
        self._steps = 0

    def _observe(self) -> np.ndarray:
        self.lit = self._rng.integers(ACTION_COUNT, size=self.num_envs)
        return np.eye(OBSERVATION_WIDTH, dtype=np.float32)[self.lit]

    def reset(self) -> np.ndarray:
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        self._steps += 1
        rewards = (self._actions == self.lit).astype(np.float32)
        dones = np.full(self.num_envs, self._steps % 8 == 0)
        return self._observe(), rewards, dones, [{} for _ in range(self.num_envs)]

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> Sequence[bool]:
        return [False] * self.num_envs
