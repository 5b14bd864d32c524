"""What a phase's checkpoints do and earn where they learned: played once, and kept.

Each seed plays some episodes of the last session its phase names that has any, as it samples,
beside its own network before it learned anything. That is in sample on purpose: whoever has not
learned to do better there has learned nothing that could hold elsewhere. It chooses nothing and is
no trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalshi_pipeline.config import CENTI_PER_CONTRACT, MICRO_PER_CENT, MICRO_PER_DOLLAR
from kalshi_pipeline.errors import NoSuitableMarket
from kalshi_pipeline.plan_stages import phase_name
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.session_data import session_inputs, universe_of
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse, canonical_json

if TYPE_CHECKING:
    from kalshi_pipeline.learning.policy import NetworkPolicy
    from kalshi_pipeline.storage.checkpoints import Checkpoint
    from kalshi_pipeline.trading.summary import EpisodeSummary
    from kalshi_pipeline.trading.tape import Universe

BEHAVIOUR = "checkpoint_behaviour"
BEHAVIOUR_VERSION = "1"
PLAYED_STEPS = 20_000  # of all episodes together: shares are then known to within a hundredth
RESAMPLES = 9_999
_FILE = "behaviour.json"
_SEED = 20_251_214  # of chance, never that of a training


@dataclass(frozen=True)
class Overpaid:
    """An episode that earned more than its trades can, or lost more than there was."""

    market: str
    segment: int
    pnl_micro: int
    most_micro: int


@dataclass(frozen=True)
class Behaviour:
    """One seed's checkpoint on the last session of its phase that has episodes.

    Args:
        seed: of the training.
        session: that was played.
        episodes: how many.
        events: Kalshi events among them.
        steps: actions taken.
        action_shares: `[7]` share of each action, as it samples.
        changed: share of the actions that is distributed otherwise than the untrained network's.
        pnl_cents: an event.
        gain_cents: an event, more than the untrained network earned there.
        p_value: of that gain being chance, one-sided; 1 where it is a loss.
        overpaid: episodes no honest account allows.
    """

    seed: int
    session: int
    episodes: int
    events: int
    steps: int
    action_shares: tuple[float, ...]
    changed: float
    pnl_cents: float
    gain_cents: float
    p_value: float
    overpaid: tuple[Overpaid, ...] = ()


def behaviour_of(warehouse: Warehouse, plan: Plan, phase: Phase) -> tuple[Behaviour, ...]:
    """How each seed of a published phase behaves; played unless that has been done.

    Args:
        warehouse: holds the phase and its sessions; gets `checkpoint_behaviour/<plan>/<phase>`.
        plan: whose phase it is.
        phase: which.

    Raises:
        NotPublished: the phase or a session of it has not been materialized.
        CorruptFile: published bytes have changed.
        NoSuitableMarket: no session of it has an episode.
    """
    from kalshi_pipeline.storage import checkpoints

    name = f"{BEHAVIOUR}/{phase_name(plan, phase.name)}"
    trained = warehouse.current(phase_name(plan, phase.name), phase.partition)
    config = {
        "steps": PLAYED_STEPS,
        "resamples": RESAMPLES,
        "min_episode_steps": plan.min_episode_steps,
        "trading": asdict(plan.trading),
    }
    for session in reversed(phase.sessions):
        inputs = session_inputs(warehouse, [session]) | {phase.name: trained.content_hash}
        recipe = Recipe(BEHAVIOUR_VERSION, config, inputs)
        if found := warehouse.made_from(name, phase.partition, recipe):
            return _read(found)
        universe = universe_of(warehouse, [session], plan.min_episode_steps)
        if len(universe) == 0:
            continue  # the phase learned from its others
        networks = checkpoints.load_seeds(trained.verified())
        played = [_played(seed, network, universe, plan) for seed, network in networks.items()]
        with warehouse.stage(name, phase.partition, recipe) as staging:
            told = canonical_json([asdict(behaviour) for behaviour in played])
            (staging.folder / _FILE).write_text(told)
            staging.summary.update(seeds=len(played), session=session)
        return _read(staging.generation)
    raise NoSuitableMarket("no session of the phase has an episode to play", value=phase.sessions)


def _read(found: Generation) -> tuple[Behaviour, ...]:
    return tuple(
        Behaviour(
            **{
                **told,
                "action_shares": tuple(told["action_shares"]),
                "overpaid": tuple(Overpaid(**entry) for entry in told["overpaid"]),
            }
        )
        for told in json.loads(found.path(_FILE).read_bytes())
    )


def _played(seed: int, network: Checkpoint, universe: Universe, plan: Plan) -> Behaviour:
    from kalshi_pipeline.evaluation.inference import sign_flip_test
    from kalshi_pipeline.learning.policy import NetworkPolicy, untrained
    from kalshi_pipeline.learning.validation import validation_episodes

    episodes = validation_episodes(universe, PLAYED_STEPS)

    def play(policy: NetworkPolicy) -> Sequence[EpisodeSummary]:
        rng = np.random.default_rng(_SEED)  # the same chance for both
        return policy.play(universe, plan.trading, episodes, rng).summaries

    learned, fresh = play(NetworkPolicy(network, stochastic=True)), play(untrained(network))
    shares, before = (_shares(summaries) for summaries in (learned, fresh))
    earned, earned_before = (_by_event(universe, summaries) for summaries in (learned, fresh))
    gain = np.array([earned[event] - earned_before[event] for event in earned])
    (both_ways,) = sign_flip_test(gain[:, None], RESAMPLES, np.random.default_rng(_SEED))
    return Behaviour(
        seed=seed,
        session=universe.episodes[0].session,
        episodes=len(episodes),
        events=len(earned),
        steps=sum(summary.steps for summary in learned),
        action_shares=tuple(shares.tolist()),
        changed=float(np.abs(shares - before).sum() / 2),
        pnl_cents=float(np.mean(list(earned.values()))) / MICRO_PER_CENT,
        gain_cents=float(gain.mean()) / MICRO_PER_CENT,
        p_value=float(both_ways) / 2 if gain.mean() > 0 else 1.0,
        overpaid=tuple(_overpaid(universe, learned, plan.trading.cash_start_micro)),
    )


def _shares(summaries: Sequence[EpisodeSummary]) -> np.ndarray:
    counts = np.array([summary.action_counts for summary in summaries]).sum(axis=0)
    return np.asarray(counts / max(1, counts.sum()))


def _by_event(universe: Universe, summaries: Sequence[EpisodeSummary]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for summary in summaries:
        event = universe.episodes[summary.episode].event
        totals[event] = totals.get(event, 0) + summary.pnl_micro
    return totals


def _overpaid(
    universe: Universe, summaries: Sequence[EpisodeSummary], cash_micro: int
) -> list[Overpaid]:
    found = []
    for summary in summaries:
        most = most_micro(summary.contracts_centi)
        if not -cash_micro <= summary.pnl_micro <= most:
            episode = universe.episodes[summary.episode]
            found.append(Overpaid(episode.market, episode.segment, summary.pnl_micro, most))
    return found


def most_micro(contracts_centi: int) -> int:
    """The most that trades of so many contracts can gain: a contract pays a dollar or nothing."""
    return contracts_centi * MICRO_PER_DOLLAR // CENTI_PER_CONTRACT
