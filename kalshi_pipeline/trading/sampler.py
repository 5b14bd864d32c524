"""Which market segment is played next."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Sampler(Protocol):
    """Chooses which market segments are played next."""

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        ...


class UniformSampler:
    """Every episode equally likely, with replacement."""

    def __init__(self, episodes: int, rng: np.random.Generator) -> None:
        self.episodes, self.rng = episodes, rng

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        return self.rng.integers(0, self.episodes, size=count)
