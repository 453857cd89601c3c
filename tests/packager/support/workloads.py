"""Workloads as values, for exports of what was never built."""

from __future__ import annotations

from typing import Any

from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from packager.exports.workload import Scale, Workload

DIGEST = Digest("ab" * 32)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def workload(**changes: Any) -> Workload:
    """A service with two replicas and more, in a registry."""
    usual: dict[str, Any] = {
        "name": "churn", "digest": DIGEST, "repository": "registry.example/edge/churn", "platforms": (AMD64, ARM64),
        "models": ("churn:4",), "package": "churn:4", "version": "4", "scale": Scale(2, 5, 60),
    }  # fmt: skip
    return Workload(**{**usual, **changes})


def everything(**changes: Any) -> Workload:
    """The same with all that a service can ask for."""
    return workload(**{"auth": "key", "tls": True, "collects": True, "telemetry": True, "host_name": "churn.example",
                       "tags": {"team": "blue"}, **changes})  # fmt: skip
