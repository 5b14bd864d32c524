"""Checkpoints to and from models of Stable-Baselines3.

`export_sb3_zip` writes the zip that stock `PPO.load` opens. Nothing here reads one: opening it
would unpickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.storage.checkpoints import ACTION_COUNT, MOMENTS, Checkpoint, Tensors


def sb3_arguments(config: PPOConfig) -> dict[str, Any]:
    """Keyword arguments of `stable_baselines3.PPO` for these hyper-parameters, network included."""
    from torch import nn

    hidden = list(config.hidden)
    names = (
        "learning_rate n_steps batch_size n_epochs gamma gae_lambda clip_range ent_coef vf_coef "
        "max_grad_norm"
    )
    return {name: getattr(config, name) for name in names.split()} | {
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


def restore(model: Any, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights, Adam moments and step counter into a model of the same network.

    Args:
        model: a `stable_baselines3.PPO` made with `sb3_arguments(checkpoint.state.config)`.
        checkpoint: where to continue from.
    """
    import torch

    # copies: the optimiser works in place, and a checkpoint never changes
    weights = {name: torch.tensor(value) for name, value in checkpoint.policy.items()}
    model.policy.load_state_dict(weights)
    optimizer = model.policy.optimizer.state_dict()
    optimizer["state"] = {
        index: {
            moment: torch.tensor(checkpoint.optimizer[f"{moment}.{name}"])
            for moment in ("step", *MOMENTS)
        }
        for index, (name, _) in enumerate(model.policy.named_parameters())
    }
    model.policy.optimizer.load_state_dict(optimizer)
    model.num_timesteps = checkpoint.state.timesteps_total


def tensors_of(model: Any) -> tuple[Tensors, Tensors]:
    """Copies of a model's weights and Adam moments, under the names of this format."""
    policy = {
        name: value.detach().numpy().copy() for name, value in model.policy.state_dict().items()
    }
    state = model.policy.optimizer.state
    optimizer = {
        f"{moment}.{name}": state[parameter][moment].numpy().copy()
        for name, parameter in model.policy.named_parameters()
        for moment in ("step", *MOMENTS)
    }
    return policy, optimizer
