"""PPO of Stable-Baselines3 with the plan's networks, compiled, and a guard before its optimiser."""

from __future__ import annotations

import logging
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import LearnerConfig, PPOConfig
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.learning.fast.blas import single_threaded
from kalshi_pipeline.learning.fast.eligibility import why_not
from kalshi_pipeline.learning.fast.engine import Engine, mean_losses
from kalshi_pipeline.learning.fast.rollout import advantages_of
from kalshi_pipeline.learning.fast.update import Hyper, Rollout
from kalshi_pipeline.learning.guards import gradient_diverged
from kalshi_pipeline.learning.on_policy import GuardedOnPolicy
from kalshi_pipeline.storage.sb3 import sb3_arguments
from kalshi_pipeline.trading.discount import discounts
from kalshi_pipeline.trading.vector import KalshiVecEnv

Device = Literal["auto", "cpu", "cuda"]
Ended = tuple[int, int, NDArray[np.float32]]  # step, lane and last observation of a cut episode

_LOG = logging.getLogger(__name__)


class MaskedRolloutBuffer(RolloutBuffer):
    """Keeps which actions were valid besides: `action_masks`, bool `[steps, lanes, actions]`."""

    def reset(self) -> None:
        """Forget the rollout."""
        super().reset()
        actions = int(cast(Any, self.action_space).n)
        self.action_masks = np.ones((self.buffer_size, self.n_envs, actions), np.bool_)


