"""Numbers that stop training, because learning from them would hide a bug."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from torch import nn

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT, TradingConfig
from kalshi_pipeline.errors import TrainingDiverged
from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.trading.tape import Tape

ORDERS_PER_STEP = 3
FEE_ROUNDING_DOLLARS = 0.02  # an order: up to the cent, and less than a cent carried
ROLLOUT_ARRAYS = ("rewards", "values", "log_probs", "advantages", "returns")


def reward_bound(trading: TradingConfig, tape: Tape) -> float:
    """The largest honest |reward| of one step, in dollars.

    A contract is worth between 0 and 1 dollar, so each contract held or traded within a step moves
    equity by at most 1 dollar. At most the position limit is held, and three orders can fill: the
    two that rest and the one in flight. Fees are at most rate / 4 a contract, and rounding.
    """
    traded = ORDERS_PER_STEP * trading.order_size_centi / CENTI_PER_CONTRACT
    bound = trading.position_limit_centi / CENTI_PER_CONTRACT + traded
    if trading.fees:
        rate = tape.fee_schedule[:, :2].max() / BP_PER_DOLLAR * tape.fee_schedule[:, 2].max() / 100
        bound += traded * float(rate) / 4 + ORDERS_PER_STEP * FEE_ROUNDING_DOLLARS
    return bound


def check_observations(
    observations: NDArray[np.float32], markets: NDArray[np.str_], step: int
) -> None:
    """Refuse an observation that is not finite, before the policy sees it.

    Args:
        observations: `[lanes, 52]`.
        markets: `[lanes]` the market each was made in.
        step: environment steps so far, for the message.

    Raises:
        TrainingDiverged: names market, step and feature.
    """
    finite = np.isfinite(observations)
    if not finite.all():
        lane, column = np.argwhere(~finite)[0]
        raise TrainingDiverged(
            f"the feature {FEATURES[column].name} is not finite",
            market=str(markets[lane]),
            row=step,
            rule="finite observation",
            value=float(observations[lane, column]),
        )


def check_rewards(
    rewards: NDArray[np.floating], bound: float, markets: NDArray[np.str_], step: int
) -> None:
    """Refuse a reward that is not finite or that no honest simulator can give.

    Args:
        rewards: `[lanes]` dollars.
        bound: see `reward_bound`.
        markets: `[lanes]` the market each reward was earned in.
        step: environment steps so far, for the message.

    Raises:
        TrainingDiverged: names market, step and value.
    """
    bad = ~(np.abs(rewards) <= bound)  # not finite is bad too
    if bad.any():
        lane = int(bad.argmax())
        raise TrainingDiverged(
            "a reward breaks its bound: this is a fault of the simulator, not luck",
            market=str(markets[lane]),
            row=step,
            rule=f"|reward| <= {bound:g} dollars",
            value=float(rewards[lane]),
        )


def check_rollout(buffer: RolloutBuffer, markets: NDArray[np.str_], step: int) -> None:
    """Refuse a rollout with a number that is not finite, before it is learned from.

    Args:
        buffer: `[n_steps, lanes, ...]` arrays.
        markets: `[n_steps, lanes]` the market of each transition.
        step: environment steps before the rollout, for the message.

    Raises:
        TrainingDiverged: names the array, market and step.
    """
    for name in ROLLOUT_ARRAYS:
        array = getattr(buffer, name)
        if np.isfinite(array).all():
            continue
        row, lane = np.argwhere(~np.isfinite(array))[0][:2]
        raise TrainingDiverged(
            f"{name} of a rollout stopped being finite",
            market=str(markets[row, lane]),
            row=step + int(row) * buffer.n_envs,
            rule="finite",
            value=float(np.ravel(array[row, lane])[~np.isfinite(np.ravel(array[row, lane]))][0]),
        )


def check_weights(policy: nn.Module, step: int) -> None:
    """Refuse weights that are not finite.

    Raises:
        TrainingDiverged: names the tensor and step.
    """
    for name, weight in policy.named_parameters():
        if not weight.isfinite().all():
            raise TrainingDiverged(f"{name} stopped being finite", row=step, rule="finite weights")


def gradient_diverged(name: str, step: int) -> TrainingDiverged:
    """What is raised where the gradient of a tensor is not finite.

    Args:
        name: of the tensor.
        step: environment steps so far.
    """
    return TrainingDiverged(
        f"the gradient of {name} stopped being finite", row=step, rule="finite gradient"
    )


def guard_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, step: Callable[[], int]
) -> None:
    """Have an optimiser refuse gradients that are not finite, before they move the weights.

    Args:
        optimizer: of the network's parameters.
        network: names them.
        step: environment steps so far, for the message.
    """

    def refuse(*_: object) -> None:
        # one fused norm a minibatch; the tensors are looked at singly only when it is not finite
        gradients = {
            name: parameter.grad
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        if not torch.isfinite(torch.nn.utils.get_total_norm(list(gradients.values()))):
            for name, gradient in gradients.items():  # all are finite where squares overflowed
                if not torch.isfinite(gradient).all():
                    raise gradient_diverged(name, step())

    optimizer.register_step_pre_hook(refuse)
