"""A small API server of Kubernetes on loopback, as far as ``kubectl`` asks: it keeps objects, and states are given."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
KINDS = {
    "v1": {"services": "Service", "serviceaccounts": "ServiceAccount", "configmaps": "ConfigMap", "secrets": "Secret",
           "pods": "Pod"},
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
}  # fmt: skip


@dataclass
class FakeCluster:
    """Its objects by resource and name; ``pods`` and the Deployment's ``status`` are what a test says.

    ``refuses`` are verbs and resources for which its user has no right. ``applied`` are the objects of each apply.
    """

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] | None = None
    refuses: set[tuple[str, str]] = field(default_factory=set)
    applied: list[tuple[str, str]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    address: str = ""

    def kubeconfig(self, path: Path) -> Path:
        """A configuration with one context, ``test``."""
        value = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "fake", "cluster": {"server": self.address}}],
            "users": [{"name": "user", "user": {"token": "not-a-real-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "fake", "user": "user", "namespace": "ml"}}],
        }  # fmt: skip
        path.write_text(json.dumps(value))
        return path


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    """The server, until the end of the block."""
    cluster = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        """Answers what discovery, get, apply, delete, logs and can-i ask."""

        def log_message(self, *_: Any) -> None: ...

        def _send(self, value: object, code: int = 200) -> None:
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found = _discovery(url.path)
            if found is not None:
                self._send(found)
                return
            if "/namespaces/" not in url.path or url.path.endswith("/namespaces/ml"):
                self._send({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "ml"}})
                return
            resource, name, rest = _target(url.path)
            if rest == "log":
                self._send("model loaded\nready\n")
            elif name:
                one = _one(cluster, resource, name)
                self._send(_missing(resource, name) if one is None else one, 404 if one is None else 200)
            else:
                self._send(
                    {
                        "kind": _list_kind(resource),
                        "apiVersion": _api(resource),
                        "metadata": {},
                        "items": _list(cluster, resource, url.query),
                    }
                )

        def do_PATCH(self) -> None:
            url = urlsplit(self.path)
            resource, name, _ = _target(url.path)
            value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            cluster.applied.append((resource, name))
            cluster.queries.append(url.query)
            is_new = (resource, name) not in cluster.objects
            cluster.objects[resource, name] = value
            self._send(value, 201 if is_new else 200)

        def do_DELETE(self) -> None:
            resource, name, _ = _target(urlsplit(self.path).path)
            if cluster.objects.pop((resource, name), None) is None:
                self._send(_missing(resource, name), 404)
            else:
                self._send({"kind": "Status", "apiVersion": "v1", "status": "Success"})

        def do_POST(self) -> None:
            # In protobuf by newer clients, whose texts are in it as they are.
            data = self.rfile.read(int(self.headers["Content-Length"]))
            is_refused = any(verb.encode() in data and kind.encode() in data for verb, kind in cluster.refuses)
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
            self._send({**review, "status": {"allowed": not is_refused}}, 201)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _discovery(path: str) -> dict[str, Any] | None:
    if path == "/version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for api in [*KINDS, "authorization.k8s.io/v1"]:
            group, slash, version = api.rpartition("/")
            if slash:
                one = {"groupVersion": api, "version": version}
                groups.append({"name": group, "versions": [one], "preferredVersion": one})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    api = path.removeprefix("/apis/").removeprefix("/api/")
    if api == "authorization.k8s.io/v1":
        review = {"name": "selfsubjectaccessreviews", "kind": "SelfSubjectAccessReview", "namespaced": False,
                  "singularName": "", "verbs": ["create"]}  # fmt: skip
        return {"kind": "APIResourceList", "groupVersion": api, "resources": [review]}
    if api in KINDS:
        resources: list[dict[str, Any]] = [
            {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": _VERBS}
            for name, kind in KINDS[api].items()
        ]
        return {"kind": "APIResourceList", "groupVersion": api, "resources": resources}
    return None


def _target(path: str) -> tuple[str, str, str]:
    """The resource, the name and what follows of ``/apis/apps/v1/namespaces/ml/deployments/churn``."""
    words = path.split("/namespaces/")[1].split("/")[1:]
    return words[0], words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else ""


def _one(cluster: FakeCluster, resource: str, name: str) -> dict[str, Any] | None:
    if resource == "pods":
        return next((one for one in cluster.pods if one["metadata"]["name"] == name), None)
    found = cluster.objects.get((resource, name))
    if found is None or resource != "deployments" or cluster.status is None:
        return found
    return {**found, "status": cluster.status}


def _list(cluster: FakeCluster, resource: str, query: str) -> list[dict[str, Any]]:
    if resource == "pods":
        head = {"apiVersion": "v1", "kind": "Pod"}
        return [{**head, **one, "metadata": {"namespace": "ml", **one["metadata"]}} for one in cluster.pods]
    wanted = dict(
        item.split("=", 1)
        for text in parse_qs(query).get("labelSelector", [])
        for item in text.split(",")
        if "=" in item
    )
    names = [name for kind, name in cluster.objects if kind == resource]
    found = [one for name in names if (one := _one(cluster, resource, name)) is not None]
    return [one for one in found if wanted.items() <= one["metadata"].get("labels", {}).items()]


def _missing(resource: str, name: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": f'{resource} "{name}" not found', "details": {"name": name, "kind": resource}}  # fmt: skip


def _api(resource: str) -> str:
    return next(api for api, kinds in KINDS.items() if resource in kinds)


def _list_kind(resource: str) -> str:
    return f"{KINDS[_api(resource)][resource]}List"
