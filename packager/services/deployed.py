"""A deployment configuration as what a workload is given."""

from __future__ import annotations

from dataclasses import replace

from packager.exports.quantities import GIB
from packager.exports.workload import Probe, Resources, Scale, Workload
from packager.services.configuration.values import (
    Deployment,
    DeviceDeployment,
    KubernetesDeployment,
    LocalDeployment,
)


def deployed(workload: Workload, deployment: Deployment) -> Workload:
    """``workload`` as ``deployment`` asks."""
    match deployment:
        case LocalDeployment():
            return replace(workload, host_port=deployment.port or workload.host_port)
        case DeviceDeployment():
            return replace(
                workload,
                resources=Resources(deployment.cpu, round(deployment.memory_gb * GIB)),
                auth=deployment.auth.value,
                tls=deployment.tls is not None,
                host_name=deployment.tls.name if deployment.tls is not None else deployment.host_name,
                host_port=deployment.port or workload.host_port,
                collects=deployment.collect_data,
            )
        case KubernetesDeployment():
            return _clustered(workload, deployment)


def _clustered(workload: Workload, deployment: KubernetesDeployment) -> Workload:
    scale, probe, most = deployment.autoscale, deployment.probe, deployment.memory_gb_limit
    return replace(
        workload,
        resources=Resources(
            deployment.cpu,
            round(deployment.memory_gb * GIB),
            deployment.cpu_limit,
            None if most is None else round(most * GIB),
            deployment.gpu,
        ),
        auth=deployment.auth.value,
        env={**workload.env, **_limits(deployment)},
        collects=deployment.collect_data,
        scoring_seconds=deployment.scoring_timeout_ms / 1000,
        replicas=deployment.replicas or 1,
        scale=None
        if scale is None
        else Scale(scale.min_replicas, scale.max_replicas, scale.target_utilization, scale.refresh_seconds),
        probe=Probe(
            start_seconds=probe.initial_delay_seconds,
            period_seconds=probe.period_seconds,
            timeout_seconds=probe.timeout_seconds,
            successes=probe.success_threshold,
            failures=probe.failure_threshold,
        ),
    )


def _limits(deployment: KubernetesDeployment) -> dict[str, str]:
    """Calls at once, which are workers of a script, and the time in the queue, as the server reads them."""
    found = {"EDGEPACK_QUEUE_MS": str(deployment.max_queue_wait_ms)}
    if deployment.max_concurrent_requests > 1:  # else as the package says
        found["EDGEPACK_WORKERS"] = str(deployment.max_concurrent_requests)
    return found
