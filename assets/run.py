"""A whole plan from the command line: every session, every phase, the verdict, in one process.

The same jobs the UI launches, on the same instance, so that the UI shows what was done.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

import kalshi_pipeline
from kalshi_pipeline import plan_stages
from kalshi_pipeline.assets.failures import failures_in
from kalshi_pipeline.assets.jobs import SESSION_JOB
from kalshi_pipeline.assets.partitions import open_instance, register
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.resources.environment import open_warehouse, recording_roots, warehouse_root
from kalshi_pipeline.warehouse_views import refresh_views

_QUIET = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}


@dataclass(frozen=True)
class PlanRun:
    """What a run of a plan came to.

    Args:
        verdict: one sentence.
        report: the page to open.
        seconds: wall seconds by step, all sessions together, checks left out, in order.
        sealed: sessions that were kept for one look and that nobody has opened yet.
    """

    verdict: str
    report: Path
    seconds: dict[str, float]
    sealed: tuple[int, ...] = ()


def run_plan(name: str, say: Callable[[str], None]) -> PlanRun:
    """Run a plan to its verdict; what is there already is not computed again.

    Args:
        name: of the plan.
        say: told which job begins.

    Raises:
        KalshiPipelineError: a step failed; the message is the step's own.
    """
    plan = load_plan(name)
    root = warehouse_root()
    if not any(Path(kalshi_pipeline.__file__).parent.rglob("*.nbi")):
        say("the first run on a machine compiles the kernels, which takes about a minute, once")
    definitions = build_definitions(recording_roots(), root)
    seconds: Counter[str] = Counter()
    with open_instance() as instance:
        register(instance, plan.sessions)
        for place, session in enumerate(plan.sessions, start=1):
            say(f"session {session} ({place} of {len(plan.sessions)})")
            seconds.update(_execute(definitions, SESSION_JOB, instance, str(session)))
        say(f"plan {name}: {', '.join(phase.name for phase in plan.phases)}, evaluation")
        seconds.update(_execute(definitions, name, instance, None))
    say("views over everything published")
    refresh_views(open_warehouse(root))
    published = open_warehouse(root).current(plan_stages.phase_name(plan, plan_stages.EVALUATION))
    return PlanRun(
        published.summary["verdict"],
        published.path("report.html"),
        dict(seconds),
        tuple(published.summary["sealed"]),
    )


def _execute(
    definitions: dg.Definitions, job: str, instance: dg.DagsterInstance, partition: str | None
) -> dict[str, float]:
    result = definitions.resolve_job_def(job).execute_in_process(
        run_config=_QUIET, instance=instance, partition_key=partition, raise_on_error=False
    )
    if not result.success:
        told = "; ".join(map(str, failures_in(result.all_events)))
        raise KalshiPipelineError(told, session=partition)
    assets = {key.to_python_identifier() for key in definitions.resolve_all_asset_keys()}
    return {
        event.step_key.replace("__", "/"): (event.step_success_data.duration_ms or 0.0) / 1000
        for event in result.all_events
        if event.is_step_success and event.step_key in assets
    }
