"""PPO of Stable-Baselines3 with the plan's networks, and a guard in front of its optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import TrainingDiverged
from kalshi_pipeline.storage.sb3 import sb3_arguments


class GuardedPPO(PPO):
    """Stock PPO that stops before a non-finite gradient moves the weights."""

    def _setup_model(self) -> None:
        super()._setup_model()
        self.policy.optimizer.register_step_pre_hook(self._refuse_non_finite)

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

    def _refuse_non_finite(self, *_: Any) -> None:
        # one fused norm a minibatch; the tensors are looked at singly only when it is not finite
        gradients = {
            name: parameter.grad
            for name, parameter in self.policy.named_parameters()
            if parameter.grad is not None
        }
        if not torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values()))):
            name = next(n for n, g in gradients.items() if not torch.isfinite(g).all())
            raise TrainingDiverged(
                f"the gradient of {name} stopped being finite",
                row=self.num_timesteps,
                rule="finite gradient",
            )


def make_ppo(env: VecEnv, config: PPOConfig, seed: int) -> GuardedPPO:
    """A fresh PPO on one torch thread that logs to memory only.

    Stable-Baselines3 seeds and draws from the global generators of Python, NumPy and torch; nothing
    else in this package uses them.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).
    """
    # more threads are slower at these sizes and stall when a core is taken
    torch.set_num_threads(1)
    model = GuardedPPO("MlpPolicy", env, seed=seed, **sb3_arguments(config))
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def generator_states() -> dict[str, Any]:
    """States of the global generators that Stable-Baselines3 draws from, as JSON values."""
    permutations: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    key = permutations["state"]["key"].astype("<u4").tobytes().hex()
    return {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": {"key": key, "position": int(permutations["state"]["pos"])},
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Put the generators back where `generator_states` found them."""
    key = np.frombuffer(bytes.fromhex(states["numpy"]["key"]), "<u4")
    np.random.set_state(("MT19937", key, states["numpy"]["position"], 0, 0.0))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(list(bytes.fromhex(states["torch"])), dtype=torch.uint8))
