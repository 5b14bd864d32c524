"""Policies that do not look: hold, one action always, chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.baselines.scripted import Scripted, allowed
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.scripts import Rule, Script


@dataclass(frozen=True)
class Always(Scripted):
    """The same action at every step, HOLD where it is not valid.

    Args:
        action: what it does; `Action.HOLD` is the baseline "Hold", which must earn exactly 0.
    """

    action: Action

    @property
    def name(self) -> str:
        """Hold, or Always and the action."""
        return "Hold" if self.action is Action.HOLD else f"Always {self.action.name}"

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.ACTION, (self.action,))

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` the action, or HOLD; see `Policy.act`."""
        return allowed(np.full(len(observation), int(self.action)), mask)


@dataclass(frozen=True)
class RandomUniform(Scripted):
    """Any valid action, each as likely as the others: the cost of noise."""

    name: ClassVar[str] = "Random"
    stochastic: ClassVar[bool] = True

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.ANY)

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """`[n]` a uniform draw from each row's valid actions; see `Policy.act`."""
        lots = np.where(mask, rng.random((len(observation), mask.shape[1])), -1.0)
        chosen: NDArray[np.int64] = np.argmax(lots, axis=1).astype(np.int64)
        return chosen
