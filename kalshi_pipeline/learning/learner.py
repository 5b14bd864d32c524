"""What a phase of training asks of an algorithm, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from kalshi_pipeline.config import LearnerConfig
from kalshi_pipeline.errors import CorruptCheckpoint
from kalshi_pipeline.storage.checkpoints import Checkpoint, Tensors
from kalshi_pipeline.storage.sb3 import restore, tensors_of

Model = TypeVar("Model", bound=BaseAlgorithm)


@dataclass(frozen=True)
class UpdateFigures:
    """What one update showed; None where an algorithm has no such figure.

    Args:
        entropy: mean entropy of the policy during the update, nats.
        approx_kl: mean approximate KL divergence in the last epoch, nats.
        clip_fraction: share of samples whose ratio was clipped.
        explained_variance: of the returns by the values; None also where the returns do not vary.
        value_loss: mean squared error of the values, dollars squared.
        policy_loss: mean loss of the actor, in the algorithm's own measure.
        q_loss: mean squared error of one Q network, dollars squared; SAC.
        temperature: what a nat of entropy is worth, dollars; SAC.
        profitable_share: of the episodes that ended so far, those that are cloned; cloning.
    """

    entropy: float | None = None
    approx_kl: float | None = None
    clip_fraction: float | None = None
    explained_variance: float | None = None
    value_loss: float | None = None
    policy_loss: float | None = None
    q_loss: float | None = None
    temperature: float | None = None
    profitable_share: float | None = None


class Learner(Protocol):
    """A network, its optimiser and how it learns from the lanes of a vector environment.

    A phase makes one, gives it weights with `start_from` or `resume`, and then pulls `updates`;
    between two of them it may take a checkpoint, adjust a knob, or stop.
    """

    @property
    def config(self) -> LearnerConfig:
        """What it was made with."""
        ...

    @property
    def timesteps(self) -> int:
        """Environment steps that its weights have learned from, parents included."""
        ...

    @property
    def network(self) -> nn.Module:
        """Actor and critic, under the names of `tensor_shapes`."""
        ...

    @property
    def actions(self) -> NDArray[np.integer]:
        """Actions of the last rollout, one entry a transition."""
        ...

    @property
    def observations(self) -> NDArray[np.float32]:
        """`[..., 52]` what those actions were chosen from, in their order."""
        ...

    @property
    def figures(self) -> UpdateFigures:
        """What the last update showed."""
        ...

    @property
    def knobs(self) -> dict[str, float]:
        """Settings that may be moved between two updates, as they stand."""
        ...

    def adjust(self, name: str, value: float) -> None:
        """Move a knob; it counts from the next update.

        Raises:
            KeyError: it has no such knob.
        """
        ...

    def updates(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """Collect a rollout of `config.rollout_steps` and learn, `count` times.

        Yields after each update. `callback` sees each step of the lanes, as in Stable-Baselines3.
        """
        ...

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Copies of weights and Adam moments, under the names of a checkpoint."""
        ...

    def extra(self) -> Tensors:
        """Copies of what the algorithm carries beyond those from phase to phase, float32."""
        ...

    def running(self) -> Mapping[str, NDArray[Any]]:
        """Copies of what it needs to go on exactly from between these two updates."""
        ...

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin with a parent's weights; with all it carries where the algorithm is the same."""
        ...

    def resume(self, checkpoint: Checkpoint, observation: NDArray[np.float32]) -> None:
        """Go on exactly where `checkpoint` was taken.

        Args:
            checkpoint: with the `running` tensors of such a learner in its environment.
            observation: `[lanes, 52]` what the restored lanes show.

        Raises:
            CorruptCheckpoint: a tensor is missing or of another shape.
        """
        ...


class ModelLearner(Generic[Model]):
    """What is the same for every algorithm built on Stable-Baselines3.

    Args:
        model: the algorithm, made with `network_arguments`.
        config: what it was made with.
    """

    def __init__(self, model: Model, config: LearnerConfig) -> None:
        self.model, self.config = model, config

    @property
    def timesteps(self) -> int:
        """See `Learner`."""
        return self.model.num_timesteps

    @property
    def network(self) -> nn.Module:
        """See `Learner`."""
        return self.model.policy

    @property
    def knobs(self) -> dict[str, float]:
        """See `Learner`."""
        return {"learning_rate": float(self.model.lr_schedule(1.0))}

    def adjust(self, name: str, value: float) -> None:
        """See `Learner`."""
        if name != "learning_rate":
            raise KeyError(name)
        self.model.lr_schedule = lambda _progress: value

    def tensors(self) -> tuple[Tensors, Tensors]:
        """See `Learner`."""
        return tensors_of(self.model)

    def extra(self) -> Tensors:
        """See `Learner`."""
        return {}

    def start_from(self, checkpoint: Checkpoint) -> None:
        """See `Learner`."""
        same = checkpoint.state.algorithm == self.config.algorithm
        restore(self.model, checkpoint, optimizer=same)

    def resume(
        self,
        checkpoint: Checkpoint,
        observation: NDArray[np.float32],  # noqa: ARG002 - of the subclass
    ) -> None:
        """See `Learner`."""
        restore(self.model, checkpoint)


def taken(
    tensors: Mapping[str, NDArray[Any]], name: str, dtype: DTypeLike, shape: tuple[int, ...]
) -> NDArray[Any]:
    """A copy of a checkpoint's tensor that a learner goes on with.

    Raises:
        CorruptCheckpoint: it is not there, or of another type or shape.
    """
    found = tensors.get(name)
    if found is None or (found.dtype, found.shape) != (dtype, shape):
        raise CorruptCheckpoint(
            f"{name} should be {np.dtype(dtype)} {shape}",
            rule="learner",
            value=None if found is None else (found.dtype.name, found.shape),
        )
    return found.copy()
