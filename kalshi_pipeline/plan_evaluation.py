"""The last stage of a training plan: what its last phase trained, judged on the plan's sessions.

Beside `stages.py` because it needs heavy libraries, which are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.plan_stages import EVALUATION, phase_name
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.session_data import session_facts, session_inputs, universes_of
from kalshi_pipeline.stages import Progress
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from kalshi_pipeline.trading.tape import Universe

if TYPE_CHECKING:
    from kalshi_pipeline.evaluation.policies import Policy
    from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry

EVALUATION_VERSION = "7"  # raise when equal inputs give another report
LEARNED = "Learned"  # the judged policy, as reports call it


def evaluate_plan(warehouse: Warehouse, plan: Plan, progress: Progress) -> Generation:
    """The last phase's checkpoint on every session of the plan's evaluation -> report.

    Raises:
        NotPublished: a session or the last phase has not been materialized; names it.
    """
    last = plan.phases[-1]
    trained = warehouse.current(phase_name(plan, last.name))
    inputs = session_inputs(warehouse, plan.roles) | {last.name: trained.content_hash}
    config = {
        "roles": {str(session): role for session, role in plan.roles.items()},
        "min_episode_steps": plan.min_episode_steps,
        "trading": asdict(plan.trading),
        "evaluation": asdict(plan.evaluation),
    }
    recipe = Recipe(EVALUATION_VERSION, config, inputs)
    name = phase_name(plan, EVALUATION)
    if found := warehouse.made_from(name, None, recipe):
        return found

    from kalshi_pipeline.evaluation.baselines import baselines
    from kalshi_pipeline.evaluation.evaluate import evaluate
    from kalshi_pipeline.evaluation.evidence import Case
    from kalshi_pipeline.evaluation.lineage import Lineage
    from kalshi_pipeline.evaluation.reports import render_html, render_json
    from kalshi_pipeline.storage import checkpoints

    networks = checkpoints.load_seeds(trained.verified())
    chosen = _chosen_seed(trained)
    policies, seeds = _judged_policies(networks, chosen)
    universes, exclusions = universes_of(warehouse, plan.roles, plan.min_episode_steps)
    states = [network.state for network in networks.values()]
    selected_on = {entry for state in states for entry in state.selected_on}
    selected_on |= set(_looked_at(plan, universes))
    case = Case(
        universes,
        plan.roles,
        judged=policies[0],
        baselines=baselines(),
        used=Lineage.of(
            [asdict(entry) for entry in sorted({e for state in states for e in state.lineage})],
            [asdict(entry) for entry in sorted(selected_on)],
            foreign=any(state.foreign for state in states),
        ),
        provenance=_provenance(warehouse, plan, trained, chosen, inputs),
        trading=plan.trading,
        evaluation=plan.evaluation,
        variants=policies[1:],
        seeds=seeds,
        exclusions=exclusions,
    )
    judged = evaluate(case, progress)
    with warehouse.stage(name, None, recipe) as staging:
        (staging.folder / "report.json").write_bytes(render_json(judged.report))
        (staging.folder / "report.html").write_bytes(render_html(judged.report))
        for table, rows in judged.tables.items():
            pq.write_table(rows, staging.folder / f"{table}.parquet", compression="zstd")
        staging.summary.update(
            verdict=judged.report["verdict"]["sentence"],
            schema_version=judged.report["schema_version"],
            sessions=len(universes),
            episodes=judged.tables["ledger"].num_rows,
        )
    return staging.generation


def _chosen_seed(trained: Generation) -> int:
    # the best validated; the first of equals and where nothing validates: no test result chooses
    scored = {
        int(entry["seed"]): -math.inf if entry["validation"] is None else entry["validation"]
        for entry in trained.summary["trained"]
    }
    return max(scored, key=lambda seed: scored[seed])


def _judged_policies(
    networks: Mapping[int, Checkpoint], chosen: int
) -> tuple[list[Policy], dict[int, str]]:
    # the chosen seed's policy, then its variants; and how the policy of each seed is called
    from kalshi_pipeline.learning.policy import NetworkPolicy

    seeds = {seed: f"{LEARNED}, seed {seed}" for seed in networks} | {chosen: LEARNED}
    together = f"Ensemble of {len(networks)}"
    variants: list[Policy] = [
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
        if "validation" in role
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
