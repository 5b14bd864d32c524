"""Definitions load for Kubernetes, and the pods they ask for are pods; no cluster is needed."""

from __future__ import annotations

import pytest
import yaml

pytest.importorskip("dagster_k8s", reason="needs the extra: pip install .[k8s]")
pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

import dagster as dg
import kubernetes_validate
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterKubernetesClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
)
from kubernetes.client import ApiClient

from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.resources.environment import engine_name
from kalshi_pipeline.resources.kubernetes import step_settings
from tests.conftest import ROOT

pytestmark = pytest.mark.scale

VALUES = yaml.safe_load((ROOT / "deploy/kubernetes/values.yaml").read_text())
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
IMAGE = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
RELEASE = "1.36"


@pytest.fixture
def definitions(monkeypatch, tmp_path):
    monkeypatch.setenv("KALSHI_ENGINE", "kubernetes")
    monkeypatch.setenv("KALSHI_TRAINING_GPUS", "1")
    return build_definitions([], str(tmp_path))


@pytest.fixture
def launcher(monkeypatch):
    """What the chart makes of our values, with no cluster behind it."""
    given = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    settings = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "image_pull_policy": given["imagePullPolicy"],
        "fail_pod_on_run_failure": given["failPodOnRunFailure"],
        "resources": given["resources"],
        "run_k8s_config": {
            "pod_spec_config": given["runK8sConfig"]["podSpecConfig"],
            "job_spec_config": given["runK8sConfig"]["jobSpecConfig"],
        },
    }
    schema = resolve_to_config_type(DagsterK8sJobConfig.config_type_run_launcher())
    accepted = process_config(schema, settings)
    assert accepted.success, accepted.errors
    monkeypatch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda **_: None)
    monkeypatch.setattr(DagsterKubernetesClient, "production_client", lambda **_: None)
    return K8sRunLauncher(**accepted.value)


def of_the_code_server(launcher):
    """What a run has of its code server, as `includeConfigInLaunchedRuns` hands it on."""
    return K8sContainerContext.create_from_config(
        {
            "k8s": {
                "env": CODE["env"],
                "env_secrets": [entry["name"] for entry in CODE["envSecrets"]],
                "volumes": CODE["volumes"],
                "volume_mounts": CODE["volumeMounts"],
                "image_pull_policy": CODE["image"]["pullPolicy"],
            }
        }
    )


def rendered(launcher, name, context):
    """A job of Kubernetes, held against its schema."""
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(IMAGE, launcher), ["dagster", "api", "execute_step"],
        job_name=name, user_defined_k8s_config=context.run_k8s_config,
    )  # fmt: skip
    told = ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(told, RELEASE, strict=True)
    (container,) = told["spec"]["template"]["spec"]["containers"]
    container["resource"] = container["resources"]
    with pytest.raises(kubernetes_validate.ValidationError):  # it looks that deep
        kubernetes_validate.validate(told, RELEASE, strict=True)
    del container["resource"]
    return told["spec"]["template"]["spec"]


def base(launcher):
    run = K8sContainerContext(
        resources=launcher.resources,
        run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(launcher.run_k8s_config),
    )
    return run.merge(of_the_code_server(launcher))


def test_a_run_and_every_kind_of_step_is_a_pod_that_kubernetes_takes(launcher, definitions):
    settings = step_settings(["quick__phase_1"], ["quick__evaluation"], 1)
    run = rendered(launcher, "dagster-run", base(launcher))
    (container,) = run["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["requests"]["cpu"] == "100m"
    assert {"name": "KALSHI_ENGINE", "value": "kubernetes"} in container["env"]
    assert container["volumeMounts"][-1]["mountPath"] == "/data"

    def step(*further):
        context = base(launcher)
        for config in further:
            told = UserDefinedDagsterK8sConfig.from_dict(config)
            context = context.merge(K8sContainerContext(run_k8s_config=told))
        return rendered(launcher, "dagster-step", context)

    data = step(settings["step_k8s_config"])
    assert data["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "8Gi"},
    }  # fmt: skip
    train = step(settings["step_k8s_config"], settings["per_step_k8s_config"]["quick__phase_1"])
    assert train["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert train["terminationGracePeriodSeconds"] == 60
    assert train["securityContext"] == {"fsGroup": 1000}
    judge = step(settings["per_step_k8s_config"]["quick__evaluation"])
    assert judge["containers"][0]["resources"]["requests"]["cpu"] == "2"
    assert "nvidia" not in str(judge)


def test_the_executor_is_that_of_kubernetes_and_names_only_steps_there_are(definitions):
    assert definitions.executor.name == "k8s"
    accepted = process_config(
        resolve_to_config_type(definitions.executor.config_schema.config_type), {}
    )
    assert accepted.success, accepted.errors
    resolved = definitions.executor.apply_config_mapping({"config": {}}).value["config"]
    steps = resolved["per_step_k8s_config"]
    ops = {
        key.to_python_identifier() for key in definitions.resolve_asset_graph().get_all_asset_keys()
    }
    assert {"quick__phase_1", "quick__retrained"} <= set(steps) <= ops
    assert {name for name, told in steps.items() if "nvidia.com/gpu" not in str(told)} == {
        name for name in steps if name.endswith(("__evaluation", "__forward_validation"))
    }


def test_the_engine_of_the_values_is_one_and_an_unknown_one_is_refused(monkeypatch):
    told = {entry["name"]: entry["value"] for entry in CODE["env"]}
    monkeypatch.setenv("KALSHI_ENGINE", told["KALSHI_ENGINE"])
    assert engine_name() == "kubernetes"
    monkeypatch.setenv("KALSHI_ENGINE", "cloud")
    with pytest.raises(KalshiPipelineError, match="local, ray or kubernetes"):
        engine_name()
    with pytest.raises(ValueError, match="whole GPUs"):
        step_settings([], [], 0.5)


def test_the_instance_is_that_of_one_machine_but_for_how_many_runs_and_how_long_one_starts():
    told = VALUES["additionalInstanceConfig"]
    accepted = process_config(resolve_to_config_type(dagster_instance_config_schema()), told)
    assert accepted.success, accepted.errors
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    told["concurrency"]["runs"]["max_concurrent_runs"] = 2
    told["run_monitoring"] |= {"start_timeout_seconds": 120, "poll_interval_seconds": 10}
    assert told == {name: ours[name] for name in told}
    left = {"telemetry", "nux", "storage", "run_launcher", "retention"}  # of the chart's own keys
    assert set(ours) == set(told) | left


def test_on_one_machine_steps_share_a_process(monkeypatch, tmp_path):
    monkeypatch.delenv("KALSHI_ENGINE", raising=False)
    assert build_definitions([], str(tmp_path)).executor is dg.in_process_executor
