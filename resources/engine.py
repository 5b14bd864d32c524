"""Where runs and trainings are carried out: on this machine, on a Ray cluster, or on Kubernetes.

`KALSHI_ENGINE` says which; assets and jobs are the same for all. On a Ray cluster each run, and so
each session, is a Ray job (`dagster_ray.RayRunLauncher`), and each training another one
(`dagster_ray.PipesRayJobClient`), with the command that is a process of its own here. On Kubernetes
each step is a pod (`kubernetes.py`). Nothing of either is imported before it is wanted. See
`docs/SCALE.md`.
"""

import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError  # 1.13 has no public name for it
from dagster._core.launcher import RunLauncher
from dagster._core.pipes.client import PipesClientCompletedInvocation
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from pydantic import Field

from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.resources.environment import (
    EngineName,
    engine_name,
    handed_on,
    ray_address,
    training_gpus,
)
from kalshi_pipeline.resources.run_launcher import WatchedRunLauncher

STOP_WITHIN_S = 20.0  # an update takes about a second, saving less
TRAINING_TAG = "kalshi/training"  # of a Ray job: what it trains
RUN_TAG = "dagster/run-id"  # of a Ray job: the run that asked for it
RESTARTS = 2  # of a job that died
_POLL_S = 0.5


class EnvSwitchedLauncher(RunLauncher, ConfigurableClass):
    """Dagster's own launcher, watched, or that of Ray where `KALSHI_ENGINE` says so.

    Never made itself: `dagster.yaml` names it and gets the one or the other.
    """

    @classmethod
    def config_type(cls) -> Any:
        """Settings in `dagster.yaml`: none, what differs between machines is its environment."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, _config_value: Any
    ) -> RunLauncher:
        """The launcher the environment asks for.

        Raises:
            KalshiPipelineError: it asks for an engine there is none of.
        """
        if engine_name() != "ray":  # Dagster's chart names the launcher of Kubernetes itself
            return WatchedRunLauncher(inst_data)
        from dagster_ray import RayRunLauncher

        variables = [f"{name}={value}" for name, value in _variables().items()]
        return RayRunLauncher(
            ray_address(), env_vars=variables, num_cpus=1, inst_data=inst_data,
        )  # fmt: skip


def waiting_tags() -> dict[str, str]:
    """Tags of a run that mostly waits for a training: it leaves its processor to that."""
    return {"dagster-ray/config": '{"num_cpus": 0.1}'} if engine_name() == "ray" else {}


def executor(trainings: Iterable[str]) -> dg.ExecutorDefinition:
    """What carries out a run's steps: its own process, whose imports they share; or a pod each.

    Args:
        trainings: names of the steps that train.
    """
    if engine_name() != "kubernetes":
        return dg.in_process_executor
    from kalshi_pipeline.resources.kubernetes import step_executor

    return step_executor(trainings, training_gpus())


def engine_settings() -> dict[str, Any]:
    """What the environment says of the engine, as `Engine` takes it.

    Raises:
        KalshiPipelineError: it asks for an engine there is none of, or for no number of GPUs.
    """
    return {"name": engine_name(), "address": ray_address(), "gpus": training_gpus()}


class Engine(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What carries out a training: the same worker and the same weights, wherever it runs."""

    name: EngineName = Field(description="this machine or pod, or a Ray cluster")
    address: str = Field(description="of Ray's dashboard; read where the engine is ray")
    gpus: float = Field(description="GPUs a training reserves on the cluster")

    def shared(self, root: Path) -> str | None:
        """Folder for files that asset and worker both see; None: any of this machine."""
        if self.name != "ray":
            return None
        folder = root / "trained_models"  # the worker writes its run there in any case
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def train(
        self, context: dg.AssetExecutionContext, what: str, extras: dict[str, Any]
    ) -> PipesClientCompletedInvocation:
        """Run the training worker to its end.

        Args:
            context: of the asset.
            what: the training's name: no two of one name go on at a time.
            extras: what the worker is told.

        Raises:
            DagsterPipesExecutionError: it died.
        """
        command = [sys.executable, "-m", "kalshi_pipeline.assets.trainer"]
        if self.name != "ray":
            client = dg.PipesSubprocessClient(termination_timeout_seconds=STOP_WITHIN_S)
            return client.run(context=context, command=command, extras=extras)
        from dagster_ray import PipesRayJobClient

        ray = PipesRayJobClient(address=self.address)
        _end_left_over(context, ray.client, what)
        try:
            return ray.run(
                context=context,
                submit_job_params={
                    "entrypoint": " ".join(command),
                    "entrypoint_num_cpus": 1,
                    "entrypoint_num_gpus": self.gpus,
                    "metadata": {TRAINING_TAG: what},
                    "runtime_env": {"env_vars": _variables()},
                },
                extras=extras,
            )
        except RuntimeError as died:  # what it raises of a job that failed, and of no other thing
            raise DagsterPipesExecutionError(str(died)) from died


def side_by_side(module: str, words: Sequence[str], copies: int) -> None:
    """Run one command several times at once on the cluster, each time a job, to their end.

    A job that dies is started again, twice.

    Raises:
        KalshiPipelineError: one died a third time; the others are stopped.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(ray_address())
    command = shlex.join([sys.executable, "-m", module, *words])
    variables = {"env_vars": _variables()}

    def start() -> str:
        return client.submit_job(
            entrypoint=command,
            entrypoint_num_cpus=1,
            entrypoint_num_gpus=training_gpus(),
            runtime_env=dict(variables),
        )

    going = {start(): RESTARTS for _ in range(copies)}
    try:
        while going:
            time.sleep(_POLL_S)
            for job, left in list(going.items()):
                status = client.get_job_status(job)
                if not status.is_terminal():
                    continue
                del going[job]
                if status == JobStatus.SUCCEEDED:
                    continue
                if not left:
                    told = client.get_job_logs(job).strip().splitlines()
                    raise KalshiPipelineError(told[-1] if told else "a job died", value=job)
                going[start()] = left - 1
    finally:
        for job in going:
            client.stop_job(job)


def _variables() -> dict[str, str]:
    # Ray gives a job 3 s between being asked to stop and being killed
    return {**handed_on(), "RAY_JOB_STOP_WAIT_TIME_S": f"{STOP_WITHIN_S:.0f}"}


def _end_left_over(context: dg.AssetExecutionContext, client: Any, what: str) -> None:
    """Stop trainings whose run is over: killed with its machine, a run cannot stop its own."""
    for job in client.list_jobs():
        told = job.metadata or {}
        if told.get(TRAINING_TAG) != what or job.status.is_terminal():
            continue
        run = context.instance.get_run_by_id(told.get(RUN_TAG, ""))
        if run is None or run.is_finished or run.run_id == context.run_id:
            context.log.warning(f"{what} is still being trained by {job.submission_id}: stopped")
            client.stop_job(job.submission_id)
            until = time.monotonic() + 2 * STOP_WITHIN_S
            while not client.get_job_status(job.submission_id).is_terminal():
                if time.monotonic() > until:
                    raise DagsterPipesExecutionError(f"{job.submission_id} does not stop")
                time.sleep(_POLL_S)
