"""Actors, compiled: what one or several trained networks choose, four lanes at a time.

A row's arithmetic is the same whichever rows are beside it, bit for bit, which no BLAS promises: a
policy's actions do not depend on how many episodes run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import contracted_kernel, kernel
from kalshi_pipeline.trading.actions import ACTIONS

TILE = 4  # rows that share one pass over the weights
ALL_ROWS = (1 << TILE) - 1

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Actor(NamedTuple):
    """S networks of one shape; their policy is the mean of their action probabilities.

    Args:
        weights: `[S, P]` of each network its layers in turn: weights `[inputs, outputs]`, bias.
        sizes: `[L + 1]` inputs of the first layer, outputs of each.
        masked: invalid actions have no probability, as they had none in training.
        greedy: the likeliest action; otherwise the one its lot falls on.
    """

    weights: Floats
    sizes: Ints
    masked: bool
    greedy: bool


class Scratch(NamedTuple):
    """Room for one tile's numbers."""

    front: Floats  # [TILE, widest layer]
    back: Floats  # the same
    logits: Floats  # [TILE, 7]
    live: Ints  # [widest layer]
    probabilities: NDArray[np.float64]  # [TILE, 7]


def pack_actor(
    networks: Sequence[Mapping[str, Floats]], layers: int, *, masked: bool, greedy: bool
) -> Actor:
    """An actor of policies as checkpoints name their tensors.

    Args:
        networks: parameter name -> weights, of each network.
        layers: hidden ones.
        masked: see `Actor`.
        greedy: see `Actor`.
    """
    names = [*(f"mlp_extractor.policy_net.{2 * n}" for n in range(layers)), "action_net"]
    weights = [
        np.concatenate(
            [
                part.ravel()
                for name in names
                for part in (network[f"{name}.weight"].T, network[f"{name}.bias"])
            ]
        )
        for network in networks
    ]
    first = networks[0]
    sizes = [first[f"{names[0]}.weight"].shape[1], *(len(first[f"{n}.bias"]) for n in names)]
    return Actor(np.stack(weights), np.array(sizes, np.int64), masked, greedy)


def scratch_of(actor: Actor) -> Scratch:
    """Room for one thread that plays an actor."""
    widest = int(actor.sizes.max())
    tile = np.zeros((TILE, widest), np.float32)
    return Scratch(
        tile, tile.copy(), np.zeros((TILE, ACTIONS), np.float32),
        np.zeros(widest, np.int64), np.zeros((TILE, ACTIONS)),
    )  # fmt: skip


@kernel
def choose(
    actor: Actor,
    scratch: Scratch,
    observation: Floats,
    mask: NDArray[np.bool_],
    lots: NDArray[np.float64],
    rows: int,
    actions: Ints,
) -> None:
    """Probabilities and actions of at most `TILE` rows.

    Args:
        actor: the networks.
        scratch: `probabilities` is written.
        observation: `[TILE, 52]`; fewer rows where no more than two are wanted.
        mask: `[TILE, 7]` True where the action is valid.
        lots: `[TILE]` in [0, 1), read unless greedy.
        rows: bit r is set where row r is wanted; others may hold anything.
        actions: `[TILE]`, written for the wanted rows.
    """
    wanted = (rows & 1) + (rows >> 1 & 1) + (rows >> 2 & 1) + (rows >> 3 & 1)
    scratch.probabilities[:] = 0.0
    for network in range(len(actor.weights)):
        # a pass for one row leaves out what a ReLU has made zero: two cost less than a whole tile
        if wanted > 2:
            _forward_tile(actor, network, scratch, observation)
        for row in range(TILE):
            if rows >> row & 1:
                if wanted <= 2:
                    _forward_row(actor, network, scratch, observation, row)
                _add_softmax(actor, scratch, mask, row)
    for row in range(TILE):
        if rows >> row & 1:
            actions[row] = _pick(actor, scratch.probabilities[row], lots[row])


@kernel
def choose_rows(
    actor: Actor,
    scratch: Scratch,
    observation: Floats,
    mask: NDArray[np.bool_],
    lots: NDArray[np.float64],
    actions: Ints,
    probabilities: NDArray[np.float64],
) -> None:
    """Probabilities `[n, 7]` and actions `[n]` of any number of rows; see `choose`."""
    whole = len(observation) - len(observation) % TILE
    for start in range(0, whole, TILE):
        end = start + TILE
        choose(
            actor, scratch, observation[start:end], mask[start:end], lots[start:end],
            ALL_ROWS, actions[start:end],
        )  # fmt: skip
        for row in range(TILE):
            for action in range(ACTIONS):
                probabilities[start + row, action] = scratch.probabilities[row, action]
    for row in range(whole, len(observation)):
        choose(
            actor, scratch, observation[row : row + 1], mask[row : row + 1], lots[row : row + 1],
            1, actions[row : row + 1],
        )  # fmt: skip
        for action in range(ACTIONS):
            probabilities[row, action] = scratch.probabilities[0, action]


@kernel
def _add_softmax(actor: Actor, scratch: Scratch, mask: NDArray[np.bool_], row: int) -> None:
    # this network's share in the mean of the probabilities
    logits, probabilities = scratch.logits[row], scratch.probabilities[row]
    highest, total = -np.inf, 0.0
    for action in range(ACTIONS):
        if mask[row, action] or not actor.masked:
            highest = max(highest, float(logits[action]))
    for action in range(ACTIONS):
        if mask[row, action] or not actor.masked:
            total += math.exp(logits[action] - highest)
    for action in range(ACTIONS):
        if mask[row, action] or not actor.masked:
            share = math.exp(logits[action] - highest) / total
            probabilities[action] += share / len(actor.weights)


