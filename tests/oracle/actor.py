"""What an actor chooses, slowly: one row, one network, one sum at a time, in double precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def probabilities(
    networks: Sequence[Mapping[str, np.ndarray]],
    observation: np.ndarray,
    mask: Sequence[bool] | None = None,
) -> list[float]:
    """The mean over the networks of the probability of each action."""
    shares = [_softmax(_logits(network, observation), mask) for network in networks]
    return [sum(share[action] for share in shares) / len(shares) for action in range(7)]


def fallen_on(lot: float, of: Sequence[float]) -> int:
    """The action a lot in [0, 1) falls on."""
    possible = [action for action, probability in enumerate(of) if probability > 0]
    reached = 0.0
    for action in possible:
        reached += of[action]
        if lot < reached:
            return action
    return possible[-1]


def _logits(network: Mapping[str, np.ndarray], observation: np.ndarray) -> list[float]:
    values = [float(value) for value in observation]
    hidden = sorted(n for n in network if "policy_net" in n and n.endswith(".weight"))
    for name in [*hidden, "action_net.weight"]:
        weight, bias = network[name], network[name.replace("weight", "bias")]
        values = [
            math.fsum(float(w) * v for w, v in zip(row, values, strict=True)) + float(b)
            for row, b in zip(weight, bias, strict=True)
        ]
        if name != "action_net.weight":
            values = [max(0.0, value) for value in values]
    return values


def _softmax(logits: Sequence[float], mask: Sequence[bool] | None) -> list[float]:
    valid = [mask is None or bool(mask[action]) for action in range(len(logits))]
    highest = max(logit for logit, may in zip(logits, valid, strict=True) if may)
    weights = [
        math.exp(logit - highest) if may else 0.0 for logit, may in zip(logits, valid, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]
