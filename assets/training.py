"""Training from within an asset: a process of its own, watched while it runs.

Killed, it is started again and continues; cancelled, it saves and stops, and is not started again.
No `retry_policy` does this: it would retry a cancelled training as well.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError  # 1.13 has no public name for it
from pydantic import Field

from kalshi_pipeline import plan_stages
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.resources.engine import Engine
from kalshi_pipeline.storage.publish import Generation, Warehouse

TRIES = 2  # after the first
WAIT_S = 1  # before the next
POLL_S = 1.0


class TrainingRun(dg.Config):
    """How a training uses the machine. What it learns is the plan's alone: a file, not a form."""

    niceness: int = Field(
        default=0,
        ge=0,
        le=19,
        description="How far the trainer stands back behind other programs of the machine: 0 = not "
        "at all, 19 = it only takes what nobody else wants. Changes no weights.",
    )
    reports: int = Field(
        default=40,
        ge=1,
        le=1_000,
        description="Points of each live curve on the asset's page, a seed. They stay in Dagster's "
        "event log. Changes no weights.",
    )


def trained(
    context: dg.AssetExecutionContext,
    engine: Engine,
    warehouse: Warehouse,
    plan: Plan,
    phase: Phase,
    config: TrainingRun,
) -> Generation:
    """Train a phase, or a retraining, in a process of its own, or find it trained.

    Raises:
        dg.Failure: the phase cannot be trained as things are; says why.
        dg.RetryRequested: the process died; asked again, it continues.
    """
    name = plan_stages.phase_name(plan, phase.name)
    with tempfile.TemporaryDirectory(prefix=".progress_", dir=engine.shared(warehouse)) as folder:
        progress = Path(folder, "progress.jsonl")
        progress.touch()
        extras = {
            "plan": plan.name, "phase": phase.name, "session": phase.partition,
            "warehouse": warehouse.address,
            "niceness": config.niceness, "reports": config.reports,
        }  # fmt: skip
        try:
            with _followed(context, progress):
                done = engine.train(
                    context,
                    f"{warehouse.address}: {name} {phase.partition or ''}",
                    {**extras, "progress": str(progress)},
                    before=_seeds(engine, warehouse, plan, phase),
                )
        except DagsterPipesExecutionError as died:
            context.log.warning(f"{died}; its run is kept and will be continued")
            raise dg.RetryRequested(max_retries=TRIES, seconds_to_wait=WAIT_S) from died
    (said,) = done.get_custom_messages()
    if "refused" in said:
        raise dg.Failure(description=said["refused"], allow_retries=False)
    generation = warehouse.current(name, phase.partition)
    return replace(generation, reused=said["reused"])


def _seeds(engine: Engine, warehouse: Warehouse, plan: Plan, phase: Phase) -> list[list[str]]:
    """Commands that train a seed each, where another node sees the run they leave."""
    if not engine.shared(warehouse) or len(plan.trained_seeds) == 1:
        return []
    module = "kalshi_pipeline.assets.seed_trainer"
    told = [plan.name, phase.name, phase.partition or "", warehouse.address]
    return [[sys.executable, "-m", module, *told, str(seed)] for seed in plan.trained_seeds]


@contextmanager
def _followed(context: dg.AssetExecutionContext, progress: Path) -> Iterator[None]:
    """Observations of the asset while its training writes: the curves of its page."""
    over = threading.Event()
    watcher = threading.Thread(target=_follow, args=(context, progress, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _follow(context: dg.AssetExecutionContext, progress: Path, over: threading.Event) -> None:
    with progress.open() as file:
        while True:
            last = over.wait(POLL_S)
            for line in file.read().splitlines():
                figures = json.loads(line)
                shown = {name: value for name, value in figures.items() if value is not None}
                context.log_event(dg.AssetObservation(context.asset_key, metadata=shown))
            if last:
                return
