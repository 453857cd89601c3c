"""How requests from outside reach a service in a cluster: an ``Ingress``, or a Gateway API route with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.errors import UsageError
from packager.exports.workload import Workload

Session = Literal["cookie", "header"]
# Of Gateway API's own definition of a route.
_MOST_WEIGHT, _MOST_BACKENDS = 1_000_000, 16


@dataclass(frozen=True)
class Route:
    """Requests for ``host``; by the gateway ``[NAMESPACE/]NAME``, or else by an ingress of the class, if any.

    ``weights`` gives requests to several services in this ratio, which only a gateway can. With a ``session``
    (``cookie`` or ``header``) the gateway gives each caller a sign, and who shows it stays with its service.
    """

    host: str
    gateway: str | None = None
    ingress_class: str | None = None
    weights: Sequence[tuple[str, int]] = ()
    session: Session | None = None

    def __post_init__(self) -> None:
        if self.weights and self.gateway is None:
            raise UsageError("weights need a gateway", where=self.host, hint="name one with --gateway")
        if self.session is not None and self.gateway is None:
            raise UsageError("a session needs a gateway", where=self.host, hint="name one with --gateway")
        for name, weight in self.weights:
            if not 0 <= weight <= _MOST_WEIGHT:
                raise UsageError(f"{name} cannot have the weight {weight}", where=self.host, hint="give 0 to 1000000")
        if len(self.weights) > _MOST_BACKENDS:
            raise UsageError(f"{len(self.weights)} services are too many", where=self.host, hint="give at most 16")
        if self.weights and not any(weight for _, weight in self.weights):
            raise UsageError("no service has a weight", where=self.host, hint="give one of them more than 0")


@dataclass(frozen=True)
class Backend:
    """A service that gets requests of a route: its ``port``, and its part of the sum of all weights."""

    service: str
    port: int
    weight: int = 1


def route(workload: Workload, wanted: Route, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The object that leads requests to ``workload``, or to the services that have weights."""
    if wanted.gateway is not None:
        port = 443 if workload.tls else 80
        backends = [Backend(service, port, weight) for service, weight in wanted.weights or ((workload.name, 1),)]
        return http_route(backends, wanted, meta)
    named = "https" if workload.tls else "http"
    spec: dict[str, Any] = {} if wanted.ingress_class is None else {"ingressClassName": wanted.ingress_class}
    backend = {"service": {"name": workload.name, "port": {"name": named}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec["rules"] = [{"host": wanted.host, "http": {"paths": [path]}}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": dict(meta), "spec": spec}


def http_route(backends: Sequence[Backend], wanted: Route, meta: Mapping[str, Any]) -> dict[str, Any]:
    """A route of the Gateway API; weights are of requests, not of callers."""
    namespace, _, name = (wanted.gateway or "").rpartition("/")
    parent = {"name": name, **({"namespace": namespace} if namespace else {})}
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": one.service, "port": one.port, "weight": one.weight} for one in backends],
    }
    if wanted.session is not None:
        rule["sessionPersistence"] = {"type": wanted.session.capitalize(), "sessionName": f"{meta['name']}-session"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": dict(meta),
        "spec": {"parentRefs": [parent], "hostnames": [wanted.host], "rules": [rule]},
    }
