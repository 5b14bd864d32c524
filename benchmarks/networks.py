"""What the network's arithmetic alone costs: its matrix products, on one BLAS thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.timing import Contestant
from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.trading.actions import ACTIONS

PRODUCTS_A_RUN = 16


def layers(config: PPOConfig, outputs: int = ACTIONS) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer of one network."""
    widths = [OBSERVATION_WIDTH, *config.hidden, outputs]
    return list(pairwise(widths))


def forward_products(shapes: Sequence[tuple[int, int]], batch: int) -> Contestant:
    """The matrix products of a forward pass; the units are observations."""
    pairs = [(_ones(batch, a), _ones(a, b), _ones(batch, b)) for a, b in shapes]

    def run(_: None) -> int:
        for _repeat in range(PRODUCTS_A_RUN):
            for left, right, out in pairs:
                np.matmul(left, right, out=out)
        return PRODUCTS_A_RUN * batch

    return Contestant(run)


def update_products(config: PPOConfig) -> Contestant:
    """The matrix products of PPO for a rollout's transitions, actor and critic.

    Forward, gradient of the weights, and gradient of the inputs but of the first layer, once an
    epoch; besides one forward pass for acting. The units are environment steps: a run does one
    minibatch, which is the work of batch / epochs steps.
    """
    batch = config.batch_size
    shapes = [*layers(config), *layers(config, 1)]
    triples = [
        (_ones(batch, a), _ones(a, b), _ones(batch, b), a != OBSERVATION_WIDTH) for a, b in shapes
    ]
    weight_gradients = [_ones(a, b) for a, b in shapes]

    def minibatch(_: None) -> int:
        for _repeat in range(config.n_epochs):
            for (inputs, weight, out, deep), gradient in zip(
                triples, weight_gradients, strict=True
            ):
                np.matmul(inputs, weight, out=out)
                np.matmul(inputs.T, out, out=gradient)
                if deep:
                    np.matmul(out, weight.T, out=inputs)
                inputs.fill(0.001)  # keeps the numbers ordinary
        for inputs, weight, out, _deep in triples:
            np.matmul(inputs, weight, out=out)
        return batch

    return Contestant(minibatch)


def _ones(rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.full((rows, columns), 0.001, np.float32)
