"""How requests from outside reach a service in a cluster: an ``Ingress``, or a Gateway API route with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.errors import UsageError
from packager.exports.workload import Workload


@dataclass(frozen=True)
class Route:
    """Requests for ``host``; by the gateway ``[NAMESPACE/]NAME``, or else by an ingress of the class, if any.

    ``weights`` gives requests to several services in this ratio, which only a gateway can.
    """

    host: str
    gateway: str | None = None
    ingress_class: str | None = None
    weights: Sequence[tuple[str, int]] = ()

    def __post_init__(self) -> None:
        if self.weights and self.gateway is None:
            raise UsageError("weights need a gateway", where=self.host, hint="name one with --gateway")


def route(workload: Workload, wanted: Route, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The object that leads requests to ``workload``, or to the services that have weights."""
    if wanted.gateway is not None:
        return http_route(workload, wanted, meta)
    port = "https" if workload.tls else "http"
    spec: dict[str, Any] = {} if wanted.ingress_class is None else {"ingressClassName": wanted.ingress_class}
    backend = {"service": {"name": workload.name, "port": {"name": port}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec["rules"] = [{"host": wanted.host, "http": {"paths": [path]}}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": dict(meta), "spec": spec}


def http_route(workload: Workload, wanted: Route, meta: Mapping[str, Any]) -> dict[str, Any]:
    """A route of the Gateway API; weights are of requests, not of callers."""
    namespace, _, name = (wanted.gateway or "").rpartition("/")
    parent = {"name": name, **({"namespace": namespace} if namespace else {})}
    port = 443 if workload.tls else 80
    backends = [
        {"name": service, "port": port, "weight": weight} for service, weight in wanted.weights or ((workload.name, 1),)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": dict(meta),
        "spec": {
            "parentRefs": [parent],
            "hostnames": [wanted.host],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
        },
    }
