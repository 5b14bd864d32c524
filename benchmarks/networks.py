"""What the network's arithmetic alone costs: its matrix products, on one BLAS thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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


def update_products(config: PPOConfig, threads: int) -> Contestant:
    """The matrix products of PPO for a rollout's transitions, actor and critic.

    Forward, gradient of the weights, and gradient of the inputs but of the first layer, once an
    epoch; besides one forward pass for acting. The units are environment steps: a minibatch's
    products in every epoch are the work of its transitions. On two threads each takes a network.
    """
    networks = [_products(layers(config, outputs), config) for outputs in (ACTIONS, 1)]

    def run(_: None) -> int:
        if threads == 1:
            for network in networks:
                network()
        else:
            with ThreadPoolExecutor(1) as second:
                other = second.submit(networks[1])
                networks[0]()
                other.result()
        return PRODUCTS_A_RUN * config.batch_size

    return Contestant(run)


def _products(shapes: Sequence[tuple[int, int]], config: PPOConfig) -> Callable[[], None]:
    batch = config.batch_size
    forward = [(_ones(batch, a), _ones(b, a), _ones(batch, b)) for a, b in shapes]
    gradients = [(_ones(batch, a), _ones(b, a)) for a, b in shapes]

    def run() -> None:
        for _repeat in range(PRODUCTS_A_RUN):
            for _epoch in range(config.n_epochs):
                for inputs, weight, out in forward:
                    np.matmul(inputs, weight.T, out=out)
                for (inputs, weight, out), (of_inputs, of_weight) in zip(
                    forward, gradients, strict=True
                ):
                    np.matmul(out.T, inputs, out=of_weight)
                    if inputs is not forward[0][0]:
                        np.matmul(out, weight, out=of_inputs)
            for inputs, weight, out in forward:
                np.matmul(inputs, weight.T, out=out)

    return run


def _ones(rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.full((rows, columns), 0.001, np.float32)
