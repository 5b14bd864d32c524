"""Policy x market segments -> ledger, one row an episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.ledger import (
    ACTION_COLUMNS,
    EPISODE_COLUMNS,
    LEDGER_SCHEMA,
    SPLIT_COLUMNS,
    SUMMARY_COLUMNS,
    TRIP_COLUMNS,
)
from kalshi_pipeline.evaluation.policies import Follower, Player, Policy
from kalshi_pipeline.evaluation.trades.dissect import Dissection, dissect
from kalshi_pipeline.evaluation.trades.lots import trips_of
from kalshi_pipeline.trading.record import (
    Played,
    Sheet,
    Trace,
    note_lanes,
    play_shares,
    steps_of,
)
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe

# told what each policy did, in the order of the ledger
Watch = Callable[[Policy, Played, Dissection], None]


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
    return ledger_of(universe, policy, played, dissect(universe, played, config), evaluation)


def backtests(
    universe: Universe,
    policies: Sequence[Policy],
    config: TradingConfig,
    evaluation: EvaluationConfig,
    rng_of: Callable[[str], np.random.Generator],
    progress: Callable[[str], None] = lambda _: None,
    watch: Watch | None = None,
) -> pa.Table:
    """Run several policies over every episode of a universe, one after the other.

    What a `Follower` does again is what the policy before it just did, where that is among them.

    Args:
        universe: as for `backtest`, as `config` and `evaluation`.
        policies: in the order of the ledger.
        config: rules of an episode.
        evaluation: lanes and repeats.
        rng_of: chance of a policy, by its name.
        progress: told the name of each policy before it plays.
        watch: told what came of it, every step included; without it fewer are kept.

    Returns:
        Their ledgers, one after the other.
    """
    followed = {id(policy.judged) for policy in policies if isinstance(policy, Follower)}
    traces: dict[int, Trace] = {}
    ledgers = [LEDGER_SCHEMA.empty_table()]
    for policy in policies:
        progress(policy.name)
        rng, own, detail = rng_of(policy.name), None, watch is not None
        if isinstance(policy, Follower):
            own = traces.get(id(policy.judged))
        if isinstance(policy, Follower) and own is not None:
            jobs = _jobs(universe, policy, evaluation)
            played = policy.play_again(universe, config, jobs, rng, own, detail=detail)
        else:
            detail |= id(policy) in followed
            played = play(universe, policy, config, evaluation, rng, detail=detail)
        if id(policy) in followed and played.trace is not None:
            traces[id(policy)] = played.trace
        dissection = dissect(universe, played, config)
        if watch is not None:
            watch(policy, played, dissection)
        ledgers.append(ledger_of(universe, policy, played, dissection, evaluation))
    return pa.concat_tables(ledgers)


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
    jobs = _jobs(universe, policy, evaluation)
    return play_jobs(universe, policy, config, jobs, rng, evaluation.n_envs, detail=detail)


def play_jobs(
    universe: Universe,
    policy: Policy,
    config: TradingConfig,
    jobs: NDArray[np.int64],
    rng: np.random.Generator,
    lanes: int = EvaluationConfig.n_envs,
    *,
    detail: bool = False,
) -> Played:
    """Episodes under a policy, compiled where it can, in lanes otherwise.

    Args:
        universe: the episodes.
        policy: who plays.
        config: rules of an episode.
        jobs: `[K]` which episodes; one may come several times.
        rng: chance of a stochastic policy.
        lanes: most episodes that run side by side.
        detail: whether every step and fill is kept.
    """
    if isinstance(policy, Player):
        return policy.play(universe, config, jobs, rng, detail=detail)
    begin = rng.bit_generator.state

    def play_share(simulator: Simulator, sheet: Sheet, share: NDArray[np.int64]) -> None:
        rng.bit_generator.state = begin
        _in_lanes(simulator, policy, sheet, share, rng)

    # the longest first, so that few lanes idle at the end
    share = np.argsort(-steps_of(universe.tape, jobs), kind="stable")
    count = max(1, min(lanes, len(jobs)))
    return play_shares(universe, config, jobs, [share], count, play_share, detail=detail)


def _jobs(universe: Universe, policy: Policy, evaluation: EvaluationConfig) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(universe)), repeats_of(policy, evaluation))


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


def ledger_of(
    universe: Universe,
    policy: Policy,
    played: Played,
    dissection: Dissection,
    evaluation: EvaluationConfig,
) -> pa.Table:
    """The ledger of what was played, `LEDGER_SCHEMA`; arguments as in `play`."""
    summaries, repeats = played.summaries, repeats_of(policy, evaluation)
    episodes = [universe.episodes[summary.episode] for summary in summaries]
    columns: dict[str, Any] = {
        "policy": [policy.name] * len(summaries),
        **{name: [getattr(entry, name) for entry in episodes] for name in EPISODE_COLUMNS},
        "repeat": np.arange(len(summaries)) % repeats,
        **{
            name: [getattr(summary, name) for summary in summaries]
            for name in ("terminated", *SUMMARY_COLUMNS)
        },
    }
    counts = np.array([summary.action_counts for summary in summaries], np.int64)
    columns |= zip(TRIP_COLUMNS, trips_of(dissection.lots, len(summaries)), strict=True)
    columns |= {name: getattr(dissection.split, name) for name in SPLIT_COLUMNS}
    columns |= zip(ACTION_COLUMNS, counts.reshape(-1, len(ACTION_COLUMNS)).T, strict=True)
    return pa.table({name: columns[name] for name in LEDGER_SCHEMA.names}, schema=LEDGER_SCHEMA)
