"""The pod of a workload: one container that is held to the restricted profile of Kubernetes' pod security standards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packager.exports.quantities import MIB, cores, megabytes
from packager.exports.workload import COLLECTION_FOLDER, DRAIN, Workload

# What the server's paths are for: serve.md.
LIVE, READY, STARTED = "/v2/health/live", "/v2/health/ready", "/"
PORT = "http"
# Logs and what is collected; /tmp is memory.
_DISK, _DISK_LIMIT, _COLLECTED = 64 * MIB, 512 * MIB, 256 * MIB


def labels(workload: Workload) -> dict[str, str]:
    """The labels that Kubernetes recommends, of every object."""
    from packager.exports.names import label_value

    found = {
        **selector(workload),
        "app.kubernetes.io/version": label_value(workload.version),
        "app.kubernetes.io/component": "scoring",
        "app.kubernetes.io/part-of": "edgepack",
        "app.kubernetes.io/managed-by": "edgepack",
    }
    return {name: value for name, value in found.items() if value}


def selector(workload: Workload) -> dict[str, str]:
    """What finds the pods: no version is in it, since it can never change."""
    return {"app.kubernetes.io/name": workload.name, "app.kubernetes.io/instance": workload.name}


def pod_annotations(workload: Workload) -> dict[str, str]:
    """What the pods are made of, and where Prometheus finds their metrics."""
    scheme = {"prometheus.io/scheme": "https"} if workload.tls else {}
    return {
        "prometheus.io/scrape": "true", "prometheus.io/port": str(workload.port), "prometheus.io/path": "/metrics",
        **scheme,
        **({"io.edgepack.models": ",".join(workload.models)} if workload.models else {}),
    }  # fmt: skip


def pod_spec(workload: Workload, *, settings: str, pull_secret: str | None, accounts: bool = True) -> dict[str, Any]:
    """The pod; ``settings`` is the name of its ConfigMap, ``pull_secret`` that of a login to the registry."""
    volumes, _ = mounts(workload)
    found: dict[str, Any] = {"serviceAccountName": workload.name} if accounts else {}
    found |= {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": workload.end_seconds,
        "securityContext": pod_security(workload),
        **placement(workload),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(workload)},
            }
        ],
    }
    if pull_secret is not None:
        found["imagePullSecrets"] = [{"name": pull_secret}]
    found["containers"] = [{"name": "scoring", **container(workload, settings=settings)}]
    found["volumes"] = volumes
    return found


def container(workload: Workload, *, settings: str | None) -> dict[str, Any]:
    """The container without its name; without ``settings`` its environment is written out."""
    _, mounted = mounts(workload)
    environment: dict[str, Any] = (
        {"envFrom": [{"configMapRef": {"name": settings}}]}
        if settings is not None
        else {"env": [{"name": name, "value": value} for name, value in sorted(workload.settings.items())]}
    )
    return {
        "image": workload.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": PORT, "containerPort": workload.port, "protocol": "TCP"}],
        **environment,
        "resources": resources(workload),
        **probes(workload),
        # A field for it, preStop.sleep, is younger than clusters in use.
        "lifecycle": {"preStop": {"exec": {"command": [workload.python, "-c", f"import time; time.sleep({DRAIN})"]}}},
        "securityContext": container_security(workload),
        "volumeMounts": mounted,
    }


def pod_security(workload: Workload) -> dict[str, Any]:
    """Of the whole pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": workload.user,
        "runAsGroup": workload.group,
        "fsGroup": workload.group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(workload: Workload) -> dict[str, Any]:
    """Of the container: nothing of it can be written to but what is mounted."""
    return {
        "runAsNonRoot": True,
        "runAsUser": workload.user,
        "runAsGroup": workload.group,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def probes(workload: Workload) -> dict[str, Any]:
    """Whether it has started, may be asked, and lives, which a model that is slow does not decide."""
    probe = workload.probe
    scheme = {"scheme": "HTTPS"} if workload.tls else {}

    def get(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": PORT, **scheme}}

    usual = {"periodSeconds": probe.period_seconds, "timeoutSeconds": probe.timeout_seconds}
    return {
        "startupProbe": {
            **get(STARTED), "periodSeconds": 1, "timeoutSeconds": probe.timeout_seconds,
            "failureThreshold": max(60, probe.start_seconds),
        },
        # Kubernetes takes no other number of successes than one for the other two.
        "readinessProbe": {
            **get(READY), "periodSeconds": min(5, probe.period_seconds), "timeoutSeconds": probe.timeout_seconds,
            "successThreshold": probe.successes, "failureThreshold": 2,
        },
        "livenessProbe": {**get(LIVE), **usual, "failureThreshold": probe.failures},
    }  # fmt: skip


def resources(workload: Workload) -> dict[str, Any]:
    """What is asked for, and the most: of memory the same, of processors no limit unless one is asked for."""
    given = workload.resources
    most = _DISK_LIMIT + (_COLLECTED if workload.collects else 0)
    limits = {"memory": megabytes(given.most_memory), "ephemeral-storage": megabytes(most)}
    if given.cpu_limit is not None:
        limits["cpu"] = cores(given.cpu_limit)
    if given.gpus:
        limits["nvidia.com/gpu"] = str(given.gpus)
    return {
        "requests": {
            "cpu": cores(given.cpus),
            "memory": megabytes(given.memory_bytes),
            "ephemeral-storage": megabytes(_DISK),
        },
        "limits": limits,
    }


def temporary_bytes(workload: Workload) -> int:
    """How large /tmp may be, which is memory of the container."""
    return max(16 * MIB, min(64 * MIB, workload.resources.most_memory // 8))


def mounts(workload: Workload) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pod's volumes, and where the container has them."""
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": megabytes(temporary_bytes(workload))}}
    ]
    mounted: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - inside the container
    # The group may read: the process is not its owner.
    for volume, folder in workload.mounted:
        secret = {"secretName": f"{workload.name}-{volume}", "defaultMode": 0o440}
        volumes.append({"name": volume, "secret": secret})
        mounted.append({"name": volume, "mountPath": folder, "readOnly": True})
    if workload.collects:
        volumes.append({"name": "collected", "emptyDir": {"sizeLimit": megabytes(_COLLECTED)}})
        mounted.append({"name": "collected", "mountPath": COLLECTION_FOLDER})
    return volumes, mounted


def placement(workload: Workload) -> dict[str, Any]:
    """On which nodes it can run: those with a processor that the image is for."""
    chosen = sorted({one.architecture for one in workload.platforms})
    systems: Mapping[str, str] = {"kubernetes.io/os": "linux"}
    if len(chosen) == 1:
        return {"nodeSelector": {**systems, "kubernetes.io/arch": chosen[0]}}
    return {"nodeSelector": dict(systems), "affinity": {"nodeAffinity": _one_of(chosen)}}


def _one_of(architectures: Sequence[str]) -> dict[str, Any]:
    wanted = {"key": "kubernetes.io/arch", "operator": "In", "values": list(architectures)}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}}
