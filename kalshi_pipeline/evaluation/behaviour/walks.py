"""The judged policy, the best baseline and Random, played again step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.backtest import play, repeats_of
from kalshi_pipeline.evaluation.baselines import RandomUniform
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.policies import Follower, Policy, cheats
from kalshi_pipeline.trading.record import Fills, Trace
from kalshi_pipeline.trading.tape import Universe

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Markets:
    """The markets in scope: N of them, in C events.

    Args:
        of_episode: session -> `[E]` number of each episode's market; -1 = not in scope.
        event: `[N]` number of each market's event.
        names: `[N]` session, event and ticker.
    """

    of_episode: Mapping[int, Ints]
    event: Ints
    names: tuple[tuple[int, str, str], ...]

    @property
    def events(self) -> int:
        """C, the number of independent units."""
        return int(self.event.max(initial=-1)) + 1

    @property
    def sessions(self) -> tuple[int, ...]:
        """Those with a market in scope, ascending."""
        return tuple(s for s, codes in sorted(self.of_episode.items()) if (codes >= 0).any())

    @classmethod
    def of(
        cls, universes: Mapping[int, Universe], segments: frozenset[tuple[int, str, int]]
    ) -> Markets:
        """Number the markets of some segments.

        Args:
            universes: session -> its episodes.
            segments: (session, market, segment) in scope.
        """
        numbers: dict[tuple[int, str, str], int] = {}
        events: dict[tuple[int, str], int] = {}
        of_episode = {}
        for session, universe in sorted(universes.items()):
            codes = np.full(len(universe), -1, np.int64)
            for index, episode in enumerate(universe.episodes):
                if (session, episode.market, episode.segment) in segments:
                    market = (session, episode.event, episode.market)
                    codes[index] = numbers.setdefault(market, len(numbers))
                    events.setdefault(market[:2], len(events))
            of_episode[session] = codes
        cluster = np.array([events[market[:2]] for market in numbers], np.int64)
        return cls(of_episode, cluster, tuple(numbers))


class Steps(NamedTuple):
    """One session of a policy."""

    trace: Trace
    fills: Fills
    episode: Ints  # [K] what each job played


@dataclass(frozen=True)
class Detail:
    """Every step of a policy.

    Args:
        sessions: session -> its steps.
        repeats: how often each episode was played.
    """

    sessions: Mapping[int, Steps]
    repeats: int


@dataclass(frozen=True)
class Walks:
    """Steps of the policies that are broken down, the judged one first.

    Args:
        markets: those the report is about.
        details: policy -> its steps.
    """

    markets: Markets
    details: Mapping[str, Detail]


def walks(evidence: Evidence) -> Walks:
    """Play the judged policy, the best baseline that trades and Random again, step by step.

    They draw on the same chance as for the ledger, so that each step is one behind its figures.
    """
    scope = evidence.scope
    keys = (scope[key].to_pylist() for key in ("session", "market", "segment"))
    markets = Markets.of(evidence.case.universes, frozenset(zip(*keys, strict=True)))
    details: dict[str, Detail] = {}
    for policy in _shown(evidence):
        details[policy.name] = _detail(evidence, policy, details.get(evidence.case.judged.name))
    return Walks(markets, details)


def _shown(evidence: Evidence) -> list[Policy]:
    # Hold's buckets are all empty of money: the best of the others
    case, scope = evidence.case, evidence.scope
    pnl = {}
    for baseline in case.baselines:
        rows = scope.filter(pc.equal(scope["policy"], baseline.name))
        if pc.sum(rows["orders"]).as_py() and not cheats(baseline):
            pnl[baseline.name] = pc.sum(rows["pnl_micro"]).as_py() / repeats_of(
                baseline, case.evaluation
            )
    wanted = {max(pnl, key=lambda name: pnl[name])} if pnl else set()
    return [case.judged, *(b for b in case.baselines if b.name in wanted | {RandomUniform.name})]


def _detail(evidence: Evidence, policy: Policy, judged: Detail | None) -> Detail:
    case, repeats = evidence.case, repeats_of(policy, evidence.case.evaluation)
    sessions = {}
    for session, universe in sorted(case.universes.items()):
        evidence.progress(f"session {session}: {policy.name}, step by step")
        rng = case.rng(session, policy.name)
        jobs = np.repeat(np.arange(len(universe)), repeats)
        if judged and isinstance(policy, Follower) and policy.judged is case.judged:
            own = judged.sessions[session].trace
            played = policy.play_again(universe, case.trading, jobs, rng, own, detail=True)
        else:
            played = play(universe, policy, case.trading, case.evaluation, rng, detail=True)
        if played.trace is None or played.fills is None:
            raise EvaluationError(
                "a policy kept no step of what it played", rule="detail", value=policy.name
            )
        sessions[session] = Steps(played.trace, played.fills, jobs)
    return Detail(sessions, repeats)
