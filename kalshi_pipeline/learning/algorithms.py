"""Which learner belongs to which configuration."""

from __future__ import annotations

from kalshi_pipeline.config import A2CConfig, CloningConfig, LearnerConfig, PPOConfig, SACConfig
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.learning.a2c import make_a2c
from kalshi_pipeline.learning.cloning import make_cloning
from kalshi_pipeline.learning.cloning_learner import CloningLearner
from kalshi_pipeline.learning.learner import Learner
from kalshi_pipeline.learning.on_policy import OnPolicyLearner
from kalshi_pipeline.learning.ppo import Device, device_of, make_ppo
from kalshi_pipeline.learning.sac import make_sac
from kalshi_pipeline.learning.sac_learner import SACLearner
from kalshi_pipeline.trading.vector import KalshiVecEnv


def make_learner(
    env: KalshiVecEnv, config: LearnerConfig, seed: int, device: Device = "cpu"
) -> Learner:
    """A fresh learner of the algorithm that the configuration belongs to (`config.CONFIGS`).

    Args:
        env: vector environment of `config.n_envs` lanes.
        config: hyper-parameters.
        seed: in [0, 2^32).
        device: for PPO; the others learn on the CPU.

    Raises:
        PlanError: what the configuration asks for, its algorithm cannot do.
    """
    device_of(device, config)
    if isinstance(config, A2CConfig):
        if config.mask_actions:
            raise PlanError(
                "a2c learns from all actions: ppo, sac and bc can mask", rule="mask_actions"
            )
        return OnPolicyLearner(make_a2c(env, config, seed), config)
    if isinstance(config, SACConfig):
        return SACLearner(make_sac(env, config, seed), config)
    if isinstance(config, CloningConfig):
        return CloningLearner(make_cloning(env, config, seed), config)
    if isinstance(config, PPOConfig):
        return OnPolicyLearner(make_ppo(env, config, seed, device), config)
    raise PlanError("no algorithm learns by this", rule="algorithm", value=type(config).__name__)