@kernel
def _pick(actor: Actor, probabilities: NDArray[np.float64], lot: float) -> int:
    best, reached = 0, 0.0
    for action in range(ACTIONS):
        if actor.greedy:
            if probabilities[action] > probabilities[best]:
                best = action
        elif probabilities[action] > 0.0:
            # rounding may leave the sum below the lot: then it is the last that can be
            best = action
            reached += probabilities[action]
            if lot < reached:
                break
    return best


@kernel
def _forward_tile(actor: Actor, network: int, scratch: Scratch, observation: Floats) -> None:
    at, last = 0, len(actor.sizes) - 2
    for layer in range(last + 1):
        inputs, outputs = actor.sizes[layer], actor.sizes[layer + 1]
        source = observation if layer == 0 else scratch.front if layer % 2 else scratch.back
        out = scratch.logits if layer == last else scratch.back if layer % 2 else scratch.front
        _dense_tile(
            source, actor.weights[network], at, inputs, outputs, out[0], out[1], out[2], out[3]
        )
        if layer < last:
            for row in range(TILE):
                for column in range(outputs):
                    out[row, column] = max(out[row, column], np.float32(0.0))
        at += (inputs + 1) * outputs


@kernel
def _forward_row(
    actor: Actor, network: int, scratch: Scratch, observation: Floats, row: int
) -> None:
    at, last = 0, len(actor.sizes) - 2
    for layer in range(last + 1):
        inputs, outputs = actor.sizes[layer], actor.sizes[layer + 1]
        source = observation if layer == 0 else scratch.front if layer % 2 else scratch.back
        out = scratch.logits if layer == last else scratch.back if layer % 2 else scratch.front
        _dense_row(source[row], actor.weights[network], at, inputs, outputs, scratch.live, out[row])
        if layer < last:
            for column in range(outputs):
                out[row, column] = max(out[row, column], np.float32(0.0))
        at += (inputs + 1) * outputs


@contracted_kernel
def _dense_tile(
    x: Floats, weights: Floats, at: int, inputs: int, outputs: int,
    out0: Floats, out1: Floats, out2: Floats, out3: Floats,
) -> None:  # fmt: skip
    # each weight is read once for four rows; unsigned places are not checked for being negative
    width, first = np.uint64(outputs), np.uint64(at)
    bias = first + np.uint64(inputs) * width
    for j in range(width):
        b = weights[bias + j]
        out0[j], out1[j], out2[j], out3[j] = b, b, b, b
    for k in range(0, inputs - 3, 4):
        a0 = first + np.uint64(k) * width
        a1, a2, a3 = a0 + width, a0 + width + width, a0 + width + width + width
        x00, x01, x02, x03 = x[0, k], x[0, k + 1], x[0, k + 2], x[0, k + 3]
        x10, x11, x12, x13 = x[1, k], x[1, k + 1], x[1, k + 2], x[1, k + 3]
        x20, x21, x22, x23 = x[2, k], x[2, k + 1], x[2, k + 2], x[2, k + 3]
        x30, x31, x32, x33 = x[3, k], x[3, k + 1], x[3, k + 2], x[3, k + 3]
        for j in range(width):
            w0, w1, w2, w3 = weights[a0 + j], weights[a1 + j], weights[a2 + j], weights[a3 + j]
            out0[j] = out0[j] + x00 * w0 + x01 * w1 + x02 * w2 + x03 * w3
            out1[j] = out1[j] + x10 * w0 + x11 * w1 + x12 * w2 + x13 * w3
            out2[j] = out2[j] + x20 * w0 + x21 * w1 + x22 * w2 + x23 * w3
            out3[j] = out3[j] + x30 * w0 + x31 * w1 + x32 * w2 + x33 * w3
    for k in range(inputs - inputs % 4, inputs):
        a0 = first + np.uint64(k) * width
        for j in range(width):
            w0 = weights[a0 + j]
            out0[j] = out0[j] + x[0, k] * w0
            out1[j] = out1[j] + x[1, k] * w0
            out2[j] = out2[j] + x[2, k] * w0
            out3[j] = out3[j] + x[3, k] * w0


@contracted_kernel
def _dense_row(
    x: Floats, weights: Floats, at: int, inputs: int, outputs: int, live: Ints, out: Floats
) -> None:
    # the same sums in the same order, without the inputs that are zero and so change none
    width, first = np.uint64(outputs), np.uint64(at)
    bias = first + np.uint64(inputs) * width
    for j in range(width):
        out[j] = weights[bias + j]
    count = 0
    for k in range(inputs):
        live[count] = k
        count += 1 if x[k] != 0.0 else 0
    for n in range(0, count - 3, 4):
        k0, k1, k2, k3 = live[n], live[n + 1], live[n + 2], live[n + 3]
        x0, x1, x2, x3 = x[k0], x[k1], x[k2], x[k3]
        a0, a1 = first + np.uint64(k0) * width, first + np.uint64(k1) * width
        a2, a3 = first + np.uint64(k2) * width, first + np.uint64(k3) * width
        for j in range(width):
            out[j] = (
                out[j] + x0 * weights[a0 + j] + x1 * weights[a1 + j]
                + x2 * weights[a2 + j] + x3 * weights[a3 + j]
            )  # fmt: skip
    for n in range(count - count % 4, count):
        x0, a0 = x[live[n]], first + np.uint64(live[n]) * width
        for j in range(width):
            out[j] = out[j] + x0 * weights[a0 + j]
