"""The last stage of a training plan: what its last phase trained, judged on the plan's sessions.

Beside `stages.py` because it needs heavy libraries, which are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.errors import NotPublished
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.past import (
    candidates_of,
    courses_of,
    looked_forward,
    record_judged,
    rules_of,
    trials_on,
)
from kalshi_pipeline.plan_stages import EVALUATION, phase_name
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.sealed import Seal, seals_of
from kalshi_pipeline.session_data import (
    causal_universes,
    session_facts,
    session_inputs,
    universes_of,
)
from kalshi_pipeline.stages import Progress
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from kalshi_pipeline.storage.trials import TRIALS, digest_of
from kalshi_pipeline.trading.tape import Universe

if TYPE_CHECKING:
    from kalshi_pipeline.evaluation.evidence import Case
    from kalshi_pipeline.learning.policy import NetworkPolicy
    from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry

EVALUATION_VERSION = "12"  # raise when equal inputs give another report
LEARNED = "Learned"  # the judged policy, as reports call it


def evaluate_plan(warehouse: Warehouse, plan: Plan, progress: Progress) -> Generation:
    """The last phase's checkpoint on every session of the plan's evaluation -> report.

    A sealed session that nobody has opened is left out, and the report says so.

    Raises:
        NotPublished: a session or the last phase has not been materialized; names it.
        CorruptFile: published bytes have changed, or the trials ledger is damaged.
    """
    last = plan.phases[-1]
    trained = warehouse.current(phase_name(plan, last.name))
    seals = seals_of(warehouse, plan.roles, trained.content_hash, plan.sealed)
    judged_on = [s for s in plan.roles if s not in seals or seals[s].opening]
    inputs = session_inputs(warehouse, judged_on) | {last.name: trained.content_hash}
    config = {
        "roles": {str(session): role for session, role in plan.roles.items()},
        "sealed": [seal.told() for seal in seals.values()],
        "min_episode_steps": plan.min_episode_steps,
        "trading": asdict(plan.trading),
        "evaluation": asdict(plan.evaluation),
    }
    own = Recipe(EVALUATION_VERSION, config, inputs).digest  # as its trials are known by
    trials = trials_on(warehouse, plan.roles, own)
    recipe = Recipe(EVALUATION_VERSION, config, inputs | {TRIALS: digest_of(trials.to_pylist())})
    name = phase_name(plan, EVALUATION)
    if found := warehouse.made_from(name, None, recipe):
        return found

    from kalshi_pipeline.evaluation.evaluate import evaluate
    from kalshi_pipeline.evaluation.reports import render_html, render_json

    case = _case(warehouse, plan, trained, seals, trials, own, inputs)
    judged = evaluate(case, progress)
    record_judged(warehouse, judged.tables[TRIALS], own)
    with warehouse.stage(name, None, recipe) as staging:
        (staging.folder / "report.json").write_bytes(render_json(judged.report))
        (staging.folder / "report.html").write_bytes(render_html(judged.report))
        for table, rows in judged.tables.items():
            pq.write_table(rows, staging.folder / f"{table}.parquet", compression="zstd")
        staging.summary.update(
            verdict=judged.report["verdict"]["sentence"],
            schema_version=judged.report["schema_version"],
            sessions=len(case.universes),
            sealed=sorted(set(plan.roles) - set(judged_on)),
            episodes=judged.tables["ledger"].num_rows,
            clean_forward_events=judged.report["labels"].get("clean_forward", {}).get("events", 0),
        )
    return staging.generation


def _case(
    warehouse: Warehouse,
    plan: Plan,
    trained: Generation,
    seals: Mapping[int, Seal],
    trials: pa.Table,
    own: str,
    inputs: Mapping[str, str],
) -> Case:
    from kalshi_pipeline.evaluation.baselines import baselines
    from kalshi_pipeline.evaluation.evidence import Case, Past
    from kalshi_pipeline.evaluation.lineage import Lineage
    from kalshi_pipeline.learning.policy import NetworkPolicy, untrained
    from kalshi_pipeline.storage import checkpoints

    networks = checkpoints.load_seeds(trained.verified())
    chosen = chosen_seed(trained)
    policies, seeds = _judged_policies(networks, chosen)
    closed = [seal for seal in seals.values() if seal.opening is None]
    judged_on = [s for s in plan.roles if s not in {seal.session for seal in closed}]
    universes, exclusions = universes_of(warehouse, judged_on, plan.min_episode_steps)
    parents, absent = _parents(warehouse, plan, networks[chosen])
    states = [network.state for network in networks.values()]
    selected_on = {*_looked_at(plan, universes)}.union(*(state.selected_on for state in states))
    looked_at = {seal.session for seal in seals.values() if not seal.first_look}
    return Case(
        universes,
        plan.roles,
        judged=policies[0],
        baselines=(
            *baselines(policies[0]),
            untrained(networks[chosen]),
            *(
                NetworkPolicy(parent, name=f"After {parent.state.phase}", stochastic=True)
                for parent in parents
            ),
        ),
        used=Lineage.of(
            [asdict(entry) for entry in sorted({e for state in states for e in state.lineage})],
            [asdict(entry) for entry in sorted(selected_on)],
            foreign=any(state.foreign for state in states),
            embargo_ms=plan.evaluation.embargo_ms,
            looked_at=looked_at | looked_forward(warehouse, universes),
        ),
        provenance=_provenance(warehouse, plan, trained, chosen, inputs),
        trading=plan.trading,
        evaluation=plan.evaluation,
        variants=policies[1:],
        seeds=seeds,
        exclusions=[
            *exclusions,
            *({"session": seal.session, "reason": "sealed, not opened"} for seal in closed),
        ],
        past=Past(
            trials=trials,
            candidates=candidates_of(
                policies,
                plan.name,
                own,
                rules_of(plan.trading, plan.evaluation, plan.min_episode_steps),
            ),
            training=[
                course for phase in plan.phases for course in _courses(warehouse, plan, phase)
            ],
            sealed=[seal.told() for seal in seals.values()],
            absent=absent,
        ),
        later=partial(causal_universes, warehouse, min_episode_steps=plan.min_episode_steps),
    )


def _parents(
    warehouse: Warehouse, plan: Plan, network: Checkpoint
) -> tuple[list[Checkpoint], list[str]]:
    # what its seed had learned after each earlier phase, and which of those are absent: a parent
    # trained anew since is none of its, nor is what came before it
    from kalshi_pipeline.storage import checkpoints

    found: list[Checkpoint] = []
    absent: list[str] = []
    phase = plan.phases[-1]
    while phase.parent is not None:
        phase = plan.phase(phase.parent)
        parent = None
        if not absent:
            with suppress(NotPublished):
                trained = warehouse.current(phase_name(plan, phase.name))
                parent = checkpoints.load_seeds(trained.verified()).get(network.state.seed)
        if parent is None or parent.content_hash != network.state.parent:
            absent.insert(0, f"After {phase.name}")
            continue
        found.insert(0, parent)
        network = parent
    return found, absent


def _courses(warehouse: Warehouse, plan: Plan, phase: Phase) -> list[dict[str, Any]]:
    # an earlier phase may have been removed since: then its course is not known
    try:
        return courses_of(phase.name, warehouse.current(phase_name(plan, phase.name)))
    except NotPublished:
        return []


def chosen_seed(trained: Generation) -> int:
    """The best validated; the first of equals, and where nothing validates: no test chooses."""
    scored = {
        int(entry["seed"]): -math.inf if entry["validation"] is None else entry["validation"]
        for entry in trained.summary["trained"]
    }
    return max(scored, key=lambda seed: scored[seed])


def _judged_policies(
    networks: Mapping[int, Checkpoint], chosen: int
) -> tuple[list[NetworkPolicy], dict[int, str]]:
    # the chosen seed's policy, then its variants; and how the policy of each seed is called
    from kalshi_pipeline.learning.policy import NetworkPolicy

    seeds = {seed: f"{LEARNED}, seed {seed}" for seed in networks} | {chosen: LEARNED}
    together = f"Ensemble of {len(networks)}"
    variants = [
        NetworkPolicy(networks[chosen], name=f"{LEARNED}, likeliest action", stochastic=False)
    ]
    if len(networks) > 1:
        variants += [
            *(
                NetworkPolicy(network, name=seeds[seed], stochastic=True)
                for seed, network in networks.items()
                if seed != chosen
            ),
            NetworkPolicy(*networks.values(), name=together, stochastic=True),
            NetworkPolicy(*networks.values(), name=f"{together}, likeliest action"),
        ]
    return [NetworkPolicy(networks[chosen], name=LEARNED, stochastic=True), *variants], seeds


def _looked_at(plan: Plan, universes: Mapping[int, Universe]) -> list[LineageEntry]:
    # what a plan calls validation is there to be looked at while choosing: it is never clean
    from kalshi_pipeline.learning.training import lineage_of

    return [
        entry
        for session, role in plan.roles.items()
        if "validation" in role and session in universes
        for entry in lineage_of(universes[session])
    ]


def _provenance(
    warehouse: Warehouse, plan: Plan, trained: Generation, chosen: int, inputs: Mapping[str, str]
) -> dict[str, Any]:
    from importlib.metadata import version

    facts = session_facts(warehouse, plan.sessions)
    return {
        "plan": plan.name,
        "title": plan.title,
        "checkpoint": trained.content_hash,
        "phases": [{**asdict(phase), "algorithm": phase.algorithm} for phase in plan.phases],
        "seed": chosen,
        "trained": trained.summary["trained"],
        "code_version": version("kalshi-pipeline"),
        "feature_table_version": FEATURE_TABLE_VERSION,
        **facts,
        "generations": dict(inputs) | facts["generations"],
    }
