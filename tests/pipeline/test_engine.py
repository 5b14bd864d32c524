"""The environment chooses the engine; nothing of an engine that was not chosen is imported."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.errors import DagsterPipesExecutionError

from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.resources import engine
from kalshi_pipeline.resources.engine import EnvSwitchedLauncher, _end_left_over
from kalshi_pipeline.resources.environment import (
    engine_name,
    handed_on,
    ray_address,
    training_gpus,
)
from kalshi_pipeline.resources.run_launcher import WatchedRunLauncher


def test_one_machine_is_the_default(monkeypatch):
    for name in ("KALSHI_ENGINE", "KALSHI_TRAINING_GPUS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert (engine_name(), training_gpus()) == ("local", 0.0)
    assert ray_address() == "http://127.0.0.1:8265"
    launcher = EnvSwitchedLauncher.from_config_value(None, {})
    assert isinstance(launcher, WatchedRunLauncher)


@pytest.mark.parametrize(
    ("name", "value"),
    [("KALSHI_ENGINE", "cloud"), ("KALSHI_TRAINING_GPUS", "-1"), ("KALSHI_TRAINING_GPUS", "two")],
)
def test_what_is_no_engine_or_no_number_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(KalshiPipelineError, match=name):
        engine.engine_settings()


def test_no_secret_is_handed_on_and_the_warehouse_always_is(monkeypatch):
    secret = "postgresql://reader:secret@127.0.0.1/collector"
    for name in ("DATABASE_URL", "DATABASE_URL_POOLED", "DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, secret)
    monkeypatch.delenv("KALSHI_WAREHOUSE", raising=False)
    told = handed_on()
    assert "secret" not in json.dumps(told)
    assert os.path.isabs(told["KALSHI_WAREHOUSE"])
    assert told["PATH"].startswith(os.path.dirname(sys.executable))


@pytest.mark.parametrize("chosen", ["local", "ray"])
def test_definitions_import_no_engine_before_it_is_wanted(chosen):
    program = (
        "import sys, kalshi_pipeline.definitions;"
        "print([m for m in ('ray', 'dagster_ray', 'dagster_k8s', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "KALSHI_ENGINE": chosen},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


class Jobs:
    """Ray's client, with one job that goes on until it is stopped."""

    def __init__(self, metadata, stops=True):
        self.metadata, self.stopped, self.stops = metadata, [], stops

    def list_jobs(self):
        return [SimpleNamespace(metadata=self.metadata, submission_id="one", status=self.status)]

    @property
    def status(self):
        return SimpleNamespace(is_terminal=lambda: self.stops and bool(self.stopped))

    def get_job_status(self, _):
        return self.status

    def stop_job(self, name):
        self.stopped.append(name)


@pytest.fixture
def context():
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_asset_context(instance=instance) as found,
    ):
        yield found


@dg.job
def nothing():
    pass


def told_of(instance, what="a training"):
    own = instance.run_storage.get_run_storage_id()
    return {engine.TRAINING_TAG: what, engine.INSTANCE_TAG: own}


def metadata_of(instance, *, over):
    run = instance.create_run_for_job(nothing)
    if over:
        instance.report_run_failed(run)
    return {**told_of(instance), engine.RUN_TAG: run.run_id}


def test_a_training_that_its_run_left_behind_is_stopped_before_the_next(context):
    jobs = Jobs(metadata_of(context.instance, over=True))
    _end_left_over(context, jobs, told_of(context.instance))
    assert jobs.stopped == ["one"]


def test_a_training_that_somebody_waits_for_or_of_another_name_goes_on(context):
    for told, what in (
        (metadata_of(context.instance, over=False), "a training"),
        (metadata_of(context.instance, over=True), "another"),
        (None, "a training"),
    ):
        jobs = Jobs(told)
        _end_left_over(context, jobs, told_of(context.instance, what))
        assert not jobs.stopped


def test_a_training_of_another_instance_is_never_stopped(context):
    with dg.DagsterInstance.ephemeral() as other:
        jobs = Jobs(metadata_of(other, over=True))
    _end_left_over(context, jobs, told_of(context.instance))
    assert not jobs.stopped


def test_paths_are_handed_on_as_every_node_finds_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KALSHI_WAREHOUSE", "here")
    monkeypatch.setenv("KALSHI_RECORDINGS", os.pathsep.join(("a", "/b")))
    told = handed_on()
    assert told["KALSHI_WAREHOUSE"] == str(tmp_path / "here")
    assert told["KALSHI_RECORDINGS"] == os.pathsep.join((str(tmp_path / "a"), "/b"))
    monkeypatch.setenv("KALSHI_WAREHOUSE", "s3://bucket/prefix")
    assert handed_on()["KALSHI_WAREHOUSE"] == "s3://bucket/prefix"


def test_what_is_not_installed_is_asked_for_in_a_sentence():
    with (
        pytest.raises(KalshiPipelineError, match=r"kalshi-pipeline\[ray\]"),
        engine.extra("ray"),
    ):
        importlib.import_module("no_such_package_as_this")


def test_one_that_does_not_stop_is_not_waited_for_for_ever(context, monkeypatch):
    monkeypatch.setattr(engine, "STOP_WITHIN_S", 0.0)
    jobs = Jobs(metadata_of(context.instance, over=True), stops=False)
    with pytest.raises(DagsterPipesExecutionError, match="does not stop"):
        _end_left_over(context, jobs, told_of(context.instance))
