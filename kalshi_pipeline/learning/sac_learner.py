"""SAC as a phase of training sees it: what is carried on, and how it is taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from kalshi_pipeline.errors import CorruptCheckpoint
from kalshi_pipeline.learning.learner import ModelLearner, UpdateFigures, taken
from kalshi_pipeline.learning.sac import DiscreteSAC, value_of
from kalshi_pipeline.storage.checkpoints import Checkpoint, Tensors
from kalshi_pipeline.storage.sb3 import moments_of, put_moments

REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class SACLearner(ModelLearner[DiscreteSAC]):
    """Carries the soft critics from phase to phase, and the replay buffer within one."""

    @property
    def actions(self) -> NDArray[np.integer]:
        """See `Learner`."""
        return self.model.actions

    @property
    def observations(self) -> NDArray[np.float32]:
        """See `Learner`."""
        return self.model.observations

    @property
    def figures(self) -> UpdateFigures:
        """See `Learner`."""
        return self.model.shown

    @property
    def knobs(self) -> dict[str, float]:
        """See `Learner`."""
        return {**super().knobs, "entropy_share": self.model.goal}

    def adjust(self, name: str, value: float) -> None:
        """See `Learner`."""
        if name == "entropy_share":
            self.model.goal = value
        else:
            super().adjust(name, value)

    def updates(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """See `Learner`."""
        yield from self.model.rollouts(count, callback)

    def extra(self) -> Tensors:
        """See `Learner`."""
        critics = self.model.critics
        weights = {name: t.detach().numpy().copy() for name, t in critics.state_dict().items()}
        return {**weights, **self._moments()}

    def running(self) -> Mapping[str, NDArray[Any]]:
        """See `Learner`."""
        buffer = self.model.replay_buffer
        rows = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {f"replay.{name}": getattr(buffer, name)[:rows].copy() for name in REPLAY}
        arrays["replay.masks"] = self.model.masks[:rows].copy()
        return {**arrays, "replay.next_row": np.array([buffer.pos])}

    def start_from(self, checkpoint: Checkpoint) -> None:
        """See `Learner`."""
        super().start_from(checkpoint)
        if checkpoint.state.algorithm == self.config.algorithm:
            self._take_extra(checkpoint)
        else:  # V is known, only Q is to be found
            known = value_of(self.model.policy).state_dict()
            self.model.critics.slow_value.load_state_dict(known)

    def resume(self, checkpoint: Checkpoint, observation: NDArray[np.float32]) -> None:
        """See `Learner`."""
        super().resume(checkpoint, observation)
        self._take_extra(checkpoint)
        self.model._last_obs = observation
        kept, buffer = checkpoint.environment, self.model.replay_buffer
        rows = len(kept["replay.rewards"]) if "replay.rewards" in kept else 0
        position = int(taken(kept, "replay.next_row", np.int64, (1,))[0])
        full = rows == buffer.buffer_size
        if not (0 < rows <= buffer.buffer_size and (full or position == rows)):
            raise CorruptCheckpoint("the replay buffer has no such row", rule="replay", value=rows)
        arrays = {name: getattr(buffer, name) for name in REPLAY} | {"masks": self.model.masks}
        for name, array in arrays.items():
            array[:rows] = taken(kept, f"replay.{name}", array.dtype, (rows, *array.shape[1:]))
        buffer.full, buffer.pos = full, position % buffer.buffer_size

    def _optimizers(self) -> tuple[tuple[Any, list[tuple[str, Any]]], ...]:
        named = list(self.model.critics.named_parameters())
        return (
            (self.model.q_optimizer, [(n, p) for n, p in named if n.startswith("q_")]),
            (self.model.temperature_optimizer, [(n, p) for n, p in named if n.startswith("log_")]),
        )

    def _moments(self) -> Tensors:
        moments: dict[str, NDArray[np.float32]] = {}
        for optimizer, parameters in self._optimizers():
            moments.update(moments_of(optimizer, parameters))
        return moments

    def _take_extra(self, checkpoint: Checkpoint) -> None:
        critics = self.model.critics
        weights = {
            name: torch.tensor(taken(checkpoint.extra, name, np.float32, tuple(tensor.shape)))
            for name, tensor in critics.state_dict().items()
        }
        moments = {
            name: taken(checkpoint.extra, name, np.float32, moment.shape)
            for name, moment in self._moments().items()
        }
        critics.load_state_dict(weights)
        for optimizer, parameters in self._optimizers():
            put_moments(optimizer, [name for name, _ in parameters], moments)
