"""What can be launched as one: a session's data or a part of it, a plan or a part of it.

Runs carry a tag that says what work they do; those that train also say on which device, where the
instance allows one at a time (`tag_concurrency_limits` of dagster.yaml; the assets' pools hold for
whatever else asks for them).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from kalshi_pipeline.assets.automation import SESSION, TOGETHER
from kalshi_pipeline.assets.evaluations import EvaluationRun
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.training import TrainingRun
from kalshi_pipeline.plan_retraining import FORWARD_VALIDATION
from kalshi_pipeline.plan_stages import EVALUATION
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.stages import BOOKS, RAW, SESSION_STAGES, SUITABLE, TENSORS

SESSION_JOB = "session_data"
WORK = "kalshi/work"  # tag of a run: data, training, evaluation
PLAN = "kalshi/plan"
ON_THE_CPU = {"kalshi/accelerator": "cpu"}  # what trains: one run a device


def _of_sessions(
    name: str, stages: Sequence[str], description: str, tags: Mapping[str, str] | None = None
) -> Any:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*stages),
        partitions_def=sessions,
        tags={WORK: "data", **(tags or {})},
        description=f"{description} One run a session; several at once are a backfill.",
    )


session_data = _of_sessions(
    SESSION_JOB,
    SESSION_STAGES,
    "All of a session: ingest, books, features, suitable markets, with their checks.",
    {TOGETHER: SESSION},
)
session_jobs = (
    session_data,
    _of_sessions(
        "ingest", (RAW, BOOKS), "Recordings to trusted books, with the checks of integrity."
    ),
    _of_sessions("features", (TENSORS, SUITABLE), "Books to feature tensors and suitable markets."),
)


def plan_jobs(plans: Iterable[Plan]) -> list[Any]:
    """Three jobs a plan: it whole, its training, its evaluation."""
    return [job for plan in plans for job in _of_plan(plan)]


def training_steps(plans: Iterable[Plan]) -> list[str]:
    """Names of all steps that train."""
    return [_step(plan, output) for plan in plans for output in plan.trained_outputs]


def judging_steps(plans: Iterable[Plan]) -> list[str]:
    """Names of all steps that judge what was trained."""
    return [
        _step(plan, output)
        for plan in plans
        for output in (EVALUATION, *((FORWARD_VALIDATION,) if plan.retrain else ()))
    ]


def _step(plan: Plan, output: str) -> str:
    return dg.AssetKey([plan.name, output]).to_python_identifier()


def _of_plan(plan: Plan) -> list[Any]:
    phases = {phase.name: TrainingRun() for phase in plan.phases}
    judged = {EVALUATION: EvaluationRun()}
    names = ", ".join(phases)
    train = {WORK: "training", **ON_THE_CPU}
    return [
        _of_outputs(
            plan.name, plan, phases | judged, {TOGETHER: plan.name, **train},
            f"{plan.title}: its phases in order, then the evaluation. Its sessions come first: "
            f"{SESSION_JOB} of {', '.join(map(str, plan.sessions))}.",
        ),
        _of_outputs(
            f"{plan.name}_train", plan, phases, train,
            f"{plan.title}: {names}, and what must hold of each.",
        ),
        _of_outputs(
            f"{plan.name}_evaluate", plan, judged, {WORK: "evaluation"},
            f"{plan.title}: the verdict on what was trained last. Sealed sessions stay sealed "
            "unless `open_sealed` names them.",
        ),
    ]  # fmt: skip


def _of_outputs(
    name: str,
    plan: Plan,
    outputs: Mapping[str, dg.Config],
    tags: Mapping[str, str],
    description: str,
) -> Any:
    # the defaults stand in the launchpad, so that what can be set is seen there
    keys = [dg.AssetKey([plan.name, output]) for output in outputs]
    config = {key.to_python_identifier(): outputs[key.path[-1]] for key in keys}
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        config=dg.RunConfig(ops=config),
        tags={PLAN: plan.name, **tags},
        description=description,
    )
