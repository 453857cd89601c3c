"""A deployment configuration, in Azure's words, as what a workload is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from packager.exports.quantities import GIB
from packager.exports.workload import Auth, Probe, Resources, Scale, Workload

# azureml-core's own defaults, for AKS and ACI.
_SCORING_MS = 60_000
_PROBE = {
    "periodSeconds": 10, "initialDelaySeconds": 310, "timeoutSeconds": 2, "successThreshold": 1, "failureThreshold": 3,
}  # fmt: skip
_SCALER = {"minReplicas": 1, "maxReplicas": 10, "targetUtilization": 70}


def deployed(workload: Workload, deployment: Mapping[str, Any]) -> Workload:
    """``workload`` as ``deployment`` asks, which has been checked; what is not in it has its default."""
    kind = str(deployment.get("computeType", "local")).lower()
    if kind == "local":
        return replace(workload, host_port=deployment.get("port") or workload.host_port)
    found = replace(
        workload,
        resources=_resources(deployment.get("containerResourceRequirements") or {}, workload.resources),
        auth=_auth(deployment, default=kind == "aks"),
        telemetry=bool(deployment.get("appInsightsEnabled")),
        tls=bool(deployment.get("sslEnabled")),
        host_name=deployment.get("cname") or deployment.get("dnsNameLabel") or workload.host_name,
    )
    if kind != "aks":
        return found
    probe = {**_PROBE, **(deployment.get("livenessProbeRequirements") or {})}
    collection = deployment.get("dataCollection") or {}
    return replace(
        _scaled(found, deployment),
        scoring_seconds=(deployment.get("scoringTimeoutMs") or _SCORING_MS) / 1000,
        collects=bool(collection.get("storageEnabled")),
        probe=Probe(
            start_seconds=probe["initialDelaySeconds"],
            period_seconds=probe["periodSeconds"],
            timeout_seconds=probe["timeoutSeconds"],
            successes=probe["successThreshold"],
            failures=probe["failureThreshold"],
        ),
    )


def _scaled(workload: Workload, deployment: Mapping[str, Any]) -> Workload:
    """Azure scales by itself unless a number of replicas is asked for."""
    scaler = deployment.get("autoScaler") or {}
    replicas = deployment.get("numReplicas")
    if replicas is not None or scaler.get("autoscaleEnabled") is False:
        return replace(workload, replicas=replicas or 1, scale=None)
    given = {**_SCALER, **{name: value for name, value in scaler.items() if value is not None}}
    return replace(workload, scale=Scale(given["minReplicas"], given["maxReplicas"], given["targetUtilization"]))


def _resources(given: Mapping[str, Any], usual: Resources) -> Resources:
    memory, most = given.get("memoryInGB"), given.get("memoryInGBLimit")
    return Resources(
        cpus=given.get("cpu") or usual.cpus,
        memory_bytes=usual.memory_bytes if memory is None else round(memory * GIB),
        cpu_limit=given.get("cpuLimit"),
        memory_limit_bytes=None if most is None else round(most * GIB),
    )


def _auth(deployment: Mapping[str, Any], *, default: bool) -> Auth:
    if deployment.get("tokenAuthEnabled"):
        return "token"
    is_enabled = deployment.get("authEnabled")
    return "key" if (default if is_enabled is None else is_enabled) else "none"
