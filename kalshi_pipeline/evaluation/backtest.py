"""Policy x market segments -> ledger, one row an episode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS, LEDGER_SCHEMA, SUMMARY_COLUMNS
from kalshi_pipeline.evaluation.policies import Player, Policy
from kalshi_pipeline.trading.simulator import Simulator

if TYPE_CHECKING:
    from kalshi_pipeline.trading.summary import EpisodeSummary
    from kalshi_pipeline.trading.tape import Universe


def backtest(
    universe: Universe,
    policy: Policy,
    config: TradingConfig,
    evaluation: EvaluationConfig,
    rng: np.random.Generator,
) -> pa.Table:
    """Run a policy over every episode of a universe.

    A deterministic policy plays each episode once, a stochastic one `stochastic_repeats` times.
    A `Player` plays them in one compiled call, any other in lanes side by side.

    Args:
        universe: the episodes.
        policy: sees the lanes that are still running, and nothing else.
        config: rules of an episode.
        evaluation: lanes and repeats.
        rng: chance of a stochastic policy.

    Returns:
        `LEDGER_SCHEMA`, sorted by episode and repeat: money in 1/1,000,000 dollar, sizes in 1/100
        contract, times in Unix milliseconds.
    """
    repeats = evaluation.stochastic_repeats if policy.stochastic else 1
    if isinstance(policy, Player):
        jobs = np.repeat(np.arange(len(universe)), repeats)
        played = policy.play(universe, config, jobs, rng)
        return _table(
            _row(universe, policy, summary, job % repeats) for job, summary in enumerate(played)
        )
    rows = _in_lanes(
        universe, policy, config, min(evaluation.n_envs, repeats * len(universe)), repeats, rng
    )
    return _table(rows)


def _in_lanes(
    universe: Universe,
    policy: Policy,
    config: TradingConfig,
    lanes: int,
    repeats: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    # episodes in lockstep, the longest first, so that few lanes idle at the end
    jobs = _longest_first(universe, repeats)
    if not len(jobs):
        return []
    simulator = Simulator(universe, lanes, config)
    job_of_lane = np.arange(lanes)
    simulator.reset(job_of_lane, jobs[:lanes, 0])
    waiting = lanes
    active = np.ones(lanes, dtype=np.bool_)
    actions = np.zeros(lanes, dtype=np.int64)
    rows: dict[int, dict[str, Any]] = {}
    while active.any():
        running = np.flatnonzero(active)
        actions[running] = policy.act(simulator.observation[running], simulator.mask[running], rng)
        simulator.step(actions)
        done = running[(simulator.terminated | simulator.truncated)[running]]
        for lane in done:
            job = int(job_of_lane[lane])
            rows[job] = _row(universe, policy, simulator.summary(int(lane)), int(jobs[job, 1]))
        refill = done[: len(jobs) - waiting]
        if len(refill):
            job_of_lane[refill] = np.arange(waiting, waiting + len(refill))
            simulator.reset(refill, jobs[job_of_lane[refill], 0])
            waiting += len(refill)
        active[done[len(refill) :]] = False
    order = np.lexsort((jobs[:, 1], jobs[:, 0]))
    return [rows[int(job)] for job in order]


def _longest_first(universe: Universe, repeats: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`[jobs, 2]` episode and repeat; stable, so the schedule is the same every time."""
    steps = np.array([episode.steps for episode in universe.episodes], dtype=np.int64)
    episodes = np.argsort(-steps, kind="stable")
    return np.column_stack(
        (np.repeat(episodes, repeats), np.tile(np.arange(repeats), len(episodes)))
    ).astype(np.int64)


def _row(
    universe: Universe, policy: Policy, summary: EpisodeSummary, repeat: int
) -> dict[str, Any]:
    episode = universe.episodes[summary.episode]
    return {
        "policy": policy.name,
        "session": episode.session,
        "event": episode.event,
        "market": episode.market,
        "segment": episode.segment,
        "tier": episode.tier,
        "repeat": repeat,
        "terminated": summary.terminated,
        **{name: getattr(summary, name) for name in SUMMARY_COLUMNS},
        **dict(zip(ACTION_COLUMNS, summary.action_counts, strict=True)),
    }


def _table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=LEDGER_SCHEMA)
