"""Runs as jobs of a Ray cluster; imported where the environment asks for that."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.launcher import LaunchRunContext
from dagster_ray import RayRunLauncher

from kalshi_pipeline.plans import load_plan, plan_names

# a run that mostly waits for a training leaves its processor to that: else trainings whose runs
# hold all processors would wait for each other for ever
WAITING = {"dagster-ray/config": '{"num_cpus": 0.1}'}
ACCELERATOR = "kalshi/accelerator"  # tag of jobs that train


class RunsOnRay(RayRunLauncher):
    """`RayRunLauncher`, which knows how much of a machine a run takes."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Submit a run as a job."""
        run = context.dagster_run
        if ACCELERATOR in run.tags or trains(run.asset_selection or ()):
            run = run.with_tags({**WAITING, **run.tags})
        super().launch_run(context._replace(dagster_run=run))


def trains(assets: Iterable[dg.AssetKey]) -> bool:
    """Whether one of these assets is trained."""
    trained = {
        (name, output) for name in plan_names() for output in load_plan(name).trained_outputs
    }
    return any(tuple(key.path) in trained for key in assets)
