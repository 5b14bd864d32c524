"""Small random universes with the names a test gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalshi_pipeline.trading.tape import Universe
from tests.tapes import random_universe


def named_universe(session: int, events: int, *, prefix: str = "EV", seed: int = 0) -> Universe:
    """`events` events of one market each."""
    universe = random_universe(np.random.default_rng(seed + session), episodes=events, steps=12)
    episodes = tuple(
        replace(
            episode,
            session=session,
            event=f"{prefix}{session}-{index}",
            market=f"{prefix}{session}-{index}-M",
        )
        for index, episode in enumerate(universe.episodes)
    )
    return Universe(universe.tape, episodes)


def ranges(universe: Universe, end_ms: int | None = None) -> list[dict[str, object]]:
    """The universe as a checkpoint's lineage would list it."""
    return [
        {
            "session": episode.session,
            "event": episode.event,
            "market": episode.market,
            "start_ms": episode.start_ms,
            "end_ms": episode.end_ms if end_ms is None else end_ms,
        }
        for episode in universe.episodes
    ]