class FastPPO(GuardedOnPolicy, PPO):
    """PPO whose rollout and update are compiled; whatever is around them is Stable-Baselines3's.

    A model they do not serve (`eligibility.why_not`) is trained by PyTorch, after one line in the
    log. Either way training stops before a non-finite gradient moves the weights.

    Actions and the order of transitions are drawn from counters that the seed and `num_timesteps`
    fix: training that is resumed needs no generator's state.

    Args:
        arguments: those of `stable_baselines3.PPO`.
        threads: 2: actor and critic learn at the same time; 1: in turn, to the same weights.
        discount_unit_s: seconds of market time that gamma is of; 0: of a step, whatever it took.
        mask_actions: choose among the actions that `env_method("action_masks")` calls valid, and
            learn from them as sb3-contrib's MaskablePPO does.
        settings: those of `stable_baselines3.PPO`.
    """

    def __init__(
        self,
        *arguments: Any,
        threads: int = 2,
        mask_actions: bool = False,
        discount_unit_s: float = 0.0,
        **settings: Any,
    ) -> None:
        self.threads = threads
        self.discount_unit_s = discount_unit_s
        self.mask_actions = mask_actions
        self._engine: Engine | None = None
        self._obstacle: str | None = None
        super().__init__(*arguments, **settings)

    def _setup_model(self) -> None:
        if self.mask_actions and self.rollout_buffer_class is None:
            self.rollout_buffer_class = MaskedRolloutBuffer
        super()._setup_model()
        self._key = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine"]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer, as Stable-Baselines3 does; False where the callback stopped it."""
        engine = self._compiled()
        if engine is None:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        with single_threaded():
            return self._collect(engine, env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """Learn from the buffer, as Stable-Baselines3 does.

        Raises:
            TrainingDiverged: a gradient is not finite; the weights have not moved.
        """
        engine = self._compiled()
        if engine is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        buffer = self.rollout_buffer
        count = buffer.rewards.size
        generator = np.random.default_rng([int(self._key), self.num_timesteps])
        orders = np.stack([generator.permutation(count) for _ in range(self.n_epochs)])
        with single_threaded():
            losses, finite = engine.learn(
                self._transitions(), orders, self.batch_size, self._hyper(engine), self.threads
            )
        if not finite:
            bad = engine.weights.not_finite()
            named = self.policy.named_parameters()
            raise gradient_diverged(next(n for n, p in named if id(p) in bad), self.num_timesteps)
        self._n_updates += self.n_epochs
        figures = mean_losses(losses, self.n_epochs, (self.ent_coef, self.vf_coef))
        figures["explained_variance"] = explained_variance(
            buffer.values.ravel(), buffer.returns.ravel()
        )
        for name, figure in figures.items():
            self.logger.record(f"train/{name}", figure)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self._clip_range())

    def _collect(
        self,
        engine: Engine,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        cut: list[Ended] = []
        masks = self._every_action()
        elapsed_ms = np.zeros(rollout_buffer.rewards.shape, np.int64)
        for n_steps in range(n_rollout_steps):
            observations = cast(NDArray[np.float32], self._last_obs)
            if self.mask_actions:
                masks = np.stack(env.env_method("action_masks"))
                cast(MaskedRolloutBuffer, rollout_buffer).action_masks[n_steps] = masks
            log_probs = rollout_buffer.log_probs[n_steps]
            actions = engine.act(observations, masks, self._key, self.num_timesteps, log_probs)
            new_obs, rewards, dones, infos = env.step(actions)
            if self.discount_unit_s:
                elapsed_ms[n_steps] = cast(KalshiVecEnv, env).elapsed_ms
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            if dones.any():
                self._update_info_buffer(infos, dones)
                cut += [
                    (n_steps, int(lane), infos[lane]["terminal_observation"])
                    for lane in np.flatnonzero(dones)
                    if infos[lane].get("TimeLimit.truncated", False)
                ]
            rollout_buffer.observations[n_steps] = observations
            rollout_buffer.actions[n_steps, :, 0] = actions
            rollout_buffer.rewards[n_steps] = rewards
            rollout_buffer.episode_starts[n_steps] = self._last_episode_starts
            self.continue_from(cast(Any, new_obs), dones)
        rollout_buffer.pos, rollout_buffer.full = n_rollout_steps, True
        worth = discounts(elapsed_ms, self.gamma, self.discount_unit_s)
        self._look_back(engine, rollout_buffer, cut, worth)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _look_back(
        self,
        engine: Engine,
        buffer: RolloutBuffer,
        cut: list[Ended],
        worth: NDArray[np.float64],
    ) -> None:
        # values, the worth of what was cut off, and the advantages of a whole rollout at once
        width = buffer.observations.shape[-1]
        buffer.values = engine.values(buffer.observations.reshape(-1, width)).reshape(
            buffer.rewards.shape
        )
        if cut:
            steps, lanes, ends = zip(*cut, strict=True)
            left = engine.values(np.stack(ends))
            buffer.rewards[steps, lanes] += worth[steps, lanes].astype(np.float32) * left
        advantages_of(
            buffer.rewards, buffer.values, buffer.episode_starts,
            engine.values(cast(NDArray[np.float32], self._last_obs)), self.episode_starts,
            worth.astype(np.float32), (worth * self.gae_lambda).astype(np.float32),
            buffer.advantages, buffer.returns,
        )  # fmt: skip

    def _transitions(self) -> Rollout:
        # views; whoever called the buffer's `get` has put lanes before steps, in all arrays alike
        buffer = self.rollout_buffer
        rows = buffer.rewards.size
        masks = (
            buffer.action_masks if isinstance(buffer, MaskedRolloutBuffer) else self._every_action()
        )
        return Rollout(
            observations=buffer.observations.reshape(rows, -1),
            actions=buffer.actions.reshape(rows),
            masks=masks.reshape(-1, masks.shape[-1]),
            log_probs=buffer.log_probs.reshape(rows),
            advantages=buffer.advantages.reshape(rows),
            returns=buffer.returns.reshape(rows),
        )

    def _every_action(self) -> NDArray[np.bool_]:
        return np.ones((1, int(cast(Any, self.action_space).n)), np.bool_)

    def _compiled(self) -> Engine | None:
        obstacle = why_not(self)
        if obstacle is not None:
            compiled_only = {
                "mask_actions": self.mask_actions, "discount_unit_s": self.discount_unit_s,
            }  # fmt: skip
            if asked := [name for name, value in compiled_only.items() if value]:
                raise PlanError(
                    f"{asked[0]} is served by the compiled path alone, and {obstacle}: train on "
                    "the CPU, or without it",
                    rule=asked[0],
                )
            if obstacle != self._obstacle:
                _LOG.warning("PyTorch trains, not the compiled code: %s", obstacle)
            self._obstacle = obstacle
            return None
        if self._engine is None or self._engine.weights.policy is not self.policy:
            self._engine = Engine(self.policy)
        self._engine.weights.refresh()
        return self._engine

    def _clip_range(self) -> float:
        schedule = cast(Any, self.clip_range)
        return float(schedule(self._current_progress_remaining))

    def _hyper(self, engine: Engine) -> Hyper:
        adam = self.policy.optimizer.param_groups[0]
        return Hyper(
            clip_range=self._clip_range(),
            ent_coef=float(self.ent_coef),
            vf_coef=float(self.vf_coef),
            max_grad_norm=float(self.max_grad_norm),
            normalise=bool(self.normalize_advantage),
            learning_rate=float(adam["lr"]),
            beta_1=float(adam["betas"][0]),
            beta_2=float(adam["betas"][1]),
            epsilon=float(adam["eps"]),
            steps=engine.weights.steps,
        )


def make_ppo(env: VecEnv, config: PPOConfig, seed: int, device: Device = "cpu") -> FastPPO:
    """A fresh PPO that logs to memory only, on one torch thread.

    Stable-Baselines3 seeds the global generators of Python, NumPy and torch, and draws the first
    weights from torch's; nothing else in this package uses them.

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).
        device: "cpu": compiled; "cuda": PyTorch on the GPU; "auto": a GPU where there is one.

    Raises:
        PlanError: there is no GPU to use.
    """
    # more threads are slower at these sizes and stall when a core is taken
    torch.set_num_threads(1)
    settings = sb3_arguments(config) | {"device": device_of(device, config)}
    model = FastPPO(
        "MlpPolicy", env, seed=seed, mask_actions=config.mask_actions,
        discount_unit_s=config.discount_unit_s, **settings,
    )  # fmt: skip
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def device_of(device: Device, config: LearnerConfig) -> Literal["cpu", "cuda"]:
    """Where training with this configuration takes place on this machine.

    Args:
        device: what was asked for; "auto": a GPU where there is one that can do it.
        config: hyper-parameters, which name the algorithm.

    Raises:
        PlanError: a GPU was asked for, and there is none or it cannot do this.
    """
    there_is_one = torch.cuda.is_available()
    if device == "cuda" and not there_is_one:
        raise PlanError(
            "there is no GPU that PyTorch can use: train with --device cpu, or install a build of "
            "PyTorch with CUDA and a driver for it",
            rule="device",
            value=device,
        )
    able = isinstance(config, PPOConfig) and not (config.mask_actions or config.discount_unit_s)
    if device == "cuda" and not able:
        raise PlanError(
            "a GPU serves ppo alone, without mask_actions and discount_unit_s: use --device cpu",
            rule="device",
            value=device,
        )
    return "cuda" if there_is_one and able and device != "cpu" else "cpu"


def generator_states() -> dict[str, Any]:
    """States of the global generators that Stable-Baselines3 draws from, as JSON values."""
    permutations: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    key = permutations["state"]["key"].astype("<u4").tobytes().hex()
    gpu = {"cuda": torch.cuda.get_rng_state().numpy().tobytes().hex()} if _on_gpu() else {}
    return gpu | {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": {"key": key, "position": int(permutations["state"]["pos"])},
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Put the generators back where `generator_states` found them."""
    key = np.frombuffer(bytes.fromhex(states["numpy"]["key"]), "<u4")
    np.random.set_state(("MT19937", key, states["numpy"]["position"], 0, 0.0))  # noqa: NPY002
    torch.set_rng_state(_bytes_of(states["torch"]))
    if "cuda" in states:
        torch.cuda.set_rng_state(_bytes_of(states["cuda"]))


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())


def _bytes_of(text: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
