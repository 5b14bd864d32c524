"""What stands on the two networks: a categorical policy, a value, and PPO's losses of both.

Numbers of a row are worked on in double precision and given back in single: the sums are then those
of the mathematics, and what is logged does not depend on the order of rows.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_part


class Loss(IntEnum):
    """Columns of what is logged of a minibatch."""

    POLICY = 0
    VALUE = 1
    ENTROPY = 2  # negative entropy, nats
    KL = 3  # Schulman's estimate
    CLIPPED = 4  # share of ratios beyond the clip range


_POLICY, _VALUE, _ENTROPY, _KL, _CLIPPED = (int(column) for column in Loss)
# splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = (np.uint64(bits) for bits in (30, 27, 31, 11))


@lane_part
def uniform(key: np.uint64, counter: np.uint64) -> float:
    """A number in [0, 1) that depends on key and counter alone.

    Args:
        key: uint64.
        counter: uint64; another number for each.
    """
    z = key + counter * _STEP
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    z = z ^ (z >> _31)
    return np.float64(z >> _11) * 2.0**-53


@lane_part
def softmax(
    logits: NDArray[np.float32], valid: NDArray[np.bool_], shares: NDArray[np.float64]
) -> float:
    """Probabilities of a row's valid actions; gives what its logits exceed their logarithms by.

    Args:
        logits: `[actions]`.
        valid: `[actions]`, one of them true.
        shares: `[actions]`; overwritten, 0 where an action is not valid.
    """
    largest = -math.inf
    for action in range(logits.shape[0]):
        if valid[action]:
            largest = max(largest, np.float64(logits[action]))
    total = 0.0
    for action in range(logits.shape[0]):
        shares[action] = math.exp(np.float64(logits[action]) - largest) if valid[action] else 0.0
        total += shares[action]
    for action in range(logits.shape[0]):
        shares[action] /= total
    return largest + math.log(total)


@lane_part
def choose(shares: NDArray[np.float64], valid: NDArray[np.bool_], chance: float) -> int:
    """The action whose share of [0, 1) holds `chance`.

    Args:
        shares: `[actions]` probabilities.
        valid: `[actions]`, one of them true.
        chance: in [0, 1).
    """
    reached = 0.0
    chosen = 0
    for action in range(shares.shape[0]):
        if valid[action]:
            chosen = action  # rounding below 1 leaves the last valid one
            reached += shares[action]
            if chance < reached:
                break
    return chosen


@lane_part
def standardise(values: NDArray[np.float64], count: int) -> None:
    """Take the mean off and divide by the sample standard deviation, in place; one stays as it is.

    Source: Stable-Baselines3's normalisation of advantages.
    """
    if count < 2:
        return
    mean = 0.0
    for row in range(count):
        mean += values[row]
    mean /= count
    square = 0.0
    for row in range(count):
        square += (values[row] - mean) ** 2
    scale = 1.0 / (math.sqrt(square / (count - 1)) + 1e-8)
    for row in range(count):
        values[row] = (values[row] - mean) * scale


@lane_part
def policy_slopes(
    logits: NDArray[np.float32],
    actions: NDArray[np.int64],
    before: NDArray[np.float64],
    advantages: NDArray[np.float64],
    masks: NDArray[np.bool_],
    hyper: tuple[float, float],
    shares: NDArray[np.float64],
    slopes: NDArray[np.float32],
    losses: NDArray[np.float64],
) -> None:
    """PPO's clipped loss and the entropy's: their slopes in the logits, and what is logged.

    Args:
        logits: float32 `[rows, actions]`.
        actions: int64 `[rows]`.
        before: float64 `[rows]` log-probabilities when they were taken.
        advantages: float64 `[rows]`.
        masks: bool `[rows, actions]` valid actions; a single row stands for all.
        hyper: (clip range, entropy coefficient).
        shares: float64 `[actions]`, room.
        slopes: float32 `[rows, actions]`; overwritten.
        losses: float64 `[5]`, see `Loss`.
    """
    clip, entropy_weight = hyper
    rows, count = logits.shape
    each = 1.0 / rows
    objective, entropy, divergence, clipped = 0.0, 0.0, 0.0, 0
    for row in range(rows):
        valid = masks[min(row, masks.shape[0] - 1)]
        normaliser = softmax(logits[row], valid, shares)
        chosen = actions[row]
        change = np.float64(logits[row, chosen]) - normaliser - before[row]
        ratio = math.exp(change)
        within = min(max(ratio, 1.0 - clip), 1.0 + clip)
        advantage = advantages[row]
        gain, bounded = advantage * ratio, advantage * within
        objective += min(gain, bounded)
        divergence += ratio - 1.0 - change
        clipped += abs(ratio - 1.0) > clip
        of_row = 0.0
        for action in range(count):
            if valid[action]:
                of_row -= shares[action] * (np.float64(logits[row, action]) - normaliser)
        entropy += of_row
        # a bounded ratio has no slope; where nothing is bounded the two are one,
        # and what is not a number goes on into the gradient, where it is found
        pull = 0.0 if gain > bounded else each * gain
        for action in range(count):
            slope = 0.0
            if valid[action]:
                log_share = np.float64(logits[row, action]) - normaliser
                slope = shares[action] * (pull + each * entropy_weight * (log_share + of_row))
            slopes[row, action] = slope
        slopes[row, chosen] -= np.float32(pull)
    losses[_POLICY] = -objective * each
    losses[_ENTROPY] = -entropy * each
    losses[_KL] = divergence * each
    losses[_CLIPPED] = clipped * each


@lane_part
def value_slopes(
    values: NDArray[np.float32],
    returns: NDArray[np.float64],
    weight: float,
    slopes: NDArray[np.float32],
    losses: NDArray[np.float64],
) -> None:
    """Squared error of the values: its slopes, and what is logged.

    Args:
        values: float32 `[rows, 1]`.
        returns: float64 `[rows]`.
        weight: coefficient of the value loss.
        slopes: float32 `[rows, 1]`; overwritten.
        losses: float64 `[5]`, see `Loss`.
    """
    rows = values.shape[0]
    total = 0.0
    for row in range(rows):
        error = np.float64(values[row, 0]) - returns[row]
        total += error * error
        slopes[row, 0] = 2.0 * weight / rows * error
    losses[_VALUE] = total / rows
