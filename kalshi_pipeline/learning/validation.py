"""Validation while training: which episodes, when it has fallen too far, which checkpoint is best.

The score is dollars an episode, mean over the same episodes every time, as the deterministic policy
trades them: liquidation or settlement, fees on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_DOLLAR, TradingConfig, WatchConfig
from kalshi_pipeline.errors import NoSuitableMarket, TrainingDiverged
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.trading.tape import Universe

Scored = Callable[[NetworkPolicy, Mapping[tuple[int, str], int]], None]

_CHOICE_SEED = 20_251_214  # of the episodes to validate on: never of the run, so that runs compare


def validation_episodes(universe: Universe, max_steps: int) -> NDArray[np.int64]:
    """Indices of the episodes to validate on, ascending: all, or as many as fit.

    Where all are longer than the bound together, a market's first drawn segment comes before any
    market's second, in a fixed random order, and what would pass the bound is left out; one is
    always taken.

    Args:
        universe: of the validation sessions.
        max_steps: most steps of all chosen episodes together.
    """
    steps = np.array([episode.steps for episode in universe.episodes], np.int64)
    if steps.sum() <= max_steps:
        return np.arange(len(universe))
    turn: dict[tuple[int, str], int] = {}
    order: list[tuple[int, int, int]] = []
    for index in np.random.default_rng(_CHOICE_SEED).permutation(len(universe)).tolist():
        market = (universe.episodes[index].session, universe.episodes[index].market)
        turn[market] = turn.get(market, 0) + 1
        order.append((turn[market], len(order), index))
    chosen: list[int] = []
    room = max_steps
    for *_, index in sorted(order):
        if steps[index] <= room:
            chosen.append(index)
            room -= int(steps[index])
    return np.array(sorted(chosen or [int(steps.argmin())]), np.int64)


class Validator:
    """Scores a policy: mean dollars an episode, marked at settlement or liquidation, fees on.

    Args:
        universe: of the validation sessions.
        trading: rules of the episodes.
        max_steps: see `validation_episodes`.
        scored: told of each policy what each (session, event) came to, in micro-dollars and in
            the order in which they end: a policy that was scored is a trial, chosen or not.

    Attributes:
        episodes: indices of those it plays.

    Raises:
        NoSuitableMarket: the universe is empty.
    """

    def __init__(
        self,
        universe: Universe,
        trading: TradingConfig,
        max_steps: int,
        scored: Scored = lambda _policy, _totals: None,
    ) -> None:
        if not universe.episodes:
            raise NoSuitableMarket(
                "no suitable market to validate on: 0 episodes", rule="episodes >= 1", value=0
            )
        self.episodes = validation_episodes(universe, max_steps)
        self._universe, self._trading, self._scored = universe, trading, scored
        ends: dict[tuple[int, str], int] = {}
        for index in self.episodes.tolist():
            episode = universe.episodes[index]
            event = (episode.session, episode.event)
            ends[event] = max(episode.end_ms, ends.get(event, episode.end_ms))
        self._events = sorted(ends, key=lambda event: (ends[event], event))

    def __call__(self, policy: NetworkPolicy) -> float:
        """Play the episodes with a deterministic policy."""
        no_chance = np.random.default_rng(0)  # a greedy actor never draws on it
        played = policy.play(self._universe, self._trading, self.episodes, no_chance)
        pnl = [summary.pnl_micro for summary in played.summaries]
        totals = dict.fromkeys(self._events, 0)
        for index, earned in zip(self.episodes.tolist(), pnl, strict=True):
            episode = self._universe.episodes[index]
            totals[episode.session, episode.event] += earned
        self._scored(policy, totals)
        return float(np.mean(pnl)) / MICRO_PER_DOLLAR


def drop(scores: Sequence[float], floor: float) -> float:
    """By which share of the best score the last one lies below it; 0 where it is the best.

    The share is of the best score's size, and of `floor` where that is smaller: next to a best of
    zero any difference would be infinitely large.

    Args:
        scores: dollars an episode, in time order.
        floor: dollars an episode, above 0.
    """
    best = max(scores)
    return (best - scores[-1]) / max(abs(best), floor)


def fallen(scores: Sequence[float], config: WatchConfig) -> float | None:
    """The drop of the last score where it is reason to stop, else None.

    It is one when the last `validation_patience` scores all lie further below the best than
    `validation_drop` allows, and there are `validation_min` scores or more: a policy that explores
    trades worse for a while, and the first of all often does nothing and so loses nothing.

    Args:
        scores: dollars an episode, in time order.
        config: when to stop.
    """
    patience = config.validation_patience
    if len(scores) < max(config.validation_min, patience + 1):
        return None
    floor = config.validation_floor_dollars
    drops = [drop(scores[: len(scores) - back], floor) for back in range(patience)]
    return drops[0] if min(drops) > config.validation_drop else None


class Selection:
    """Scores of the policies of a phase, and the best checkpoint; the earliest of equals.

    Args:
        validate: scores a policy, higher is better; None = nothing is ever scored.
        scores: what was scored before the phase was resumed.
        best: the best of those.

    Attributes:
        scores: (timesteps, score) of every validation.
        best: the checkpoint with the highest score so far; the caller sets it.
    """

    def __init__(
        self,
        validate: Callable[[NetworkPolicy], float] | None,
        scores: Sequence[tuple[int, float]] = (),
        best: Checkpoint | None = None,
    ) -> None:
        self.scores = list(scores)
        self.best = best
        self._validate = validate

    def score(self, policy: NetworkPolicy, timesteps: int) -> bool:
        """Score a policy; whether it is the best so far.

        Args:
            policy: of the present weights.
            timesteps: environment steps of the phase so far.

        Raises:
            TrainingDiverged: the score is not finite.
        """
        score = self._validate(policy) if self._validate else float("nan")
        if not np.isfinite(score):
            raise TrainingDiverged(
                "a validation score is not finite",
                row=timesteps,
                rule="finite score",
                value=score,
            )
        better = all(score > earlier for _, earlier in self.scores)
        self.scores.append((timesteps, score))
        return better
