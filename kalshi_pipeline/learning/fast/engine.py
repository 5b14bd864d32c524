"""The compiled arithmetic of one model: its flat weights, its room, its two threads."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy

from kalshi_pipeline.learning.fast.heads import Loss
from kalshi_pipeline.learning.fast.meeting import CACHE_LINE, LEFT
from kalshi_pipeline.learning.fast.network import Layout, output_room
from kalshi_pipeline.learning.fast.parameters import FlatParameters
from kalshi_pipeline.learning.fast.rollout import act, evaluate
from kalshi_pipeline.learning.fast.update import (
    ACTOR,
    CRITIC,
    NOT_FINITE,
    Hyper,
    Rollout,
    Scratch,
    update,
)

EVALUATED_AT_ONCE = 256  # observations; their layers fit the second cache


class Engine:
    """Acts, values and learns for a policy; see `parameters.FlatParameters`.

    Call it within `blas.single_threaded()`.

    Args:
        policy: one that `eligibility.why_not` has nothing against.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.weights = FlatParameters(policy)
        actor, critic = self.weights.trained.actor, self.weights.trained.critic
        self._acting = output_room(actor, 1)
        self._valuing = output_room(critic, EVALUATED_AT_ONCE)
        self._scratch = self._rooms(1)

    def act(
        self,
        observations: NDArray[np.float32],
        masks: NDArray[np.bool_],
        key: np.uint64,
        counter: int,
        log_probs: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """`[lanes]` sampled actions; see `rollout.act`."""
        layout, parameters = self.weights.actor()
        if len(self._acting) < len(observations) * layout[:, 1].sum():
            self._acting = output_room(layout, len(observations))
        actions = np.empty(len(observations), np.int64)
        act(
            layout, parameters, np.ascontiguousarray(observations, np.float32), masks,
            key, counter, self._acting, self._scratch[ACTOR].shares, actions, log_probs,
        )  # fmt: skip
        return actions

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[n]` values of `[n, inputs]` observations."""
        layout, parameters = self.weights.critic()
        values = np.empty(len(observations), np.float32)
        evaluate(
            layout, parameters, np.ascontiguousarray(observations, np.float32),
            EVALUATED_AT_ONCE, self._valuing, values,
        )  # fmt: skip
        return values

    def learn(
        self,
        rollout: Rollout,
        orders: NDArray[np.int64],
        batch: int,
        hyper: Hyper,
        threads: int,
    ) -> tuple[NDArray[np.float64], bool]:
        """Train on every minibatch, on one thread or two; see `update.update`.

        Returns:
            `[minibatches, 5]` what is logged, and whether every gradient was finite; where one was
            not, the optimiser stopped before its minibatch.
        """
        epochs, count = orders.shape
        batch = min(batch, count)
        if self._scratch[ACTOR].numbers.shape[1] != batch:
            self._scratch = self._rooms(batch)
        losses = np.zeros((epochs * -(-count // batch), len(Loss)))
        squares, flags = np.zeros((2, 2)), np.zeros(2 * CACHE_LINE, np.int64)

        def run(first: int, last: int) -> int:
            try:
                return update(
                    first, last, self.weights.trained, rollout, orders, batch, hyper,
                    *self._scratch, losses, squares, flags,
                )  # fmt: skip
            except BaseException:
                flags[first * CACHE_LINE] = LEFT
                raise

        if threads == 1:
            outcome = run(ACTOR, CRITIC)
        else:
            with ThreadPoolExecutor(1) as second:
                other = second.submit(run, CRITIC, CRITIC)
                outcome = run(ACTOR, ACTOR)
                other.result()
        if outcome != NOT_FINITE:
            self.weights.advance(len(losses))
        return losses, outcome != NOT_FINITE

    def _rooms(self, batch: int) -> tuple[Scratch, Scratch]:
        trained = self.weights.trained
        actions = int(trained.actor[-1, 1])
        return _room(trained.actor, actions, batch), _room(trained.critic, actions, batch)


def _room(layout: Layout, actions: int, batch: int) -> Scratch:
    return Scratch(
        observations=np.empty(batch * int(layout[0, 0]), np.float32),
        outputs=output_room(layout, batch),
        slopes=output_room(layout, batch),
        numbers=np.empty((2, batch)),
        actions=np.empty(batch, np.int64),
        masks=np.empty((batch, actions), np.bool_),
        shares=np.empty(actions),
    )


def mean_losses(
    losses: NDArray[np.float64], epochs: int, weights: Iterable[float]
) -> dict[str, float]:
    """What Stable-Baselines3 logs of an update: means, but the last epoch's divergence."""
    ent_coef, vf_coef = weights
    means = losses.mean(axis=0)
    last = losses[-1]
    return {
        "entropy_loss": float(means[Loss.ENTROPY]),
        "policy_gradient_loss": float(means[Loss.POLICY]),
        "value_loss": float(means[Loss.VALUE]),
        "approx_kl": float(losses[-(len(losses) // epochs) :, Loss.KL].mean()),
        "clip_fraction": float(means[Loss.CLIPPED]),
        "loss": float(
            last[Loss.POLICY] + ent_coef * last[Loss.ENTROPY] + vf_coef * last[Loss.VALUE]
        ),
    }
