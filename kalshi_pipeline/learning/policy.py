"""Trained networks as a policy: the actor's forward pass, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import IncompatibleCheckpoint
from kalshi_pipeline.learning.actor import choose_rows, pack_actor, scratch_of
from kalshi_pipeline.learning.play import play_actor
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.record import Played
from kalshi_pipeline.trading.tape import Universe

UNTRAINED_SEED = 0
_HIDDEN_GAIN, _ACTION_GAIN = math.sqrt(2.0), 0.01


class NetworkPolicy:
    """The actor of a checkpoint, or the ensemble of several: the mean of their probabilities.

    It acts as it was trained: without `mask_actions` a network may choose an action that is invalid
    at that moment; the simulator counts it and does nothing. A call's actions are those of its rows
    one by one, bit for bit.

    Args:
        checkpoints: where the weights come from; of one network shape.
        name: how reports call it.
        stochastic: sample from the action probabilities instead of taking the likeliest action.

    Attributes:
        checkpoints: as given.

    Raises:
        IncompatibleCheckpoint: the networks have different shapes, or not all were masked.
    """

    def __init__(
        self, *checkpoints: Checkpoint, name: str = "learned", stochastic: bool = False
    ) -> None:
        self.name = name
        self.stochastic = stochastic
        self.checkpoints = checkpoints
        configs = {(c.state.config.hidden, c.state.config.mask_actions) for c in checkpoints}
        if len(configs) != 1:
            raise IncompatibleCheckpoint(
                "an ensemble is made of networks of one shape, all trained with a mask or none",
                rule="ensemble",
                value=sorted(configs),
            )
        ((hidden, masked),) = configs
        self._actor = pack_actor(
            [c.policy for c in checkpoints], len(hidden), masked=masked, greedy=not stochastic
        )

    def probabilities(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """`[n, 7]` probability of each action; rows sum to 1.

        Args:
            observation: `[n, 52]`.
            mask: `[n, 7]`, looked at where the networks were trained with one; None: all is valid.
        """
        every = np.ones((len(observation), ACTIONS), np.bool_) if mask is None else mask
        return self._chosen(observation, every, np.zeros(len(observation)))[1]

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """`[n]` actions for `[n, 52]` observations; `rng` is used only where `stochastic`."""
        n = len(observation)
        return self._chosen(observation, mask, rng.random(n) if self.stochastic else np.zeros(n))[0]

    def play(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        *,
        detail: bool = False,
    ) -> Played:
        """Play whole episodes, compiled; see `play_actor`."""
        return play_actor(universe, self._actor, config, episodes, rng, detail=detail)

    def _chosen(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], lots: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        actions = np.zeros(len(observation), np.int64)
        probabilities = np.zeros((len(observation), ACTIONS))
        choose_rows(
            self._actor, scratch_of(self._actor),
            np.ascontiguousarray(observation), np.ascontiguousarray(mask), lots,
            actions, probabilities,
        )  # fmt: skip
        return actions, probabilities


def untrained(checkpoint: Checkpoint) -> NetworkPolicy:
    """The network of a checkpoint before it learned anything: fresh weights of a fixed seed.

    Source: Stable-Baselines3, `ActorCriticPolicy`: orthogonal weights, biases of 0, and an action
    layer so small that every action is about as likely as any other.
    """
    rng = np.random.default_rng(UNTRAINED_SEED)
    fresh = {}
    for name, trained in checkpoint.policy.items():
        fresh[name] = np.zeros_like(trained)
        if trained.ndim == 2:
            gain = _ACTION_GAIN if name.startswith("action_net") else _HIDDEN_GAIN
            fresh[name] = (gain * _orthogonal(trained.shape, rng)).astype(np.float32)
    return NetworkPolicy(
        replace(checkpoint, policy=fresh), name="Untrained network", stochastic=True
    )


def _orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    # rows, or columns where there are fewer of them, of length 1 and at right angles
    tall = rng.normal(size=(max(shape), min(shape)))
    basis, triangle = np.linalg.qr(tall)
    basis = basis * np.sign(np.diag(triangle))
    turned: NDArray[np.float64] = basis if shape[0] >= shape[1] else basis.T
    return turned
