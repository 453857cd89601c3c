"""Objects held to Kubernetes' own schema, and kinds and versions that clusters do not have (any more)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from edgepack.nearness import nearest
from edgepack.trees.schema import SchemaCheck
from packager.exports.check.findings import Findings
from packager.exports.check.objects import Manifest

_FILE = "kubernetes.schema.json.gz"
_GATEWAY = "gateway.schema.json.gz"
# Groups whose names have no domain, and those below this one, are Kubernetes' own; all others are of extensions.
_OWN = (".k8s.io",)
# Below that domain too, and yet extensions that a cluster may lack.
_EXTENSIONS = ("gateway.networking.k8s.io", "metrics.k8s.io", "snapshot.storage.k8s.io", "x-k8s.io")
# What was served once: the version of Kubernetes without it, and what took its place.
_REMOVED: Mapping[str, tuple[str, str]] = {
    "extensions/v1beta1": ("1.22", "apps/v1 or networking.k8s.io/v1"),
    "apps/v1beta1": ("1.16", "apps/v1"), "apps/v1beta2": ("1.16", "apps/v1"),
    "networking.k8s.io/v1beta1": ("1.22", "networking.k8s.io/v1"),
    "rbac.authorization.k8s.io/v1beta1": ("1.22", "rbac.authorization.k8s.io/v1"),
    "batch/v1beta1": ("1.25", "batch/v1"), "batch/v2alpha1": ("1.21", "batch/v1"),
    "policy/v1beta1": ("1.25", "policy/v1"),
    "autoscaling/v2beta1": ("1.25", "autoscaling/v2"), "autoscaling/v2beta2": ("1.26", "autoscaling/v2"),
}  # fmt: skip


@cache
def _schema() -> Mapping[str, Any]:
    data = files("packager.exports.check").joinpath(_FILE).read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(data))
    # Of the Gateway API, whose routes divide requests: its custom resource definition, without what rules in code say.
    more = files("packager.exports.check").joinpath(_GATEWAY).read_bytes()
    return found | {"kinds": found["kinds"] | json.loads(gzip.decompress(more))}


def check_schema(manifest: Manifest, findings: Findings) -> bool:
    """Hold one object to the schema of its kind; whether there is one."""
    root = manifest.root
    for name, value in (("apiVersion", manifest.api), ("kind", manifest.kind)):
        if not value:
            findings.wrong(root.child(name), "is missing")
    if not (manifest.api and manifest.kind):
        return False
    known = _schema()["kinds"]
    part = known.get(f"{manifest.api}/{manifest.kind}")
    if part is None:
        _unknown(manifest, [*known], findings)
        return False
    for text in SchemaCheck(_schema()).violations(root.node, part):
        findings.violations.append(f"{root.head}: {text}")
    return True


def is_extension(api: str) -> bool:
    """Whether a version's group is one that Kubernetes itself does not serve."""
    group, slash, _ = api.rpartition("/")
    if not slash or "." not in group:
        return False
    return not group.endswith(_OWN) or group.endswith(_EXTENSIONS)


def _unknown(manifest: Manifest, known: list[str], findings: Findings) -> None:
    root = manifest.root
    if manifest.api in _REMOVED:
        since, instead = _REMOVED[manifest.api]
        findings.wrong(
            root.child("apiVersion"), f"{manifest.api!r} is not served since Kubernetes {since}; use {instead}"
        )
        return
    if is_extension(manifest.api):
        findings.remark(
            root.child("kind"), f"{manifest.kind!r} is of an extension: only its pods and names are checked"
        )
        return
    if "alpha" in manifest.api or "beta" in manifest.api:
        findings.remark(root.child("apiVersion"), f"{manifest.api!r} is not stable: only pods and names are checked")
        return
    kinds = [one.rpartition("/")[2] for one in known]
    if manifest.kind in kinds:
        apis = " or ".join(one.rpartition("/")[0] for one in known if one.endswith(f"/{manifest.kind}"))
        findings.wrong(root.child("apiVersion"), f"{manifest.api!r} has no {manifest.kind}; use {apis}")
        return
    near = nearest(manifest.kind, kinds)
    meant = "" if near is None else f"; did you mean {near!r}?"
    findings.wrong(root.child("kind"), f"{manifest.kind!r} is not a kind of {manifest.api}{meant}")
