"""Policies that are a rule of `trading.scripts`, and so play whole episodes compiled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.rollout import play
from kalshi_pipeline.trading.scripts import SAME_DISTANCE, Script

if TYPE_CHECKING:
    from kalshi_pipeline.trading.record import Played
    from kalshi_pipeline.trading.tape import Universe

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Scripted(ABC):
    """A policy whose compiled form is `script` and whose form in words is `act`."""

    stochastic: ClassVar[bool] = False

    @property
    @abstractmethod
    def script(self) -> Script:
        """The rule it plays by."""

    def play(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        *,
        detail: bool = False,
    ) -> Played:
        """Whole episodes; see `Player.play`."""
        return play(universe, self.script, config, episodes, rng, detail=detail)


def allowed(chosen: NDArray[Any], mask: Flags) -> NDArray[np.int64]:
    """`[n]` the actions `[n]`, HOLD where the mask `[n, 7]` forbids one."""
    valid = np.take_along_axis(mask, chosen[:, None], axis=1)[:, 0]
    return np.where(valid, chosen, Action.HOLD).astype(np.int64)


def rests_at(distance: NDArray[np.float32], from_mid: Floats) -> Flags:
    """`[n]` whether an order rests this far from the mid, dollars `[n]`.

    Same scaling as the feature `[n]`: min(1, 2 |mid - price|), -1 where nothing rests.
    """
    wanted = np.minimum(1.0, 2.0 * from_mid)
    near: Flags = np.abs(distance.astype(np.float64) - wanted) < SAME_DISTANCE
    return near
