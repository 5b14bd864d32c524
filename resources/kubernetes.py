"""A step, a pod: what each asks of a Kubernetes cluster.

Runs are launched by `K8sRunLauncher`, which Dagster's chart writes into the instance's settings;
`deploy/kubernetes/values.yaml` are its values.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

# of a step that makes data, and of one that trains or judges; a limit on memory alone, so that
# nobody's idle processor is denied
DATA = {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "8Gi"}}
TRAINING = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}}
GPU = "nvidia.com/gpu"
GRACE_S = 60  # a training saves before it ends
USER = 1000  # of the image: it writes the claim


def step_settings(
    trainings: Iterable[str], evaluations: Iterable[str], gpus: float
) -> dict[str, Any]:
    """Settings of `k8s_job_executor`.

    Args:
        trainings: names of the steps that train.
        evaluations: names of the steps that judge.
        gpus: of each of them; whole ones, a cluster knows no other.

    Raises:
        ValueError: a share of a GPU.
    """
    if gpus != int(gpus):
        raise ValueError(f"a pod has whole GPUs, not {gpus:g}: KALSHI_TRAINING_GPUS")
    limits = {**TRAINING["limits"], **({GPU: str(int(gpus))} if gpus else {})}
    return {
        "step_k8s_config": _pod(DATA),
        "per_step_k8s_config": {
            **{name: _pod({**TRAINING, "limits": limits}) for name in trainings},
            **{name: _pod(TRAINING) for name in evaluations},
        },
    }


def step_executor(
    trainings: Iterable[str], evaluations: Iterable[str], gpus: float
) -> dg.ExecutorDefinition:
    """An executor that makes a pod of each step."""
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor.configured(step_settings(trainings, evaluations, gpus))


def _pod(resources: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "container_config": {"resources": dict(resources)},
        "pod_spec_config": {
            "termination_grace_period_seconds": GRACE_S,
            "security_context": {"fs_group": USER},
        },
    }
