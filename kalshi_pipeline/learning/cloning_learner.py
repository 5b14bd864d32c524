"""Cloning as a phase of training sees it: what is carried on, and how it is taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from kalshi_pipeline.errors import CorruptCheckpoint
from kalshi_pipeline.learning.cloning import Cloning
from kalshi_pipeline.learning.learner import ModelLearner, UpdateFigures, taken
from kalshi_pipeline.storage.checkpoints import Checkpoint


class CloningLearner(ModelLearner[Cloning]):
    """Carries nothing from phase to phase; within one, what it learns from and who plays."""

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

    def updates(self, count: int, callback: BaseCallback) -> Iterator[None]:
        """See `Learner`."""
        yield from self.model.rollouts(count, callback)

    def running(self) -> Mapping[str, NDArray[Any]]:
        """See `Learner`."""
        model, winners = self.model, self.model.winners
        arrays = {
            f"winners.{name}": column[: winners.rows].copy()
            for name, column in winners.arrays.items()
        }
        played = [np.array(actions, np.int64) for actions in model.playing]
        state = model.behaviour.state_dict() if model.behaviour is not None else {}
        return {
            **arrays,
            **{f"behaviour.{name}": tensor.numpy().copy() for name, tensor in state.items()},
            "winners.next_row": np.array([winners.next_row]),
            "playing.steps": np.array([len(actions) for actions in played]),
            "playing.actions": np.concatenate(played),
            "ended": model.ended.copy(),
        }

    def start_from(self, checkpoint: Checkpoint) -> None:
        """See `Learner`."""
        super().start_from(checkpoint)
        self.model.follow(self.model.policy)

    def resume(self, checkpoint: Checkpoint, observation: NDArray[np.float32]) -> None:
        """See `Learner`."""
        super().resume(checkpoint, observation)
        model, kept, winners = self.model, checkpoint.environment, self.model.winners
        model._last_obs = observation
        rows = len(kept["winners.value"]) if "winners.value" in kept else -1
        next_row = int(taken(kept, "winners.next_row", np.int64, (1,))[0])
        steps = taken(kept, "playing.steps", np.int64, (self.config.n_envs,))
        if not (0 <= rows <= len(winners.value) and 0 <= next_row <= rows and (steps >= 0).all()):
            raise CorruptCheckpoint("what was to be cloned has no such row", rule="winners")
        for name, column in winners.arrays.items():
            shape = (rows, *column.shape[1:])
            column[:rows] = taken(kept, f"winners.{name}", column.dtype, shape)
        winners.rows, winners.next_row = rows, next_row
        played = taken(kept, "playing.actions", np.int64, (int(steps.sum()),))
        ends = np.cumsum(steps)[:-1]
        model.playing = [part.tolist() for part in np.split(played, ends)]
        model.ended = taken(kept, "ended", np.int64, (2,))
        if model.behaviour is not None:
            shapes = {name: tuple(t.shape) for name, t in model.behaviour.state_dict().items()}
            model.behaviour.load_state_dict(
                {
                    name: torch.tensor(taken(kept, f"behaviour.{name}", np.float32, shape))
                    for name, shape in shapes.items()
                }
            )
