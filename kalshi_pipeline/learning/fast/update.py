"""PPO's update: every minibatch of every epoch, both networks, in one call or in two at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_kernel, lane_part
from kalshi_pipeline.learning.fast.heads import policy_slopes, standardise, value_slopes
from kalshi_pipeline.learning.fast.meeting import arrive
from kalshi_pipeline.learning.fast.network import Flat, Layout, Matrix, backward, forward

ACTOR, CRITIC = 0, 1
DONE, NOT_FINITE, ALONE = 0, 1, 2  # how an update ended; ALONE: the other thread left


class Rollout(NamedTuple):
    """The transitions to learn from, in any order.

    Args:
        observations: `[n, inputs]`.
        actions: `[n]`.
        masks: `[n, actions]` valid actions; a single row stands for all.
        log_probs: `[n]` of the actions when they were taken.
        advantages: `[n]`.
        returns: `[n]`.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    masks: NDArray[np.bool_]
    log_probs: NDArray[np.float32]
    advantages: NDArray[np.float32]
    returns: NDArray[np.float32]


class Hyper(NamedTuple):
    """Numbers of an update; those of Adam are PyTorch's."""

    clip_range: float
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    normalise: bool
    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    steps: int  # minibatches Adam has seen before


class Trained(NamedTuple):
    """Actor, then critic, in flat arrays.

    Args:
        actor: layout.
        critic: layout.
        parameters: float32 of both.
        gradients: as `parameters`.
        mean: Adam's first moments, as `parameters`.
        square: Adam's second moments, as `parameters`.
    """

    actor: Layout
    critic: Layout
    parameters: Flat
    gradients: Flat
    mean: Flat
    square: Flat


class Scratch(NamedTuple):
    """Room for one network's minibatch of at most `rows` observations.

    Args:
        observations: `[rows * inputs]`.
        outputs: see `output_room`.
        slopes: see `output_room`.
        numbers: float64 `[2, rows]`.
        actions: `[rows]`.
        masks: `[rows, actions]`.
        shares: float64 `[actions]`.
    """

    observations: Flat
    outputs: Flat
    slopes: Flat
    numbers: NDArray[np.float64]
    actions: NDArray[np.int64]
    masks: NDArray[np.bool_]
    shares: NDArray[np.float64]


@lane_part
def adam(
    parameters: Flat,
    gradients: Flat,
    mean: Flat,
    square: Flat,
    scale: np.float32,
    hyper: Hyper,
    step: int,
) -> None:
    """One step of Adam on gradients times `scale`, as PyTorch takes it."""
    beta_2 = np.float32(hyper.beta_2)
    rest_1, rest_2 = np.float32(1.0 - hyper.beta_1), np.float32(1.0 - hyper.beta_2)
    rate = np.float32(hyper.learning_rate / (1.0 - hyper.beta_1**step))
    unbiased = np.float32(1.0 / math.sqrt(1.0 - hyper.beta_2**step))
    epsilon = np.float32(hyper.epsilon)
    for n in range(parameters.shape[0]):
        gradient = gradients[n] * scale
        first = mean[n] + rest_1 * (gradient - mean[n])
        second = beta_2 * square[n] + rest_2 * gradient * gradient
        mean[n], square[n] = first, second
        parameters[n] -= rate * first / (np.sqrt(second) * unbiased + epsilon)


@lane_part
def square_sum(numbers: Flat) -> float:
    """Sum of squares; not finite only where one of the numbers is not."""
    quick = np.float64(np.dot(numbers, numbers))
    if math.isfinite(quick):
        return quick
    total = 0.0  # squares of single precision overflow long before their numbers do
    for n in range(numbers.shape[0]):
        total += np.float64(numbers[n]) * np.float64(numbers[n])
    return total


@lane_part
def gather_observations(rollout: Rollout, rows: NDArray[np.int64], out: Matrix) -> None:
    """Copy the observations of a minibatch side by side: `[rows, inputs]`."""
    for n in range(rows.shape[0]):
        for column in range(out.shape[1]):
            out[n, column] = rollout.observations[rows[n], column]


