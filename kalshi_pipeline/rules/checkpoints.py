"""What must hold of a phase's checkpoints before anything continues from them or judges them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kalshi_pipeline.config import ACTION_DOMINATES_SHARE, HOLD_DOMINATES_SHARE
from kalshi_pipeline.errors import CorruptFile, NotPublished, TrainingError
from kalshi_pipeline.plan_stages import phase_name
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.rules.behaviour import Behaviour, behaviour_of
from kalshi_pipeline.rules.finding import Fact, Finding, faultless
from kalshi_pipeline.sealed import is_sealed
from kalshi_pipeline.session_data import session_facts, universe_of
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.storage.seals import opening_of

if TYPE_CHECKING:
    from kalshi_pipeline.storage.checkpoints import Checkpoint, Tensors

# An actor has moved when it lies so far, as a share of its own length, from where it began. Adam
# moves each weight by about the learning rate a step: the smallest phase of any plan comes to
# hundreds of times this, rounding of float32 to a thousandth of it.
MOVED = 1e-4
# Fewer events cannot show at 5 % that anything was learned, not even if all of them agree.
LEAST_EVENTS = 5
LEARNED_P = 0.05
_HIDDEN_GAIN, _ACTION_GAIN = 2.0**0.5, 0.01  # of fresh weights, see `learning.policy.untrained`


@dataclass(frozen=True)
class Trained:
    """A published phase, as its rules look at it.

    Args:
        warehouse: where it lies.
        plan: whose phase it is.
        phase: which.
    """

    warehouse: Warehouse
    plan: Plan
    phase: Phase

    @property
    def generation(self) -> Generation:
        """What is published now."""
        name = phase_name(self.plan, self.phase.name)
        return self.warehouse.current(name, self.phase.partition)

    @cached_property
    def seeds(self) -> dict[int, Checkpoint]:
        """Seed -> checkpoint."""
        from kalshi_pipeline.storage import checkpoints

        return checkpoints.load_seeds(self.generation.verified())

    @cached_property
    def parents(self) -> dict[int, Checkpoint]:
        """Seed -> the checkpoint of the phase before as it is published now; empty without one."""
        if self.phase.parent is None:
            return {}
        before = Trained(self.warehouse, self.plan, self.plan.phase(self.phase.parent))
        try:
            return before.seeds
        except NotPublished:
            return {}

    @property
    def chain(self) -> list[Phase]:
        """The phase and those before it."""
        found = [self.phase]
        while found[-1].parent is not None:
            found.append(self.plan.phase(found[-1].parent))
        return found

    @cached_property
    def behaviour(self) -> tuple[Behaviour, ...]:
        """How each seed behaves."""
        return behaviour_of(self.warehouse, self.plan, self.phase)


def weights_are_sound(phase: Generation) -> Finding:
    """Every tensor of every seed's checkpoint is there, of its shape, and finite."""
    from kalshi_pipeline.storage import checkpoints

    try:
        states = [one.state for one in checkpoints.load_seeds(phase.verified()).values()]
    except (TrainingError, CorruptFile) as error:
        rule = error.rule or "tensors as its network has them, finite"
        return Finding(False, str(error), (Fact(error.value, rule, row=error.row),))
    markets = [len({(e.session, e.market) for e in state.lineage}) for state in states]
    steps = ", ".join(f"{state.timesteps_total:,}" for state in states)
    return Finding(min(markets) > 0, f"{steps} steps in all, {min(markets)} markets in the lineage")


def weights_have_moved(trained: Trained) -> Finding:
    """Training has changed the actor: it lies apart from where it began, by more than rounding."""

    def faults() -> Iterator[Fact]:
        for seed, network in trained.seeds.items():
            before = trained.parents.get(seed)
            apart = _distance(network.policy, before.policy if before else None)
            rule = f"the actor lies {MOVED:g} of its length or more from where it began"
            if not apart >= MOVED:
                yield Fact(f"{apart:.2g}", rule, row=f"seed {seed}")
            if network.state.timesteps < trained.phase.learner.rollout_steps:
                yield Fact(
                    network.state.timesteps,
                    "a rollout or more was learned from",
                    row=f"seed {seed}",
                )

    return faultless(faults(), f"{len(trained.seeds)} seeds")


