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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    is_shared,
    ray_address,
    training_gpus,
)
from kalshi_pipeline.resources.run_launcher import WatchedRunLauncher
from kalshi_pipeline.storage.publish import Warehouse

STOP_WITHIN_S = 20.0  # an update takes about a second, saving less
TRAINING_TAG = "kalshi/training"  # of a Ray job: what it trains
INSTANCE_TAG = "kalshi/instance"  # of a Ray job: the Dagster instance whose run asked for it
RUN_TAG = "dagster/run-id"  # of a Ray job: that run
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
        with extra("ray"):
            from kalshi_pipeline.resources.ray_launcher import RunsOnRay

        variables = [f"{name}={value}" for name, value in _variables().items()]
        return RunsOnRay(ray_address(), env_vars=variables, num_cpus=1, inst_data=inst_data)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports of what an extra of pyproject.toml installs.

    Raises:
        KalshiPipelineError: it is not installed; says what to type.
    """
    try:
        yield
    except ImportError as error:
        raise KalshiPipelineError(
            f"{error.name or 'a package'} is not installed: pip install 'kalshi-pipeline[{name}]'",
            rule="extra",
            value=name,
        ) from error


def executor(trainings: Iterable[str], evaluations: Iterable[str]) -> dg.ExecutorDefinition:
    """What carries out a run's steps: its own process, whose imports they share; or a pod each.

    Args:
        trainings: names of the steps that train.
        evaluations: names of the steps that judge.
    """
    if engine_name() != "kubernetes":
        return dg.in_process_executor
    from kalshi_pipeline.resources.kubernetes import step_executor

    with extra("k8s"):
        return step_executor(trainings, evaluations, training_gpus())


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

    def shared(self, warehouse: Warehouse) -> Path | None:
        """Folder for files that all nodes of the cluster see; None: there is none, or no cluster.

        A warehouse that lies in a folder lies in one that every node sees.
        """
        if self.name != "ray" or is_shared(warehouse.address):
            return None
        folder = warehouse.root / "trained_models"  # a worker writes its run there in any case
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def train(
        self,
        context: dg.AssetExecutionContext,
        what: str,
        extras: dict[str, Any],
        before: Sequence[Sequence[str]] = (),
    ) -> PipesClientCompletedInvocation:
        """Run the training worker to its end.

        Args:
            context: of the asset.
            what: the training's name: no two of one name go on at a time.
            extras: what the worker is told.
            before: commands that do a part of its work each, side by side on the cluster.

        Raises:
            DagsterPipesExecutionError: it died.
        """
        command = [sys.executable, "-m", "kalshi_pipeline.assets.trainer"]
        if self.name != "ray":
            client = dg.PipesSubprocessClient(termination_timeout_seconds=STOP_WITHIN_S)
            return client.run(context=context, command=command, extras=extras)
        with extra("ray"):
            from dagster_ray import PipesRayJobClient

        ray = PipesRayJobClient(address=self.address)
        instance = context.instance.run_storage.get_run_storage_id()
        told = {TRAINING_TAG: what, INSTANCE_TAG: instance}
        _end_left_over(context, ray.client, told)
        try:
            side_by_side(before, {**told, RUN_TAG: context.run_id})
            return ray.run(
                context=context,
                submit_job_params=_job(command, told, self.gpus),
                extras=extras,
            )
        except (RuntimeError, KalshiPipelineError) as died:  # RuntimeError: of a job that failed
            raise DagsterPipesExecutionError(str(died)) from died


def side_by_side(
    commands: Sequence[Sequence[str]], metadata: Mapping[str, str] | None = None
) -> None:
    """Run commands at once on the cluster, each a job, to their end.

    A job that dies is started again, twice.

    Args:
        commands: of one job each.
        metadata: of every job.

    Raises:
        KalshiPipelineError: one died a third time; the others are stopped.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(ray_address())

    def start(command: Sequence[str]) -> str:
        return str(client.submit_job(**_job(command, metadata or {}, training_gpus())))

    going = {start(command): (command, RESTARTS) for command in commands}
    try:
        while going:
            time.sleep(_POLL_S)
            for job, (command, left) in list(going.items()):
                status = client.get_job_status(job)
                if not status.is_terminal():
                    continue
                del going[job]
                if status == JobStatus.SUCCEEDED:
                    continue
                if not left:
                    told = client.get_job_logs(job).strip().splitlines()
                    raise KalshiPipelineError(told[-1] if told else "a job died", value=job)
                going[start(command)] = (command, left - 1)
    finally:
        for job in going:
            client.stop_job(job)


def _job(command: Sequence[str], metadata: Mapping[str, str], gpus: float) -> Any:
    # what Ray is told of a job, each time anew: it changes what it is given
    return {
        "entrypoint": shlex.join(command),
        "entrypoint_num_cpus": 1,
        "entrypoint_num_gpus": gpus,
        "metadata": dict(metadata),
        "runtime_env": {"env_vars": _variables()},
    }


def _variables() -> dict[str, str]:
    # Ray gives a job 3 s between being asked to stop and being killed
    return {**handed_on(), "RAY_JOB_STOP_WAIT_TIME_S": f"{STOP_WITHIN_S:.0f}"}


def _end_left_over(context: dg.AssetExecutionContext, client: Any, told: Mapping[str, str]) -> None:
    """Stop trainings whose run is over: killed with its machine, a run cannot stop its own.

    Those of another instance are left alone: whether their runs are over is not known here.
    """
    for job in client.list_jobs():
        metadata = job.metadata or {}
        if not told.items() <= metadata.items() or job.status.is_terminal():
            continue
        run = context.instance.get_run_by_id(metadata.get(RUN_TAG, ""))
        if run is None or run.is_finished or run.run_id == context.run_id:
            context.log.warning(f"a training of before goes on as {job.submission_id}: stopped")
            client.stop_job(job.submission_id)
            until = time.monotonic() + 2 * STOP_WITHIN_S
            while not client.get_job_status(job.submission_id).is_terminal():
                if time.monotonic() > until:
                    raise DagsterPipesExecutionError(f"{job.submission_id} does not stop")
                time.sleep(_POLL_S)
