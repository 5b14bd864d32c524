"""What the judge asks of a policy; learned networks and baselines alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig

if TYPE_CHECKING:
    from kalshi_pipeline.trading.record import Played, Trace
    from kalshi_pipeline.trading.tape import Universe


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
class Player(Protocol):
    """A policy that plays whole episodes itself, compiled, without Python between two steps."""

    def play(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        *,
        detail: bool = False,
    ) -> Played:
        """Play episodes.

        Args:
            universe: the episodes.
            config: rules of an episode.
            episodes: `[K]` which episodes, in this order; one may come several times.
            rng: the only source of chance.
            detail: whether every step and fill is kept.

        Returns:
            What became of the K jobs.
        """
        ...


@runtime_checkable
class Follower(Protocol):
    """A policy that does something with what another one did, and so plays after it."""

    @property
    def judged(self) -> Policy:
        """Who goes before."""
        ...

    def play_again(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        own: Trace,
        *,
        detail: bool = False,
    ) -> Played:
        """Play episodes that the other has played already.

        Args:
            universe: as for `Player.play`, as the next three.
            config: rules of an episode.
            episodes: `[K]`, each among those the other played.
            rng: the only source of chance.
            own: the steps of what it played.
            detail: whether every step and fill is kept.

        Returns:
            What became of the K jobs.
        """
        ...


def cheats(policy: Policy) -> bool:
    """Whether a policy sees what nobody can: it shows a ceiling and is nothing to be beaten."""
    return bool(getattr(policy, "cheating", False))
