"""An endpoint as files for a cluster: the objects of each version, and the route that gives each its share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packager.exports.exported import Exported
from packager.exports.routing import Backend, Route, http_route
from packager.exports.yaml_text import yaml_text

_LIST = "kustomization.yaml"


def export_endpoint(
    name: str, parts: Mapping[str, Exported], backends: Mapping[str, Backend], wanted: Route, namespace: str | None
) -> Exported:
    """The files of ``name``, whose versions are ``parts`` by their names, and answer requests as ``backends``."""
    files = {"route.yaml": yaml_text(http_route([*backends.values()], wanted, _meta(name, namespace)))}
    private: set[str] = set()
    notes: list[str] = []
    for version, part in parts.items():
        files |= {f"{version}-{file}": text for file, text in part.files.items() if file != _LIST}
        private |= {f"{version}-{file}" for file in part.private}
        notes += [f"{version}: {note}" for note in part.notes]
    kustomization: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if namespace is not None:
        kustomization["namespace"] = namespace
    kustomization["resources"] = sorted(file for file in files if file.endswith(".yaml"))
    if wanted.session is None:
        notes.append("a gateway draws each request by chance, whoever sends it: see --session")
    else:
        notes.append("sessionPersistence is of the experimental channel of Gateway API, and not every gateway has it")
    return Exported({**files, _LIST: yaml_text(kustomization)}, tuple(notes), frozenset(private))


def _meta(name: str, namespace: str | None) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": name, "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "endpoint", "app.kubernetes.io/part-of": "edgepack",
        "app.kubernetes.io/managed-by": "edgepack",
    }  # fmt: skip
    return {"name": name, **({} if namespace is None else {"namespace": namespace}), "labels": labels}
