"""What a rollout needs: actions, values, advantages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import lane_kernel
from kalshi_pipeline.learning.fast.heads import choose, softmax, uniform
from kalshi_pipeline.learning.fast.network import Flat, Layout, forward

_ONE = np.float32(1.0)


@lane_kernel
def act(
    layout: Layout,
    parameters: Flat,
    observations: NDArray[np.float32],
    masks: NDArray[np.bool_],
    key: np.uint64,
    counter: int,
    room: Flat,
    shares: NDArray[np.float64],
    actions: NDArray[np.int64],
    log_probs: NDArray[np.float32],
) -> None:
    """Sample an action for each lane from the actor's distribution.

    Args:
        layout: of the actor.
        parameters: of the actor.
        observations: `[lanes, inputs]`.
        masks: `[lanes, actions]` valid actions; a single row stands for all.
        key: of the random numbers.
        counter: lane n uses the random number `counter + n`.
        room: see `output_room`.
        shares: `[actions]`, room.
        actions: `[lanes]`; overwritten.
        log_probs: `[lanes]` logarithm of each action's probability; overwritten.
    """
    at = forward(layout, parameters, observations, room)
    lanes = observations.shape[0]
    logits = room[at : at + lanes * shares.shape[0]].reshape(lanes, shares.shape[0])
    for lane in range(lanes):
        chance = uniform(key, np.uint64(counter + lane))
        valid = masks[min(lane, masks.shape[0] - 1)]
        normaliser = softmax(logits[lane], valid, shares)
        actions[lane] = choose(shares, valid, chance)
        log_probs[lane] = np.float64(logits[lane, actions[lane]]) - normaliser


@lane_kernel
def evaluate(
    layout: Layout,
    parameters: Flat,
    observations: NDArray[np.float32],
    rows: int,
    room: Flat,
    values: NDArray[np.float32],
) -> None:
    """The first output of a network for all observations, `rows` of them at a time.

    Args:
        layout: of the network.
        parameters: of the network.
        observations: `[n, inputs]`.
        rows: so many have room in `room`.
        room: see `output_room`.
        values: `[n]`; overwritten.
    """
    for begin in range(0, observations.shape[0], rows):
        some = observations[begin : begin + rows]
        at = forward(layout, parameters, some, room)
        width = layout[-1, 1]
        for row in range(some.shape[0]):
            values[begin + row] = room[at + row * width]


@lane_kernel
def advantages_of(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    starts: NDArray[np.float32],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    discounts: NDArray[np.float32],
    decays: NDArray[np.float32],
    advantages: NDArray[np.float32],
    returns: NDArray[np.float32],
) -> None:
    """Generalised advantages and the returns they imply, bit for bit Stable-Baselines3's.

    Source: Schulman et al., "High-dimensional continuous control using generalized advantage
    estimation", 2016, equations 11 to 16.

    Args:
        rewards: `[steps, lanes]`.
        values: `[steps, lanes]`.
        starts: `[steps, lanes]` 1 where an episode began with the observation.
        last_values: `[lanes]` of the observation after the last step.
        last_dones: `[lanes]` whether that one begins an episode.
        discounts: `[steps, lanes]` gamma of each step.
        decays: `[steps, lanes]` gamma times lambda of each step.
        advantages: `[steps, lanes]`; overwritten.
        returns: `[steps, lanes]`; overwritten.
    """
    steps, lanes = rewards.shape
    for step in range(steps - 1, -1, -1):
        last = step == steps - 1
        for lane in range(lanes):
            ended = np.float32(last_dones[lane]) if last else starts[step + 1, lane]
            following = last_values[lane] if last else values[step + 1, lane]
            later = np.float32(0.0) if last else advantages[step + 1, lane]
            goes_on = _ONE - ended
            discounted = discounts[step, lane] * following * goes_on
            surprise = rewards[step, lane] + discounted - values[step, lane]
            advantages[step, lane] = surprise + decays[step, lane] * goes_on * later
            returns[step, lane] = advantages[step, lane] + values[step, lane]
