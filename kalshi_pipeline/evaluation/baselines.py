"""Policies without skill. What one of them earns, the fill model and the mark gave away.

Source: `docs/EVALUATION.md`, "Baselines".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.rollout import Script, play

if TYPE_CHECKING:
    from kalshi_pipeline.trading.record import Played
    from kalshi_pipeline.trading.tape import Universe

# Distances are in units of 50 cents; the finest tick, 0.01 cent, is 2e-4 of them.
_SAME_PRICE = 1e-4


@dataclass(frozen=True)
class Always:
    """The same action at every step, HOLD where it is not valid.

    Args:
        action: what it does; `Action.HOLD` is the baseline "Hold", which must earn exactly 0.
    """

    action: Action
    stochastic: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Hold, or Always and the action."""
        return "Hold" if self.action is Action.HOLD else f"Always {self.action.name}"

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
        return play(universe, Script(self.action), config, episodes, rng, detail=detail)

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` the action, or HOLD; see `Policy.act`."""
        actions = np.full(len(observation), self.action, dtype=np.int64)
        actions[~mask[:, self.action]] = Action.HOLD
        return actions


@dataclass(frozen=True)
class RandomUniform:
    """Any valid action, each as likely as the others: the cost of noise."""

    name: ClassVar[str] = "Random"
    stochastic: ClassVar[bool] = True

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
        return play(universe, Script(None), config, episodes, rng, detail=detail)

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


@dataclass(frozen=True)
class PassiveTwoSided:
    """Keeps one order at the best bid and one at the best ask, and knows nothing.

    The side that reduces inventory is quoted first; a quote that is no longer at the touch is
    moved there. What it earns is the free money of the fill model.
    """

    name: ClassVar[str] = "Passive two-sided"
    stochastic: ClassVar[bool] = False

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` BUY_PASSIVE, SELL_PASSIVE or HOLD; see `Policy.act`."""
        mid = observation[:, COLUMN["mid"]]
        buys = mask[:, Action.BUY_PASSIVE] & ~_rests_at(
            observation[:, COLUMN["buy_distance"]], mid - observation[:, COLUMN["best_bid"]]
        )
        sells = mask[:, Action.SELL_PASSIVE] & ~_rests_at(
            observation[:, COLUMN["sell_distance"]], observation[:, COLUMN["best_ask"]] - mid
        )
        sells_first = observation[:, COLUMN["inventory"]] > 0
        chosen = np.where(
            sells & (sells_first | ~buys),
            Action.SELL_PASSIVE,
            np.where(buys, Action.BUY_PASSIVE, Action.HOLD),
        )
        return chosen.astype(np.int64)


def baselines() -> tuple[Policy, ...]:
    """Every baseline, in the order of the report's tables."""
    moving = tuple(Always(action) for action in Action if action is not Action.HOLD)
    return (Always(Action.HOLD), RandomUniform(), PassiveTwoSided(), *moving)


def _rests_at(distance: NDArray[np.float32], half_spread: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Same scaling as the feature: min(1, 2 |mid - price|), -1 where nothing rests.
    at_touch: NDArray[np.bool_] = (
        np.abs(distance - np.minimum(1.0, 2.0 * half_spread)) < _SAME_PRICE
    )
    return at_touch
