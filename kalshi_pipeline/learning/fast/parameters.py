"""A policy's weights and Adam's moments as flat arrays that PyTorch sees as its own tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from kalshi_pipeline.learning.fast.eligibility import linear_layers
from kalshi_pipeline.learning.fast.network import Flat, Layout, layout_of, parameter_count
from kalshi_pipeline.learning.fast.update import Trained

MOMENTS = ("exp_avg", "exp_avg_sq")


class _Piece(NamedTuple):
    # one tensor of the policy and where it lies in the flat arrays
    parameter: torch.Tensor
    at: slice


class FlatParameters:
    """The two networks of a policy on shared memory.

    The policy's parameters and the optimiser's moments become views into the flat arrays, so that
    what compiled code trains is what `state_dict` saves, and what `load_state_dict` loads is what
    compiled code trains.

    Args:
        policy: one that `eligibility.why_not` has nothing against.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        actor, critic = linear_layers(policy)
        self.policy = policy
        layouts = [_layout(layers) for layers in (actor, critic)]
        self.split = parameter_count(layouts[0])
        count = self.split + parameter_count(layouts[1])
        flat = [np.zeros(count, np.float32) for _ in Trained._fields[2:]]
        self.trained = Trained(layouts[0], layouts[1], *flat)
        self._pieces: list[_Piece] = []
        at = 0
        for layer in (*actor, *critic):
            for parameter in (layer.weight, layer.bias):
                self._pieces.append(_Piece(parameter, slice(at, at + parameter.numel())))
                at += parameter.numel()
        self._steps = np.zeros(len(self._pieces), np.float32)
        self.refresh()

    def actor(self) -> tuple[Layout, Flat]:
        """Layout and weights of the actor."""
        return self.trained.actor, self.trained.parameters[: self.split]

    def critic(self) -> tuple[Layout, Flat]:
        """Layout and weights of the critic."""
        return self.trained.critic, self.trained.parameters[self.split :]

    @property
    def steps(self) -> int:
        """Minibatches the optimiser has seen."""
        return int(self._steps[0])

    def advance(self, steps: int) -> None:
        """Count further minibatches."""
        self._steps += np.float32(steps)

    def refresh(self) -> None:
        """Take in tensors that someone has replaced: a loaded optimiser state is one of its own."""
        flat = self.trained
        for number, (parameter, at) in enumerate(self._pieces):
            parameter.data = _view(flat.parameters[at], parameter.data)
            state: Any = self.policy.optimizer.state[parameter]
            for name, moments in zip(MOMENTS, (flat.mean, flat.square), strict=True):
                state[name] = _view(moments[at], state.get(name, torch.zeros_like(parameter.data)))
            step = self._steps[number : number + 1]
            state["step"] = _view(step, state.get("step", torch.tensor(0.0)))

    def not_finite(self) -> list[int]:
        """Numbers of the parameters whose gradients are not finite, in the policy's order."""
        return [
            id(parameter)
            for parameter, at in self._pieces
            if not np.isfinite(self.trained.gradients[at]).all()
        ]


def _layout(layers: list[nn.Linear]) -> Layout:
    return layout_of([layers[0].in_features, *(layer.out_features for layer in layers)])


def _view(memory: Flat, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.data_ptr() == memory.ctypes.data:
        return tensor
    view = torch.from_numpy(memory).reshape(tensor.shape)
    return view.copy_(tensor)