@lane_part
def actor_gradients(
    trained: Trained,
    parameters: Flat,
    gradients: Flat,
    rollout: Rollout,
    rows: NDArray[np.int64],
    hyper: Hyper,
    scratch: Scratch,
    losses: NDArray[np.float64],
) -> None:
    """Gradients of the actor's loss on a minibatch."""
    count, width = rows.shape[0], rollout.observations.shape[1]
    observations = scratch.observations[: count * width].reshape(count, width)
    gather_observations(rollout, rows, observations)
    before, advantages = scratch.numbers[0], scratch.numbers[1]
    every_mask = rollout.masks.shape[0] > 1
    for n in range(rows.shape[0]):
        before[n] = rollout.log_probs[rows[n]]
        advantages[n] = rollout.advantages[rows[n]]
        scratch.actions[n] = rollout.actions[rows[n]]
        for action in range(rollout.masks.shape[1]):
            scratch.masks[n, action] = rollout.masks[rows[n] if every_mask else 0, action]
    if hyper.normalise:
        standardise(advantages, rows.shape[0])
    at = forward(trained.actor, parameters, observations, scratch.outputs)
    actions = scratch.shares.shape[0]
    logits = scratch.outputs[at : at + count * actions].reshape(count, actions)
    slopes = scratch.slopes[at : at + count * actions].reshape(count, actions)
    policy_slopes(
        logits, scratch.actions, before, advantages, scratch.masks,
        (hyper.clip_range, hyper.ent_coef), scratch.shares, slopes, losses,
    )  # fmt: skip
    backward(trained.actor, parameters, observations, scratch.outputs, scratch.slopes, gradients)


@lane_part
def critic_gradients(
    trained: Trained,
    parameters: Flat,
    gradients: Flat,
    rollout: Rollout,
    rows: NDArray[np.int64],
    hyper: Hyper,
    scratch: Scratch,
    losses: NDArray[np.float64],
) -> None:
    """Gradients of the critic's loss on a minibatch."""
    count, width = rows.shape[0], rollout.observations.shape[1]
    observations = scratch.observations[: count * width].reshape(count, width)
    gather_observations(rollout, rows, observations)
    returns = scratch.numbers[0]
    for n in range(rows.shape[0]):
        returns[n] = rollout.returns[rows[n]]
    at = forward(trained.critic, parameters, observations, scratch.outputs)
    values = scratch.outputs[at : at + count].reshape(count, 1)
    slopes = scratch.slopes[at : at + count].reshape(count, 1)
    value_slopes(values, returns, hyper.vf_coef, slopes, losses)
    backward(trained.critic, parameters, observations, scratch.outputs, scratch.slopes, gradients)


@lane_kernel
def update(
    first: int,
    last: int,
    trained: Trained,
    rollout: Rollout,
    orders: NDArray[np.int64],
    batch: int,
    hyper: Hyper,
    actor: Scratch,
    critic: Scratch,
    losses: NDArray[np.float64],
    squares: NDArray[np.float64],
    flags: NDArray[np.int64],
) -> int:
    """Train the networks `first` to `last` on every minibatch; the other thread trains the rest.

    The two meet once a minibatch, because gradients are scaled by the norm over both networks. That
    is summed a network at a time on one thread as well: the weights are the same, bit for bit.

    Args:
        first: ACTOR or CRITIC.
        last: ACTOR or CRITIC.
        trained: changed in place.
        rollout: what is learned from.
        orders: `[epochs, n]` rows of the rollout; cut into minibatches, the last one may be short.
        batch: rows of a minibatch.
        hyper: numbers of the update.
        actor: room of the actor.
        critic: room of the critic.
        losses: `[minibatches, 5]`, see `heads.Loss`; each network writes its own columns.
        squares: `[2, 2]` sums of squared gradients, by parity of the minibatch and network.
        flags: see `meeting.arrive`.

    Returns:
        DONE; NOT_FINITE: a gradient is not, it is left as it is and the optimiser has not moved;
        ALONE: the other thread failed.
    """
    split = trained.actor[-1, 3] + trained.actor[-1, 1]
    minibatch = 0
    for epoch in range(orders.shape[0]):
        for begin in range(0, orders.shape[1], batch):
            rows = orders[epoch, begin : begin + batch]
            sums = squares[minibatch & 1]
            row = losses[minibatch]
            minibatch += 1
            if first == ACTOR:
                own, slope = trained.parameters[:split], trained.gradients[:split]
                actor_gradients(trained, own, slope, rollout, rows, hyper, actor, row)
                sums[ACTOR] = square_sum(slope)
            if last == CRITIC:
                own, slope = trained.parameters[split:], trained.gradients[split:]
                critic_gradients(trained, own, slope, rollout, rows, hyper, critic, row)
                sums[CRITIC] = square_sum(slope)
            if first == last and not arrive(flags, first, 1 - first, minibatch):
                return ALONE
            norm = math.sqrt(sums[ACTOR] + sums[CRITIC])
            if not math.isfinite(norm):
                return NOT_FINITE
            begins = 0 if first == ACTOR else split
            ends = split if last == ACTOR else trained.parameters.shape[0]
            adam(
                trained.parameters[begins:ends], trained.gradients[begins:ends],
                trained.mean[begins:ends], trained.square[begins:ends],
                np.float32(min(1.0, hyper.max_grad_norm / (norm + 1e-6))), hyper,
                hyper.steps + minibatch,
            )  # fmt: skip
    return DONE
