"""A trained network as a policy: the actor's forward pass, in NumPy, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.storage.checkpoints import Checkpoint


class NetworkPolicy:
    """The actor of a checkpoint.

    It acts as it was trained: plain PPO does not mask, so the network may choose an action that is
    invalid at that moment; the simulator counts it and does nothing.

    Args:
        checkpoint: where the weights come from.
        name: how reports call it.
        stochastic: sample from the action probabilities instead of taking the likeliest action.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, name: str = "learned", stochastic: bool = False
    ) -> None:
        self.name = name
        self.stochastic = stochastic
        weights = checkpoint.policy
        layers = [
            f"mlp_extractor.policy_net.{2 * n}" for n in range(len(checkpoint.state.config.hidden))
        ]
        self._layers = [
            (np.ascontiguousarray(weights[f"{layer}.weight"].T), weights[f"{layer}.bias"])
            for layer in [*layers, "action_net"]
        ]

    def logits(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[n, 7]` unnormalised log-probabilities for `[n, 52]` observations."""
        hidden = observation
        for weight, bias in self._layers[:-1]:
            hidden = hidden @ weight
            hidden += bias
            np.maximum(hidden, 0.0, out=hidden)
        weight, bias = self._layers[-1]
        logits: NDArray[np.float32] = hidden @ weight + bias
        return logits

    def probabilities(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """`[n, 7]` probability of each action; rows sum to 1."""
        logits = self.logits(observation).astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],  # noqa: ARG002 - part of the protocol; plain PPO does not mask
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """`[n]` actions for `[n, 52]` observations; `rng` is used only where `stochastic`."""
        if not self.stochastic:
            likeliest: NDArray[np.int64] = self.logits(observation).argmax(axis=1)
            return likeliest
        cumulative = self.probabilities(observation).cumsum(axis=1)
        # the last bound is left out, so that rounding below 1 can never name an eighth action
        uniform = rng.random((len(observation), 1))
        sampled: NDArray[np.int64] = (uniform >= cumulative[:, :-1]).sum(axis=1)
        return sampled
