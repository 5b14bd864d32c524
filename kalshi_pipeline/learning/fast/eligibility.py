"""Which models the compiled arithmetic serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn


def why_not(model: PPO) -> str | None:
    """What keeps a model from the compiled arithmetic; None where nothing does."""
    return next((reason for found, reason in _obstacles(model) if found), None)


def linear_layers(policy: ActorCriticPolicy) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """Layers of the actor and of the critic, from the observation on."""
    extractor = policy.mlp_extractor
    found = []
    for hidden, head in (
        (extractor.policy_net, policy.action_net),
        (extractor.value_net, policy.value_net),
    ):
        found.append([layer for layer in [*hidden, head] if isinstance(layer, nn.Linear)])
    return found[0], found[1]


def _obstacles(model: PPO) -> Iterator[tuple[bool, str]]:
    # in order: a later one may rely on the earlier ones
    policy: Any = model.policy
    yield model.device.type != "cpu", f"the device is {model.device}"
    yield model.use_sde, "the exploration depends on the state"
    yield model.clip_range_vf is not None, "the value's change is clipped"
    yield model.target_kl is not None, "an update ends early at a divergence"
    yield not isinstance(model.action_space, spaces.Discrete), "the actions are not discrete"
    yield getattr(model.action_space, "start", 0) != 0, "the actions do not begin at 0"
    observations = model.observation_space
    yield (
        not isinstance(observations, spaces.Box) or len(observations.shape) != 1,
        "the observations are no vectors",
    )
    yield observations.dtype != "float32", "the observations are not in single precision"
    yield (
        not issubclass(model.rollout_buffer_class or RolloutBuffer, RolloutBuffer),
        "the rollout buffer is another one",
    )
    yield type(policy) is not ActorCriticPolicy, f"the policy is a {type(policy).__name__}"
    yield type(policy.features_extractor) is not FlattenExtractor, "features are extracted"
    yield not _rectified(policy), "the networks are not Linear and ReLU in turn"
    yield not _plain_adam(policy), "the optimiser is not Adam as it comes"


def _rectified(policy: ActorCriticPolicy) -> bool:
    extractor = policy.mlp_extractor
    hidden = [extractor.policy_net, extractor.value_net]
    in_turn = all(
        type(layer) is (nn.ReLU if at % 2 else nn.Linear)
        for network in hidden
        for at, layer in enumerate(network)
    )
    whole = all(len(network) % 2 == 0 for network in hidden)
    layers = [layer for network in linear_layers(policy) for layer in network]
    expected = {id(p) for layer in layers for p in (layer.weight, layer.bias)}
    found = list(policy.parameters())
    # nothing shared, nothing frozen, nothing besides
    return (
        in_turn
        and whole
        and all(layer.bias is not None for layer in layers)
        and len(found) == 2 * len(layers)
        and {id(p) for p in found} == expected
        and all(p.requires_grad and p.dtype == torch.float32 for p in found)
    )


def _plain_adam(policy: ActorCriticPolicy) -> bool:
    optimizer = policy.optimizer
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    switches = ("weight_decay", "amsgrad", "maximize", "capturable", "differentiable")
    steps = {
        float(state["step"]) for state in (optimizer.state[p] for p in group["params"]) if state
    }
    return not any(group[name] for name in switches) and len(steps) <= 1
