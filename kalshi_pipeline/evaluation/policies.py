"""What the judge asks of a policy; learned networks and baselines alike."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.trading.rollout import Script


class Policy(Protocol):
    """Chooses actions from observations, without memory between calls."""

    @property
    def name(self) -> str:
        """How reports call it; unique within one evaluation."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether two calls may differ: if so, every episode is repeated."""
        ...

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Choose one action for each of n lanes.

        Args:
            observation: `[n, 52]`, columns as in `feature_table.FEATURES`.
            mask: `[n, 7]` True where the action is valid.
            rng: the only source of chance.

        Returns:
            `[n]` values of `trading.actions.Action`.
        """
        ...


@runtime_checkable
class Scripted(Protocol):
    """A policy that looks at nothing but what is valid: a compiled backtest plays it whole."""

    @property
    def script(self) -> Script:
        """What it does at every step."""
        ...
