"""A workload as objects of Kubernetes, one a file, with a ``kustomization.yaml`` over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packager.exports.exported import Exported
from packager.exports.pods import PORT, labels, pod_annotations, pod_spec, selector
from packager.exports.routing import Route, route
from packager.exports.secrets import Credentials, secret_files
from packager.exports.workload import Workload, content_hash
from packager.exports.yaml_text import yaml_text

Document = dict[str, Any]
_OTLP = 4318
_HISTORY = 3


@dataclass(frozen=True)
class Cluster:
    """What an export for a cluster says beside the workload.

    ``namespace`` ``None`` leaves it to who applies it, ``pull_secret`` names a login that is in the cluster,
    ``monitored`` asks for the ``ServiceMonitor`` of the Prometheus operator.
    """

    namespace: str | None = None
    pull_secret: str | None = None
    route: Route | None = None
    monitored: bool = False
    credentials: Credentials = field(default_factory=Credentials)


def export_kubernetes(workload: Workload, cluster: Cluster) -> Exported:
    """The files of ``workload`` for ``kubectl apply -k``, Flux or Argo CD."""
    files = {name: yaml_text(document) for name, document in objects(workload, cluster).items()}
    made, listed, notes = secret_files(workload, cluster.credentials, cluster.namespace)
    kustomization: Document = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if cluster.namespace is not None:
        kustomization["namespace"] = cluster.namespace
    kustomization["resources"] = sorted([*files, *listed])
    return Exported({**files, **made, "kustomization.yaml": yaml_text(kustomization)}, tuple(notes), frozenset(listed))


def objects(workload: Workload, cluster: Cluster) -> dict[str, Document]:
    """All objects but secrets, by the names of their files, in the order in which they are to be made."""
    settings = settings_map(workload, cluster)
    found = {
        "serviceaccount.yaml": service_account(workload, cluster),
        "settings.yaml": settings,
        "networkpolicy.yaml": network_policy(workload, cluster),
        "deployment.yaml": deployment(workload, cluster, settings["metadata"]["name"]),
        "service.yaml": service(workload, cluster),
    }
    if workload.scale is not None:
        found["autoscaler.yaml"] = autoscaler(workload, cluster)
    if workload.least_replicas > 1:  # of one alone, it would keep a node from being emptied
        found["disruptionbudget.yaml"] = disruption_budget(workload, cluster)
    if cluster.route is not None:
        found["route.yaml"] = route(workload, cluster.route, meta(workload, cluster))
    if cluster.monitored:
        found["servicemonitor.yaml"] = service_monitor(workload, cluster)
    return found


def meta(workload: Workload, cluster: Cluster, name: str | None = None) -> Document:
    """The name, namespace and labels of an object."""
    found: Document = {"name": name or workload.name}
    if cluster.namespace is not None:
        found["namespace"] = cluster.namespace
    return {**found, "labels": labels(workload)}


def deployment(workload: Workload, cluster: Cluster, settings: str) -> Document:
    """The replicas; ``settings`` is the name of their ConfigMap."""
    spec: Document = {}
    if workload.scale is None:  # else the autoscaler's number would be set back with each apply
        spec["replicas"] = workload.replicas
    spec |= {
        "minReadySeconds": 5,
        "progressDeadlineSeconds": max(600, workload.probe.start_seconds + 60),
        "revisionHistoryLimit": _HISTORY,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": selector(workload)},
        "template": {
            "metadata": {"labels": labels(workload), "annotations": pod_annotations(workload)},
            "spec": pod_spec(workload, settings=settings, pull_secret=cluster.pull_secret),
        },
    }
    head = meta(workload, cluster)
    if workload.tags:
        head["annotations"] = dict(tag_annotations(workload.tags))
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": spec}


def tag_annotations(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a service as annotations, which may have any value; what no annotation can be called is in one of all."""
    import json

    from packager.exports.names import is_key

    fitting = {f"tags.edgepack.io/{name}": value for name, value in tags.items()}
    if all(map(is_key, fitting)):
        return fitting
    return {"edgepack.io/tags": json.dumps(dict(tags), sort_keys=True, ensure_ascii=False)}


def service(workload: Workload, cluster: Cluster) -> Document:
    """The address inside of the cluster."""
    scheme = "https" if workload.tls else "http"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(workload, cluster),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(workload),
            "ports": [
                {"name": scheme, "port": 443 if workload.tls else 80, "targetPort": PORT, "protocol": "TCP",
                 "appProtocol": scheme}
            ],
        },
    }  # fmt: skip


def service_account(workload: Workload, cluster: Cluster) -> Document:
    """An account without rights, whose token no pod gets."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(workload, cluster),
        "automountServiceAccountToken": False,
    }


def settings_map(workload: Workload, cluster: Cluster) -> Document:
    """The environment; its name changes with it, so that a change replaces the pods."""
    data = dict(sorted(workload.settings.items()))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(workload, cluster, f"{workload.name}-settings-{content_hash(data)}"),
        "immutable": True,
        "data": data,
    }


def autoscaler(workload: Workload, cluster: Cluster) -> Document:
    """Replicas by the use of processors; slow to take away, for load comes back."""
    assert workload.scale is not None  # noqa: S101
    scale = workload.scale
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(workload, cluster),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
            "minReplicas": scale.least,
            "maxReplicas": scale.most,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": scale.percent}},
                }
            ],
            "behavior": {
                "scaleUp": {
                    "policies": [
                        {"type": kind, "value": amount, "periodSeconds": min(1800, scale.step_seconds)}
                        for kind, amount in (("Percent", 100), ("Pods", 4))
                    ]
                },
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }


def disruption_budget(workload: Workload, cluster: Cluster) -> Document:
    """At most one replica at a time is taken away when nodes are emptied."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(workload, cluster),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(workload)}},
    }


def network_policy(workload: Workload, cluster: Cluster) -> Document:
    """In by the one port; out nowhere, for scoring needs nothing, or to names and collectors of telemetry."""
    egress: list[Document] = []
    if workload.telemetry:
        names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
        egress = [{"ports": names}, {"ports": [{"protocol": "TCP", "port": _OTLP}]}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(workload, cluster),
        "spec": {
            "podSelector": {"matchLabels": selector(workload)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": workload.port}]}],
            "egress": egress,
        },
    }


def service_monitor(workload: Workload, cluster: Cluster) -> Document:
    """For clusters with the Prometheus operator, which has no eye for annotations."""
    scheme = "https" if workload.tls else "http"
    endpoint: Document = {"port": scheme, "path": "/metrics", "interval": "30s"}
    if workload.tls:
        endpoint |= {"scheme": scheme, "tlsConfig": {"serverName": workload.host_name or workload.name}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta(workload, cluster),
        "spec": {"selector": {"matchLabels": selector(workload)}, "endpoints": [endpoint]},
    }
