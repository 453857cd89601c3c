"""What ``deploy_configuration`` of each class returns: a deployment configuration by the arguments of scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from edgepack.errors import UsageError
from edgepack.trees.yaml_tree import json_tree
from packager.exceptions import translated
from packager.sdk.section import Section
from packager.services.configuration.rules import Configuration, Rules

_WHERE = "deployment configuration"
_RESOURCES = "containerResourceRequirements"
_PROBE = "livenessProbeRequirements"
# Argument -> field of a file.
LOCAL = {"port": "port"}
_SHARED = {
    "cpu_cores": f"{_RESOURCES}.cpu", "memory_gb": f"{_RESOURCES}.memoryInGB", "auth_enabled": "authEnabled",
    "enable_app_insights": "appInsightsEnabled", "primary_key": "keys.primaryKey",
    "secondary_key": "keys.secondaryKey", "collect_model_data": "dataCollection.storageEnabled",
}  # fmt: skip
DEVICE = _SHARED | {
    "location": "location", "ssl_enabled": "sslEnabled", "ssl_cert_pem_file": "sslCertificate",
    "ssl_key_pem_file": "sslKey", "ssl_cname": "cname", "dns_name_label": "dnsNameLabel",
}  # fmt: skip
KUBERNETES = _SHARED | {
    "autoscale_enabled": "autoScaler.autoscaleEnabled", "autoscale_min_replicas": "autoScaler.minReplicas",
    "autoscale_max_replicas": "autoScaler.maxReplicas",
    "autoscale_refresh_seconds": "autoScaler.refreshPeriodInSeconds",
    "autoscale_target_utilization": "autoScaler.targetUtilization", "scoring_timeout_ms": "scoringTimeoutMs",
    "replica_max_concurrent_requests": "maxConcurrentRequestsPerContainer",
    "max_request_wait_time": "maxQueueWaitMs", "num_replicas": "numReplicas", "gpu_cores": "gpuCores",
    "period_seconds": f"{_PROBE}.periodSeconds", "initial_delay_seconds": f"{_PROBE}.initialDelaySeconds",
    "timeout_seconds": f"{_PROBE}.timeoutSeconds", "success_threshold": f"{_PROBE}.successThreshold",
    "failure_threshold": f"{_PROBE}.failureThreshold", "namespace": "namespace",
    "token_auth_enabled": "tokenAuthEnabled", "cpu_cores_limit": f"{_RESOURCES}.cpuLimit",
    "memory_gb_limit": f"{_RESOURCES}.memoryInGBLimit",
}  # fmt: skip
_FIELDS = {"local": LOCAL, "aci": DEVICE, "aks": KUBERNETES}
# What is beside a configuration in our files.
_BESIDE = ("tags", "properties", "description", "compute_target_name")


class DeploymentConfiguration(Section):
    """How a service is to run; ``deploy_configuration`` of a class of services makes one.

    Its attributes are the arguments by their names, and may be set until it is used.
    """

    _NAMES: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys((*LOCAL, *DEVICE, *KUBERNETES, *_BESIDE)))

    @translated
    def __init__(self, kind: str, given: Mapping[str, Any]) -> None:
        self._kind = kind
        for name in (*_FIELDS[kind], *(() if kind == "local" else _BESIDE)):
            setattr(self, name, given.get(name))
        self.validate_configuration()

    def __repr__(self) -> str:
        hidden = ("primary_key", "secondary_key")
        said = {name: value for name, value in vars(self).items() if value is not None and not name.startswith("_")}
        shown = ", ".join(f"{name}={'***' if name in hidden else repr(value)}" for name, value in said.items())
        return f"DeploymentConfiguration({self._kind!r}{', ' if shown else ''}{shown})"

    @translated
    def validate_configuration(self) -> None:
        """Check all that it says; raises ``InvalidDocumentError`` with every violation."""
        self.to_configuration()

    @property
    def kind(self) -> str:
        """Which class of services made it: ``local``, ``aci`` or ``aks``."""
        return self._kind

    @property
    def where(self) -> str | None:
        """The target of that kind that it names."""
        found: str | None = getattr(self, "compute_target_name", None)
        return found

    def to_configuration(self) -> Configuration:
        """What it says as a value; raises ``InvalidDocumentError`` with every violation."""
        value: dict[str, Any] = {"computeType": self._kind}
        for name, path in _FIELDS[self._kind].items():
            said = getattr(self, name)
            if said is not None:
                _put(value, path, os.fspath(said) if isinstance(said, os.PathLike) else said)
        spelled = {path: name for name, path in _FIELDS[self._kind].items()}
        return Rules(json_tree(value, _WHERE), lambda path: spelled.get(path, path)).configuration(_WHERE)


def refuse_cloud(given: Mapping[str, object]) -> None:
    """Raise ``UsageError`` for an argument that has a meaning only in Azure."""
    for name, value in given.items():
        if value is not None:
            raise UsageError("exists only in Azure", where=name, hint="leave it out")


def _put(value: dict[str, Any], path: str, said: object) -> None:
    *above, last = path.split(".")
    for part in above:
        value = value.setdefault(part, {})
    value[last] = said


def arguments_of(kind: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a configuration which was ``written`` before was made of; keys are not among them."""
    found: dict[str, Any] = {}
    for name, path in _FIELDS[kind].items():
        value: Any = written
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[name] = value
    return found
