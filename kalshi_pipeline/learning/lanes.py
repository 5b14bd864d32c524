"""The lanes a policy learns on: not in step with each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.sampler import Sampler
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.vector import KalshiVecEnv

MAX_OFFSET = 10_000  # steps; bounds what a reset costs on very long episodes


class StaggeredLanes(KalshiVecEnv):
    """Lanes whose first episodes begin at different places.

    Lanes that start together on few episodes would play the same stretch in step for good: their
    transitions, and with them each minibatch, would be alike. After a reset each lane has therefore
    already held, by HOLD, up to a step drawn uniformly from its episode's first half; every later
    episode starts at its start. The summary of a first episode counts those steps. Evaluation
    always starts at the start.

    Args:
        universe: the episodes.
        n_envs: lanes.
        config: rules of trading.
        sampler: chooses episodes.
        rng: draws how far each lane plays on.
    """

    def __init__(
        self,
        universe: Universe,
        n_envs: int,
        config: TradingConfig,
        sampler: Sampler,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(universe, n_envs, config, sampler)
        self._rng = rng

    def reset(self) -> NDArray[np.float32]:
        """Start an episode in every lane, each somewhere within it: `[N, 52]`."""
        super().reset()
        simulator = self.simulator
        playing = simulator.state.account[:, Account.EPISODE].copy()
        steps = (simulator.tape.end_step - simulator.tape.first_step)[playing]
        offsets = self._rng.integers(0, np.clip(steps // 2, 1, MAX_OFFSET))
        hold = np.zeros(self.num_envs, np.int64)
        # all lanes step together: each is started when as many steps are left as it is to play on
        for left in range(int(offsets.max()), 0, -1):
            starting = np.flatnonzero(offsets == left)
            simulator.reset(starting, playing[starting])
            simulator.step(hold)
        starting = np.flatnonzero(offsets == 0)
        simulator.reset(starting, playing[starting])
        observations: NDArray[np.float32] = simulator.observation.copy()
        return observations
