"""Checkpoints to and from models of Stable-Baselines3.

`export_sb3_zip` writes the zip that stock `PPO.load` opens. Nothing here reads one: opening it
would unpickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kalshi_pipeline.config import LearnerConfig
from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.storage.checkpoints import ACTION_COUNT, MOMENTS, Checkpoint, Tensors


def sb3_arguments(config: LearnerConfig) -> dict[str, Any]:
    """Keyword arguments of `stable_baselines3.PPO` for these hyper-parameters, network included.

    What another algorithm's configuration does not say keeps the default of Stable-Baselines3.
    """
    names = (
        "learning_rate n_steps batch_size n_epochs gamma gae_lambda clip_range ent_coef vf_coef "
        "max_grad_norm"
    )
    return network_arguments(config) | {
        name: getattr(config, name) for name in names.split() if hasattr(config, name)
    }


def network_arguments(config: LearnerConfig) -> dict[str, Any]:
    """Keyword arguments of any Stable-Baselines3 algorithm for separate actor and critic."""
    from torch import nn

    hidden = list(config.hidden)
    return {
        "policy_kwargs": {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": nn.ReLU},
        "device": "cpu",
    }


def export_sb3_zip(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint as the `model.zip` that stock `PPO.load` opens and predicts from.

    A convenience for people with Stable-Baselines3 at hand; its bytes are not reproducible.
    """
    import torch
    from gymnasium import spaces
    from stable_baselines3 import PPO

    arguments = sb3_arguments(checkpoint.state.config)
    model = PPO("MlpPolicy", cast(Any, None), _init_setup_model=False, **arguments)
    low, high = (
        np.array([getattr(f, end) for f in FEATURES], np.float32) for end in ("low", "high")
    )
    model.observation_space = spaces.Box(low, high, dtype=np.float32)
    model.action_space = spaces.Discrete(ACTION_COUNT)
    model.n_envs = checkpoint.state.config.n_envs
    with torch.random.fork_rng(devices=[]):  # initial weights must not move the caller's generator
        model._setup_model()
    restore(model, checkpoint)
    model.save(path)


def restore(model: Any, checkpoint: Checkpoint, *, optimizer: bool = True) -> None:
    """Put a checkpoint's weights, Adam moments and step counter into a model of the same network.

    Args:
        model: a Stable-Baselines3 algorithm made with `network_arguments`.
        checkpoint: where to continue from.
        optimizer: whether Adam goes on too; its moments mean nothing to another algorithm's losses.
    """
    import torch

    # copies: it is learned in place, and a checkpoint never changes
    weights = {name: torch.tensor(value) for name, value in checkpoint.policy.items()}
    model.policy.load_state_dict(weights)
    model.num_timesteps = checkpoint.state.timesteps_total
    if not optimizer:
        return
    names = [name for name, _ in model.policy.named_parameters()]
    put_moments(model.policy.optimizer, names, checkpoint.optimizer)


def tensors_of(model: Any) -> tuple[Tensors, Tensors]:
    """Copies of a model's weights and Adam moments, under the names of this format."""
    policy = {
        name: value.detach().cpu().numpy().copy()
        for name, value in model.policy.state_dict().items()
    }
    return policy, moments_of(model.policy.optimizer, model.policy.named_parameters())


def moments_of(optimizer: Any, parameters: Iterable[tuple[str, Any]]) -> Tensors:
    """Copies of Adam's moments of named parameters; zeros before its first step."""
    moments = {}
    for name, parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for moment in ("step", *MOMENTS):
            empty = np.zeros(() if moment == "step" else tuple(parameter.shape), np.float32)
            moments[f"{moment}.{name}"] = state[moment].cpu().numpy().copy() if state else empty
    return moments


def put_moments(optimizer: Any, names: Sequence[str], moments: Tensors) -> None:
    """Give Adam copies of the moments that `moments_of` made, its parameters in order of `names`.

    Where no step was taken yet it stays as it is, as fresh.
    """
    import torch

    adam = optimizer.state_dict()
    adam["state"] = {
        index: {moment: torch.tensor(moments[f"{moment}.{name}"]) for moment in ("step", *MOMENTS)}
        for index, name in enumerate(names)
        if moments[f"step.{name}"] > 0
    }
    optimizer.load_state_dict(adam)
