"""Which market comes next.

Smooth weighted round robin: at each draw every candidate earns credit in proportion to its weight,
and the richest one is taken and pays for one draw. A candidate of weight w out of W is therefore
taken once in W / w draws, evenly spread: neighbouring draws mix markets, and none is ever left out
for good. It is done twice: first among groups of markets alike in tier and temporal pattern, each
weighing as much as its markets together, then among the markets of the group. So any stretch of
draws holds front-loaded, mid-peak, back-loaded and even markets in the universe's own proportion
(plan section 1.3). Within a market the segment drawn least often is next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_DOLLAR
from kalshi_pipeline.errors import IncompatibleCheckpoint, NoSuitableMarket
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Universe

# activity tier -> weight at the start of a phase, and the share of the phase after which it is 1.
# Busy markets first (plan section 1.3), the others widen in; at the end all markets weigh the same.
TIERS = {"high": (1.0, 0.0), "medium": (0.25, 1 / 3), "low": (0.1, 2 / 3)}


class MarketSampler:
    """Draws the episodes that the lanes of a vector environment play next.

    Args:
        universe: the episodes to choose from.
        rng: breaks ties between markets once, and chooses among the segments of one market.
        curriculum: weigh markets by activity tier and progress and spread temporal patterns;
            otherwise all markets weigh the same, whatever they are like.

    Attributes:
        progress: share of the phase that is done, in [0, 1]; set by the trainer.
        counts: `[markets]` draws of each market so far.
        ended: `[markets]` episodes of each market that ended so far.

    Raises:
        NoSuitableMarket: the universe is empty.
    """

    def __init__(
        self, universe: Universe, rng: np.random.Generator, *, curriculum: bool = True
    ) -> None:
        episodes = universe.episodes
        names = [(episode.session, episode.market) for episode in episodes]
        self.markets = tuple(dict.fromkeys(names))
        if not names:
            raise NoSuitableMarket(
                "no suitable market to train on: 0 episodes in 0 markets; see the reasons for "
                "exclusion in suitable_markets",
                rule="episodes >= 1",
                value=0,
            )
        place = {name: market for market, name in enumerate(self.markets)}
        self._market_of = np.array([place[name] for name in names], np.int64)
        first = [names.index(name) for name in self.markets]
        kinds = [(episodes[e].tier, episodes[e].pattern) if curriculum else () for e in first]
        known = {kind: group for group, kind in enumerate(dict.fromkeys(kinds))}
        self._group_of = np.array([known[kind] for kind in kinds], np.int64)
        tiers = [TIERS[episodes[e].tier] if curriculum else (1.0, 0.0) for e in first]
        self._start, self._full_at = np.array(tiers).T
        self._segments = [np.flatnonzero(self._market_of == m) for m in range(len(self))]
        self.progress = 0.0
        self.counts = np.zeros(len(self), np.int64)
        self.ended = np.zeros(len(self), np.int64)
        self._curriculum = curriculum
        self._pnl_micro = np.zeros(len(self), np.int64)  # of the ended episodes, in sum
        self._segment_counts = np.zeros(len(episodes), np.int64)
        self._rng = rng
        self._credit = rng.random(len(self))
        self._group_credit = rng.random(len(known))

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

    @property
    def returns(self) -> dict[tuple[int, str], float | None]:
        """(session, market) -> mean dollars an ended episode; None where none has ended."""
        totals = zip(self.markets, self._pnl_micro.tolist(), self.ended.tolist(), strict=True)
        return {name: sum_ / n / MICRO_PER_DOLLAR if n else None for name, sum_, n in totals}

    def draw(self, count: int) -> NDArray[np.int64]:
        """`[count]` episode indices."""
        weights = self.weights
        groups = np.bincount(self._group_of, weights, len(self._group_credit))
        within = weights / groups[self._group_of]
        episodes = np.empty(count, np.int64)
        for place in range(count):
            self._group_credit += groups
            group = int(np.argmax(self._group_credit))
            self._group_credit[group] -= 1.0
            members = np.flatnonzero(self._group_of == group)
            self._credit[members] += within[members]
            market = int(members[np.argmax(self._credit[members])])
            self._credit[market] -= 1.0
            self.counts[market] += 1
            episodes[place] = self._next_segment(market)
        return episodes

    def earned(self, ended: Iterable[EpisodeSummary]) -> None:
        """Count episodes that ended and what they came to, by market."""
        for summary in ended:
            market = self._market_of[summary.episode]
            self.ended[market] += 1
            self._pnl_micro[market] += summary.pnl_micro

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues exactly."""
        return {
            "curriculum": self._curriculum,
            "progress": self.progress,
            "credit": self._credit.tolist(),
            "group_credit": self._group_credit.tolist(),
            "counts": self.counts.tolist(),
            "ended": self.ended.tolist(),
            "pnl_micro": self._pnl_micro.tolist(),
            "segment_counts": self._segment_counts.tolist(),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where a sampler over the same universe stopped.

        Raises:
            IncompatibleCheckpoint: it was over another universe, or weighed otherwise.
        """
        theirs = (len(state["counts"]), len(state["segment_counts"]), state["curriculum"])
        ours = (len(self), len(self._segment_counts), self._curriculum)
        if theirs != ours:
            raise IncompatibleCheckpoint(
                f"the sampler to continue had (markets, episodes, curriculum) {theirs}, this one "
                f"has {ours}",
                rule="curriculum",
                value=theirs,
            )
        self.progress = float(state["progress"])
        self._credit = np.array(state["credit"], np.float64)
        self._group_credit = np.array(state["group_credit"], np.float64)
        self.counts = np.array(state["counts"], np.int64)
        self.ended = np.array(state["ended"], np.int64)
        self._pnl_micro = np.array(state["pnl_micro"], np.int64)
        self._segment_counts = np.array(state["segment_counts"], np.int64)
        self._rng.bit_generator.state = state["rng"]

    def _next_segment(self, market: int) -> int:
        segments = self._segments[market]
        counts = self._segment_counts[segments]
        rarest = segments[counts == counts.min()]
        episode = int(rarest[self._rng.integers(len(rarest))])
        self._segment_counts[episode] += 1
        return episode
