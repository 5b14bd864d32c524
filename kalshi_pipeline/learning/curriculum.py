"""Which market comes next.

Smooth weighted round robin over markets: at each draw every market earns credit in proportion to
its weight, and the richest one is taken and pays for one draw. A market of weight w out of W is
therefore taken once in W / w draws, evenly spread: neighbouring draws mix markets, and none is ever
left out for good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.errors import IncompatibleCheckpoint, NoSuitableMarket
from kalshi_pipeline.trading.tape import Universe

# activity tier -> weight at the start of a phase, and the share of the phase after which it is 1.
# Busy markets first (plan section 1.3), the others widen in; at the end all markets weigh the same.
TIERS = {"high": (1.0, 0.0), "medium": (0.25, 1 / 3), "low": (0.1, 2 / 3)}


class MarketSampler:
    """Draws the episodes that the lanes of a vector environment play next.

    Args:
        universe: the episodes to choose from.
        rng: breaks ties between markets once, and chooses among the segments of one market.
        curriculum: weigh markets by activity tier and progress; otherwise all weigh the same.

    Attributes:
        progress: share of the phase that is done, in [0, 1]; set by the trainer.
        counts: `[markets]` draws of each market so far.

    Raises:
        NoSuitableMarket: the universe is empty.
    """

    def __init__(
        self, universe: Universe, rng: np.random.Generator, *, curriculum: bool = True
    ) -> None:
        segments: dict[tuple[int, str], list[int]] = {}
        for index, episode in enumerate(universe.episodes):
            segments.setdefault((episode.session, episode.market), []).append(index)
        if not segments:
            raise NoSuitableMarket(
                "no suitable market to train on: 0 episodes in 0 markets; see the reasons for "
                "exclusion in suitable_markets",
                rule="episodes >= 1",
                value=0,
            )
        self.markets = tuple(segments)
        self.counts = np.zeros(len(segments), np.int64)
        self.progress = 0.0
        self._curriculum = curriculum
        self._segments = [np.array(indices, np.int64) for indices in segments.values()]
        tiers = [TIERS[universe.episodes[indices[0]].tier] for indices in segments.values()]
        start, full_at = np.array(tiers).T if curriculum else np.array([[1.0], [0.0]])
        self._start = np.broadcast_to(start, len(segments))
        self._full_at = np.broadcast_to(full_at, len(segments))
        self._rng = rng
        self._credit = rng.random(len(segments))

    def __len__(self) -> int:
        return len(self.markets)

    @property
    def weights(self) -> NDArray[np.float64]:
        """`[markets]` weights at the present progress; they sum to 1."""
        done = np.minimum(1.0, self.progress / np.maximum(self._full_at, 1e-9))
        weights = np.where(self._full_at > 0, self._start + (1 - self._start) * done, 1.0)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    @property
    def draws(self) -> dict[tuple[int, str], int]:
        """(session, market) -> how often it was drawn."""
        return dict(zip(self.markets, self.counts.tolist(), strict=True))

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        weights = self.weights
        episodes = np.empty(count, np.int64)
        for place in range(count):
            self._credit += weights
            market = int(np.argmax(self._credit))
            self._credit[market] -= 1.0
            self.counts[market] += 1
            segments = self._segments[market]
            episodes[place] = segments[self._rng.integers(len(segments))]
        return episodes

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues exactly."""
        return {
            "curriculum": self._curriculum,
            "progress": self.progress,
            "credit": self._credit.tolist(),
            "counts": self.counts.tolist(),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where a sampler over the same universe stopped.

        Raises:
            IncompatibleCheckpoint: it was over another number of markets, or weighed otherwise.
        """
        theirs, ours = (len(state["counts"]), state["curriculum"]), (len(self), self._curriculum)
        if theirs != ours:
            raise IncompatibleCheckpoint(
                f"the sampler to continue had (markets, curriculum) {theirs}, this one has {ours}",
                rule="curriculum",
                value=theirs,
            )
        self.progress = float(state["progress"])
        self._credit = np.array(state["credit"], np.float64)
        self.counts = np.array(state["counts"], np.int64)
        self._rng.bit_generator.state = state["rng"]
