"""Policies that take the touch: on a signal, both ways, or once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.baselines.scripted import Scripted, allowed
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.scripts import NOTHING_HELD, Rule, Script


@dataclass(frozen=True)
class Follow(Scripted):
    """One order long while a signal is high, one short while it is low; otherwise as it stands.

    Args:
        name: how reports call it.
        column: of the observation.
        sign: 1 follows the signal, -1 goes against it.
        threshold: what the signal must exceed, either way.
    """

    name: str
    column: str
    sign: int = 1
    threshold: float = 0.0

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.FOLLOW, (COLUMN[self.column], self.sign, self.threshold))

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` BUY_BEST, SELL_BEST or HOLD; see `Policy.act`."""
        signal = self.sign * observation[:, COLUMN[self.column]].astype(np.float64)
        held = observation[:, COLUMN["inventory"]]
        rises = (signal > self.threshold) & (held < NOTHING_HELD)
        falls = (signal < -self.threshold) & (held > -NOTHING_HELD)
        chosen = np.where(rises, Action.BUY_BEST, np.where(falls, Action.SELL_BEST, Action.HOLD))
        return allowed(chosen, mask)


def momentum() -> Follow:
    """With the sign of the mid's change over about 60 s."""
    return Follow("Momentum, 60 s", "mid_change_60s")


def mean_reversion() -> Follow:
    """Against it."""
    return Follow("Mean reversion, 60 s", "mid_change_60s", sign=-1)


def imbalance() -> Follow:
    """Buys where over two thirds of the size at the touch is bid, sells where under one third is.

    The feature is the difference of the two shares. Source: Gould and Bonart 2016, "Queue imbalance
    as a one-tick-ahead price predictor in a limit order book".
    """
    return Follow("Touch imbalance", "imbalance_touch", threshold=1.0 / 3.0)


@dataclass(frozen=True)
class TakerBothWays(Scripted):
    """Buys at the ask, sells at the bid, and again: the price of the spread."""

    name: ClassVar[str] = "Taker both ways"

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.BOTH_WAYS)

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` SELL_BEST while long, otherwise BUY_BEST; see `Policy.act`."""
        long = observation[:, COLUMN["inventory"]] >= NOTHING_HELD
        return allowed(np.where(long, Action.SELL_BEST, Action.BUY_BEST), mask)


@dataclass(frozen=True)
class BuyAndHold(Scripted):
    """One order's worth of one side, to the end: the drift of the sample.

    Always taking, `Always`, does the same up to the position limit.

    Args:
        action: BUY_BEST holds YES, SELL_BEST holds NO.
    """

    action: Action

    @property
    def name(self) -> str:
        """With the side it holds."""
        return f"Buy and hold {'YES' if self.action is Action.BUY_BEST else 'NO'}"

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.ENTER, (self.action,))

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` the action while nothing is held; see `Policy.act`."""
        flat = np.abs(observation[:, COLUMN["inventory"]]) < NOTHING_HELD
        return allowed(np.where(flat, self.action, Action.HOLD), mask)