def _distance(actor: Tensors, before: Tensors | None) -> float:
    # to the parent, or to the nearest of all fresh networks: orthogonal weights, biases of 0.
    # The nearest matrix of one gain has the same singular vectors (Procrustes), so what differs
    # are the singular values
    squared = length = 0.0
    for name, weights in actor.items():
        if not name.startswith(("mlp_extractor.policy_net", "action_net")):
            continue
        now = weights.astype(np.float64)
        length += float((now**2).sum())
        if before is not None:
            squared += float(((now - before[name]) ** 2).sum())
        elif now.ndim == 1:
            squared += float((now**2).sum())
        else:
            gain = _ACTION_GAIN if name.startswith("action_net") else _HIDDEN_GAIN
            squared += float(((np.linalg.svd(now, compute_uv=False) - gain) ** 2).sum())
    return float((squared / length) ** 0.5) if length else 0.0


def lineage_is_clean(trained: Trained) -> Finding:
    """Weights have seen what the plan says, all of it and nothing else, and nothing sealed."""
    return faultless(_strays(trained), f"the lineage of {len(trained.seeds)} seeds")


def _strays(trained: Trained) -> Iterator[Fact]:
    plan, chain = trained.plan, trained.chain
    planned = {session for phase in chain for session in phase.sessions}
    judging = {session for phase in chain for session in plan.validation_sessions(phase)}
    closed = {
        session
        for session in plan.sessions
        if is_sealed(trained.warehouse, session) and opening_of(trained.warehouse, session) is None
    }
    by_any = {entry.session for one in trained.seeds.values() for entry in one.state.lineage}
    empty = {session for session in planned - by_any if _is_empty(trained, session)}
    for seed, network in trained.seeds.items():
        state, row = network.state, f"seed {seed}"
        learned = {entry.session for entry in state.lineage}
        chosen = {entry.session for entry in state.selected_on}
        for session in sorted(learned - planned):
            yield Fact("trained on", "no session the plan does not train on", session, row=row)
        for session in sorted(planned - learned - empty):
            yield Fact("not trained on", "every session the plan trains on", session, row=row)
        for session in sorted(chosen - judging):
            yield Fact("chosen by", "no session that is not for validation", session, row=row)
        for session in sorted((learned | chosen) & closed):
            yield Fact("looked at", "a sealed session is looked at by nobody", session, row=row)
        if state.foreign:
            yield Fact("foreign weights", "a plan's weights were made from its sessions", row=row)
        yield from _of_the_parent(trained, seed, network)


def _is_empty(trained: Trained, session: int) -> bool:
    # without an episode there is nothing to learn from; of one that is not there nobody can tell
    try:
        found = universe_of(trained.warehouse, [session], trained.plan.min_episode_steps)
    except NotPublished:
        return False
    return len(found) == 0


def _of_the_parent(trained: Trained, seed: int, network: Checkpoint) -> Iterator[Fact]:
    state, row = network.state, f"seed {seed}"
    if trained.phase.parent is None:
        if state.parent is not None:
            yield Fact(state.parent, "it continues from nothing", row=row)
        before = 0
    else:
        parent = trained.parents.get(seed)
        if parent is None or parent.content_hash != state.parent:
            rule = f"it continues from {trained.phase.parent} as that is published now"
            yield Fact(state.parent, rule, row=row)
            return
        before = parent.state.timesteps_total
    if state.timesteps_total != before + state.timesteps:
        rule = f"its steps and those before it, {before + state.timesteps:,}"
        yield Fact(state.timesteps_total, rule, row=row)


