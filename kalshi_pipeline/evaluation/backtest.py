"""Policy x market segments -> ledger, one row an episode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS, LEDGER_SCHEMA, SUMMARY_COLUMNS
from kalshi_pipeline.evaluation.policies import Player, Policy
from kalshi_pipeline.trading.record import Played, Sheet, note_lanes, play_shares, steps_of
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
    played = play(universe, policy, config, evaluation, rng)
    repeats = repeats_of(policy, evaluation)
    rows = [
        _row(universe, policy, summary, job % repeats)
        for job, summary in enumerate(played.summaries)
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)


def repeats_of(policy: Policy, evaluation: EvaluationConfig) -> int:
    """How often a policy plays each episode."""
    return evaluation.stochastic_repeats if policy.stochastic else 1


def play(
    universe: Universe,
    policy: Policy,
    config: TradingConfig,
    evaluation: EvaluationConfig,
    rng: np.random.Generator,
    *,
    detail: bool = False,
) -> Played:
    """The jobs behind a backtest's ledger, one a row of it: the same with detail as without.

    Args:
        universe: as for `backtest`, as the next four.
        policy: who plays.
        config: rules of an episode.
        evaluation: lanes and repeats.
        rng: chance of a stochastic policy.
        detail: whether every step and fill is kept.
    """
    jobs = np.repeat(np.arange(len(universe)), repeats_of(policy, evaluation))
    if isinstance(policy, Player):
        return policy.play(universe, config, jobs, rng, detail=detail)
    begin = rng.bit_generator.state

    def play_share(simulator: Simulator, sheet: Sheet, share: NDArray[np.int64]) -> None:
        rng.bit_generator.state = begin
        _in_lanes(simulator, policy, sheet, share, rng)

    # the longest first, so that few lanes idle at the end
    share = np.argsort(-steps_of(universe.tape, jobs), kind="stable")
    lanes = max(1, min(evaluation.n_envs, len(jobs)))
    return play_shares(universe, config, jobs, [share], lanes, play_share, detail=detail)


def _in_lanes(
    simulator: Simulator,
    policy: Policy,
    sheet: Sheet,
    jobs: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    # episodes in lockstep; a lane that is done takes the next job
    job_of_lane = jobs[: simulator.lanes].copy()
    waiting = len(job_of_lane)
    simulator.reset(np.arange(waiting), sheet.episode[job_of_lane])
    active = np.arange(simulator.lanes) < waiting
    actions = np.zeros(simulator.lanes, dtype=np.int64)
    while active.any():
        running = np.flatnonzero(active)
        actions[running] = policy.act(simulator.observation[running], simulator.mask[running], rng)
        simulator.step(actions)
        note_lanes(sheet, simulator.state, running, job_of_lane, actions)
        done = running[(simulator.terminated | simulator.truncated)[running]]
        refill = done[: len(jobs) - waiting]
        if len(refill):
            job_of_lane[refill] = jobs[waiting : waiting + len(refill)]
            simulator.reset(refill, sheet.episode[job_of_lane[refill]])
            waiting += len(refill)
        active[done[len(refill) :]] = False


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
