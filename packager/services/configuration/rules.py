"""The rules of a deployment configuration, whoever writes it: a file of Azure's form, or a class in Python.

A configuration is held to ``deploymentconfig.schema.json``; here is what the schema cannot say, and what a field of one
kind of target says to another. A field that has no effect is refused by its name: none is ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgepack.documents import raise_all
from edgepack.hidden import HiddenText
from edgepack.trees.schema import Schema, SchemaCheck
from edgepack.trees.yaml_tree import NULL, Node, is_true, value_of
from packager.services.configuration.values import (
    Auth,
    Autoscale,
    ComputeType,
    Deployment,
    DeviceDeployment,
    KubernetesDeployment,
    LocalDeployment,
    Probe,
    Tls,
)

SCHEMA_FILE = Path(__file__).with_name("deploymentconfig.schema.json")
_KINDS = {
    "local": ComputeType.LOCAL,
    "aci": ComputeType.DEVICE,
    "device": ComputeType.DEVICE,
    "aks": ComputeType.KUBERNETES,
    "kubernetes": ComputeType.KUBERNETES,
}
_NOTHING = ("$schema", "computeType")
_RESOURCES = "containerResourceRequirements"
_SHARED = (_RESOURCES, "authEnabled", "appInsightsEnabled")
# The fields of each kind; any other one says nothing there.
_FIELDS: Mapping[ComputeType, tuple[str, ...]] = {
    ComputeType.LOCAL: ("port",),
    ComputeType.DEVICE: (
        "port", *_SHARED, "sslEnabled", "sslCertificate", "sslKey", "cname", "dnsNameLabel", "location", "keys",
        "dataCollection",
    ),
    ComputeType.KUBERNETES: (
        *_SHARED, "tokenAuthEnabled", "keys", "dataCollection", "autoScaler", "numReplicas", "gpuCores",
        "scoringTimeoutMs", "maxConcurrentRequestsPerContainer", "maxQueueWaitMs", "livenessProbeRequirements",
        "namespace",
    ),
}  # fmt: skip
_CALLED = {ComputeType.LOCAL: "local", ComputeType.DEVICE: "aci", ComputeType.KUBERNETES: "aks"}
# How the arguments of Azure's classes are called, where that is not how files call it.
_ALIASES = {
    "cpuCores": f"{_RESOURCES}.cpu", "memoryGB": f"{_RESOURCES}.memoryInGB", "memory": f"{_RESOURCES}.memoryInGB",
    "cpuCoresLimit": f"{_RESOURCES}.cpuLimit", "memoryGBLimit": f"{_RESOURCES}.memoryInGBLimit",
    "collectModelData": "dataCollection.storageEnabled", "autoscaleMinReplicas": "autoScaler.minReplicas",
    "autoscaleMaxReplicas": "autoScaler.maxReplicas", "maxRequestWaitTime": "maxQueueWaitMs",
    "replicaMaxConcurrentRequests": "maxConcurrentRequestsPerContainer", "sslEnable": "sslEnabled",
    "sslCname": "cname", "sslCertPemFile": "sslCertificate", "sslKeyPemFile": "sslKey",
}  # fmt: skip
# Amounts that must be more than 0.
_POSITIVE = (
    f"{_RESOURCES}.cpu", f"{_RESOURCES}.memoryInGB", f"{_RESOURCES}.cpuLimit", f"{_RESOURCES}.memoryInGBLimit",
    "autoScaler.minReplicas", "autoScaler.maxReplicas", "autoScaler.refreshPeriodInSeconds",
    "autoScaler.targetUtilization", "numReplicas", "scoringTimeoutMs", "maxConcurrentRequestsPerContainer",
    "maxQueueWaitMs", "livenessProbeRequirements.periodSeconds", "livenessProbeRequirements.timeoutSeconds",
    "livenessProbeRequirements.successThreshold", "livenessProbeRequirements.failureThreshold",
)  # fmt: skip
_NOT_NEGATIVE = ("gpuCores", "livenessProbeRequirements.initialDelaySeconds")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
# What the server takes as a key (RFC 6750, section 2.1).
_KEY = re.compile(r"[A-Za-z0-9\-._~+/]{30,510}[A-Za-z0-9\-._~+/=]{2}")
_SSL = ("sslCertificate", "sslKey")


@cache
def schema() -> Schema:
    """The JSON Schema of a deployment configuration."""
    found: Schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return found


@dataclass(frozen=True)
class Keys:
    """Keys that a user gives; ``None`` for one that is to be made. What shows them shows no key."""

    primary: HiddenText | None = None
    secondary: HiddenText | None = None


@dataclass(frozen=True)
class Configuration:
    """A deployment configuration that was read: as a value, and as it was ``written``, with its ``keys`` beside."""

    deployment: Deployment
    written: Mapping[str, object]
    keys: Keys = Keys()


@dataclass(frozen=True)
class Rules:
    """Holds ``tree`` to the schema and the rules; ``spelled`` turns the path of a field into how its writer spells it.

    Paths of files count from ``folder``.
    """

    tree: Node
    spelled: Callable[[str], str] = str
    folder: Path = Path()

    def violations(self) -> list[str]:
        """Everything that is wrong; the files that are named are looked for and not read."""
        found = SchemaCheck(schema(), self.spelled, patterns=True, aliases=_ALIASES).violations(self.tree)
        kind = self.kind
        if self.tree.kind != "map" or kind is None:
            return found
        for rule in (self._foreign, self._amounts, self._auth, self._azure, self._tls, self._scale, self._names):
            found += rule(kind)
        return found

    def configuration(self, where: object) -> Configuration:
        """What it says; raises ``InvalidDocumentError`` with every violation, naming ``where``."""
        raise_all(where, self.violations(), hint="docs/reference/deploymentconfig.md lists every field")
        kind = self.kind
        made = {ComputeType.LOCAL: self._local, ComputeType.DEVICE: self._device}
        deployment: Deployment = made[kind]() if kind in made else self._kubernetes()
        written = {key: value_of(node) for key, node in self.tree.fields.items() if key not in ("keys", "$schema")}
        keys = (self._text(f"keys.{name}Key") for name in ("primary", "secondary"))
        return Configuration(deployment, written, Keys(*(None if key is None else HiddenText(key) for key in keys)))

    @property
    def kind(self) -> ComputeType | None:
        """The kind of target, ``None`` where that is not said rightly."""
        return _KINDS.get((self._text("computeType") or "").lower())

    # Looking at fields

    def _node(self, path: str) -> Node:
        node = self.tree
        for part in path.split("."):
            node = node.fields.get(part, NULL)
        return node

    def _text(self, path: str) -> str | None:
        node = self._node(path)
        return node.text if node.kind == "text" and node.text else None

    def _number(self, path: str) -> float | None:
        node = self._node(path)
        try:
            found = float(node.text) if node.kind == "number" else None
        except ValueError:
            return None
        return None if found is None or math.isnan(found) else found

    def _float(self, path: str, otherwise: float) -> float:
        found = self._number(path)
        return otherwise if found is None else found

    def _int(self, path: str, otherwise: int) -> int:
        return int(self._float(path, otherwise))

    def _truth(self, path: str) -> bool | None:
        node = self._node(path)
        return is_true(node) if node.kind == "truth" else None

    def _given(self, path: str) -> bool:
        return self._node(path).kind != "null"

    def _file(self, path: str) -> Path | None:
        said = self._text(path)
        return None if said is None else self.folder / Path(said).expanduser()

    def _wrong(self, path: str, text: str) -> str:
        node, at = self._node(path), path
        while node.kind == "null" and at:
            at = at.rpartition(".")[0]
            node = self._node(at) if at else self.tree
        return node.at(f"{self.spelled(path)} {text}")

    # Rules

    def _foreign(self, kind: ComputeType) -> Iterator[str]:
        for name in self.tree.fields:
            if name in _NOTHING or name in _FIELDS[kind] or not self._given(name):
                continue
            others = [_CALLED[one] for one in ComputeType if name in _FIELDS[one]]
            if others:
                yield self._wrong(name, f"is for {' and '.join(others)}, and has no effect for {_CALLED[kind]}")
        for name in ("cpuLimit", "memoryInGBLimit"):
            if (
                kind is not ComputeType.KUBERNETES
                and _RESOURCES in _FIELDS[kind]
                and self._given(f"{_RESOURCES}.{name}")
            ):
                limit = name.removesuffix("Limit")
                yield self._wrong(f"{_RESOURCES}.{name}", f"is for aks: on a device {limit} is the limit")

    def _amounts(self, kind: ComputeType) -> Iterator[str]:
        for path in _POSITIVE:
            number = self._number(path)
            if number is not None and not 0 < number < math.inf:
                yield self._wrong(path, f"must be more than 0, is {self._node(path).text}")
        for path in _NOT_NEGATIVE:
            number = self._number(path)
            if number is not None and number < 0:
                yield self._wrong(path, f"must be 0 or more, is {self._node(path).text}")
        for name in ("cpu", "memoryInGB"):
            asked, most = self._number(f"{_RESOURCES}.{name}"), self._number(f"{_RESOURCES}.{name}Limit")
            if asked is not None and most is not None and most < asked:
                yield self._wrong(
                    f"{_RESOURCES}.{name}Limit", f"must be at least {self.spelled(f'{_RESOURCES}.{name}')}"
                )
        percent = self._number("autoScaler.targetUtilization")
        if percent is not None and percent > 100:
            yield self._wrong("autoScaler.targetUtilization", "is in percent, and must be at most 100")
        if self._number("livenessProbeRequirements.successThreshold") not in (None, 1.0):
            yield self._wrong("livenessProbeRequirements.successThreshold", "must be 1: Kubernetes takes no other")

    def _auth(self, kind: ComputeType) -> Iterator[str]:
        key, token = self._truth("authEnabled"), self._truth("tokenAuthEnabled")
        if key and token:
            yield self._wrong(
                "tokenAuthEnabled", f"excludes {self.spelled('authEnabled')}: callers show one of the two"
            )
        for path in ("keys.primaryKey", "keys.secondaryKey"):
            text = self._text(path)
            if text is not None and not _KEY.fullmatch(text):
                yield self._wrong(path, "must have 32 to 512 letters, digits and - . _ ~ + / =")
        given = [path for path in ("keys.primaryKey", "keys.secondaryKey") if self._text(path) is not None]
        usual = kind is ComputeType.KUBERNETES and not token
        if given and not (usual if key is None else key):
            yield self._wrong("keys", f"are given, and {self.spelled('authEnabled')} is not true")
        if len(given) == 2 and self._text(given[0]) == self._text(given[1]):
            yield self._wrong("keys.secondaryKey", "is the primary key; give another, or leave it out")

    def _azure(self, kind: ComputeType) -> Iterator[str]:
        if self._truth("appInsightsEnabled"):
            why = "exists only in Azure; metrics are at /metrics, and the log has one JSON object a line"
            yield self._wrong("appInsightsEnabled", f"must be false: Application Insights {why}")
        if self._given("location"):
            yield self._wrong("location", "names a region, which exists only in Azure; leave it out")

    def _tls(self, kind: ComputeType) -> Iterator[str]:
        wanted = self._truth("sslEnabled")
        given = [name for name in (*_SSL, "cname") if self._given(name)]
        if wanted:
            for name in _SSL:
                if not self._given(name):
                    yield self._wrong(name, f"is missing: {self.spelled('sslEnabled')} is true")
        elif given and kind is ComputeType.DEVICE:
            yield self._wrong(given[0], f"is given, and {self.spelled('sslEnabled')} is not true")
        for name in _SSL:
            file = self._file(name)
            if file is not None and not file.is_file():
                yield self._wrong(name, f"{str(self._text(name))!r} is not a file")

    def _scale(self, kind: ComputeType) -> Iterator[str]:
        scales, fixed = self._truth("autoScaler.autoscaleEnabled"), self._given("numReplicas")
        low, high = self._number("autoScaler.minReplicas"), self._number("autoScaler.maxReplicas")
        if scales and fixed:
            on = self.spelled("autoScaler.autoscaleEnabled")
            yield self._wrong("numReplicas", f"is given beside {on}: keep one of the two")
        if scales is False and not fixed:
            off = self.spelled("autoScaler.autoscaleEnabled")
            yield self._wrong("numReplicas", f"is missing: {off} is false")
        if self._float("autoScaler.minReplicas", 1) > self._float("autoScaler.maxReplicas", 10):
            path = "autoScaler.minReplicas" if low is not None else "autoScaler.maxReplicas"
            small, large = int(1 if low is None else low), int(10 if high is None else high)
            yield self._wrong(path, f"must not make the least ({small}) more than the most replicas ({large})")
        if (fixed or scales is False) and (low is not None or high is not None):
            path = "autoScaler.minReplicas" if low is not None else "autoScaler.maxReplicas"
            yield self._wrong(path, "has no effect: the number of replicas does not change by itself")

    def _names(self, kind: ComputeType) -> Iterator[str]:
        namespace = self._text("namespace")
        if namespace is not None and not _NAMESPACE.fullmatch(namespace):
            yield self._wrong("namespace", "must be 1 to 63 lowercase letters, digits and '-', not at its ends")
        for name in ("cname", "dnsNameLabel"):
            host = self._text(name)
            if host is not None and not _HOST.fullmatch(host):
                yield self._wrong(name, f"must be the name of a host, is {host[:80]!r}")

    # Values

    def _local(self) -> Deployment:
        return LocalDeployment(self._port())

    def _port(self) -> int | None:
        return self._int("port", 0) or None

    def _device(self) -> Deployment:
        certificate, key = (self._file(name) for name in _SSL)
        tls = None if certificate is None or key is None else Tls(certificate, key, self._text("cname"))
        return DeviceDeployment(
            self._float(f"{_RESOURCES}.cpu", DeviceDeployment.cpu),
            self._float(f"{_RESOURCES}.memoryInGB", DeviceDeployment.memory_gb),
            Auth.KEY if self._truth("authEnabled") else Auth.NONE,
            tls,
            self._text("dnsNameLabel"),
            self._port(),
            bool(self._truth("dataCollection.storageEnabled")),
        )

    def _kubernetes(self) -> Deployment:
        value, scales = KubernetesDeployment, self._truth("autoScaler.autoscaleEnabled")
        fixed = self._int("numReplicas", 0) or None
        token = bool(self._truth("tokenAuthEnabled"))
        key = self._truth("authEnabled")
        return KubernetesDeployment(
            self._float(f"{_RESOURCES}.cpu", value.cpu),
            self._float(f"{_RESOURCES}.memoryInGB", value.memory_gb),
            self._number(f"{_RESOURCES}.cpuLimit"),
            self._number(f"{_RESOURCES}.memoryInGBLimit"),
            self._int("gpuCores", 0),
            fixed,
            None if fixed is not None or scales is False else self._autoscale(),
            Auth.TOKEN if token else Auth.NONE if key is False else Auth.KEY,
            self._int("scoringTimeoutMs", value.scoring_timeout_ms),
            self._int("maxConcurrentRequestsPerContainer", value.max_concurrent_requests),
            self._int("maxQueueWaitMs", value.max_queue_wait_ms),
            self._probe(),
            self._text("namespace"),
            bool(self._truth("dataCollection.storageEnabled")),
        )

    def _autoscale(self) -> Autoscale:
        return Autoscale(
            self._int("autoScaler.minReplicas", Autoscale.min_replicas),
            self._int("autoScaler.maxReplicas", Autoscale.max_replicas),
            self._int("autoScaler.targetUtilization", Autoscale.target_utilization),
            self._int("autoScaler.refreshPeriodInSeconds", Autoscale.refresh_seconds),
        )

    def _probe(self) -> Probe:
        names = {
            "periodSeconds": Probe.period_seconds, "initialDelaySeconds": Probe.initial_delay_seconds,
            "timeoutSeconds": Probe.timeout_seconds, "successThreshold": Probe.success_threshold,
            "failureThreshold": Probe.failure_threshold,
        }  # fmt: skip
        return Probe(*(self._int(f"livenessProbeRequirements.{name}", usual) for name, usual in names.items()))