def data_is_of_one_kind(trained: Trained) -> Finding:
    """All that weights have seen was recorded in one way: none generated beside recorded ones."""
    kinds: dict[str, list[int]] = {}
    for session in sorted({session for phase in trained.chain for session in phase.sessions}):
        said = session_facts(trained.warehouse, [session])
        source = "generated" if said["generated"] else "recorded"
        kinds.setdefault(f"{source}, {said['conventions'][str(session)]}", []).append(session)
    told = "; ".join(f"{kind}: {', '.join(map(str, of))}" for kind, of in sorted(kinds.items()))
    if len(kinds) == 1:
        return Finding(True, told)
    one_each = [
        Fact(kind, "sessions of one kind", of[0], row=f"{len(of)} sessions")
        for kind, of in sorted(kinds.items())
    ]
    return Finding(False, told, tuple(one_each))


def validated_on_enough(trained: Trained) -> Finding:
    """Where validation chose the checkpoint, it had the events an interval takes."""
    validation = trained.plan.validation_sessions(trained.phase)
    if not validation:
        return Finding(True, "nothing chose: the last weights of the phase are kept")
    least = trained.plan.evaluation.min_units
    events = {
        seed: len(
            {(e.session, e.event) for e in network.state.selected_on if e.session in validation}
        )
        for seed, network in trained.seeds.items()
    }
    few = [
        Fact(count, f"validation on {least} events or more", row=f"seed {seed}")
        for seed, count in events.items()
        if count < least
    ]
    return faultless(
        few, f"validated on {min(events.values())} events of {len(validation)} sessions"
    )


def earns_what_is_possible(trained: Trained) -> Finding:
    """No episode gains more than a dollar a contract traded, or loses more than there was."""
    facts = [
        Fact(
            f"{entry.pnl_micro:,} micro-dollars", f"at most {entry.most_micro:,}",
            one.session, entry.market, entry.segment,
        )
        for one in trained.behaviour
        for entry in one.overpaid
    ]  # fmt: skip
    episodes = sum(one.episodes for one in trained.behaviour)
    return faultless(facts, f"{episodes} episodes played where it learned")


def not_collapsed(trained: Trained) -> Finding:
    """No one action makes up nearly all of what the policy does, HOLD included."""
    from kalshi_pipeline.trading.actions import Action

    facts = []
    tops = []
    for one in trained.behaviour:
        top = int(np.argmax(one.action_shares))
        share = one.action_shares[top]
        allowed = HOLD_DOMINATES_SHARE if top == Action.HOLD else ACTION_DOMINATES_SHARE
        tops.append(f"seed {one.seed} {Action(top).name} {share:.0%}")
        if share > allowed:
            rule = f"{Action(top).name} in at most {allowed:.0%} of the steps"
            facts.append(Fact(f"{share:.1%}", rule, one.session, row=f"seed {one.seed}"))
    return faultless(facts, f"most frequent, as it samples: {', '.join(tops)}")


def learned_something(trained: Trained) -> Finding:
    """Where it learned, the policy earns more than its own network did before it learned.

    Per Kalshi event, paired, by a sign-flip test at 5 %, one-sided. Not shown is not refuted: where
    no policy can win, none can learn more than to lose little.
    """
    facts, told = [], []
    for one in trained.behaviour:
        told.append(
            f"seed {one.seed}: {one.gain_cents:+.1f} ¢ an event (p {one.p_value:.2g}, "
            f"{one.events} events, {one.changed:.0%} of its actions changed)"
        )
        if one.events < LEAST_EVENTS:
            rule = f"{LEAST_EVENTS} events or more to tell anything by"
            facts.append(Fact(one.events, rule, one.session, row=f"seed {one.seed}"))
        elif one.p_value > LEARNED_P:
            rule = f"more than its untrained network earns, p at most {LEARNED_P:g}"
            value = f"{one.gain_cents:+.2f} ¢ an event, p {one.p_value:.2g}"
            facts.append(Fact(value, rule, one.session, row=f"seed {one.seed}"))
    return faultless(facts, "; ".join(told))
