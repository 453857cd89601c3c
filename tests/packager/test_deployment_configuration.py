"""Deployment configurations: every field has an effect or is refused by its name, and all faults are told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from packager.services.configuration.read import read_deployment
from packager.services.configuration.rules import Configuration, schema
from packager.services.configuration.values import (
    Auth,
    Autoscale,
    DeviceDeployment,
    KubernetesDeployment,
    LocalDeployment,
    Probe,
    Tls,
)

KEY = "k" * 32
# Each field of a kind with a value that is not its default, and what that changes.
EFFECTS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "local": [({"port": 6789}, {"port": 6789})],
    "aci": [
        ({"port": 6789}, {"port": 6789}),
        ({"containerResourceRequirements": {"cpu": 2, "memoryInGB": 1.5}}, {"cpu": 2.0, "memory_gb": 1.5}),
        ({"authEnabled": True}, {"auth": Auth.KEY}),
        ({"authEnabled": True, "keys": {"primaryKey": KEY}}, {"auth": Auth.KEY}),
        ({"dataCollection": {"storageEnabled": True}}, {"collect_data": True}),
        ({"dnsNameLabel": "press-7"}, {"host_name": "press-7"}),
        (
            {"sslEnabled": True, "sslCertificate": "c.pem", "sslKey": "k.pem", "cname": "a.example"},
            {"tls": Tls(Path("c.pem"), Path("k.pem"), "a.example")},
        ),
        ({"appInsightsEnabled": False}, {}),
    ],
    "aks": [
        (
            {"containerResourceRequirements": {"cpu": 1, "memoryInGB": 2, "cpuLimit": 2, "memoryInGBLimit": 3}},
            {"cpu": 1.0, "memory_gb": 2.0, "cpu_limit": 2.0, "memory_gb_limit": 3.0},
        ),
        ({"authEnabled": False}, {"auth": Auth.NONE}),
        ({"tokenAuthEnabled": True}, {"auth": Auth.TOKEN}),
        ({"keys": {"primaryKey": KEY}}, {}),
        ({"dataCollection": {"storageEnabled": True}}, {"collect_data": True}),
        (
            {"autoScaler": {"minReplicas": 2, "maxReplicas": 3, "targetUtilization": 50, "refreshPeriodInSeconds": 5}},
            {"autoscale": Autoscale(2, 3, 50, 5)},
        ),
        ({"numReplicas": 3}, {"replicas": 3, "autoscale": None}),
        ({"numReplicas": 3, "autoScaler": {"autoscaleEnabled": False}}, {"replicas": 3, "autoscale": None}),
        ({"gpuCores": 1}, {"gpu": 1}),
        ({"scoringTimeoutMs": 100}, {"scoring_timeout_ms": 100}),
        ({"maxConcurrentRequestsPerContainer": 4}, {"max_concurrent_requests": 4}),
        ({"maxQueueWaitMs": 10}, {"max_queue_wait_ms": 10}),
        (
            {"livenessProbeRequirements": {"periodSeconds": 3, "initialDelaySeconds": 4, "timeoutSeconds": 5,
                                           "successThreshold": 1, "failureThreshold": 6}},
            {"probe": Probe(3, 4, 5, 1, 6)},
        ),
        ({"namespace": "ml"}, {"namespace": "ml"}),
        ({"appInsightsEnabled": False}, {}),
    ],
}  # fmt: skip
DEFAULTS = {"local": LocalDeployment(), "aci": DeviceDeployment(), "aks": KubernetesDeployment()}
# Fields that are refused whatever they say, or say only what is so anyway.
REFUSED = {"location", "$schema", "computeType"}


def read(value: Any, folder: Path, name: str = "dc.json") -> Configuration:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_deployment(path)


def violations(value: Any, folder: Path, name: str = "dc.json") -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        read(value, folder, name)
    return list(caught.value.violations)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("PEM")


@pytest.mark.parametrize(
    ("kind", "written", "changed"), [(kind, *row) for kind, rows in EFFECTS.items() for row in rows]
)
def test_a_field_has_its_effect(kind: str, written: dict[str, Any], changed: dict[str, Any], tmp_path: Path) -> None:
    found = read({"computeType": kind.upper(), **written}, tmp_path)
    assert vars(found.deployment) == vars(DEFAULTS[kind]) | changed


def test_every_field_of_the_schema_is_tried() -> None:
    tried = {name for rows in EFFECTS.values() for written, _ in rows for name in written}
    assert tried | REFUSED == set(schema()["properties"])


@pytest.mark.parametrize("kind", ["device", "Kubernetes", "Local"])
def test_kinds_have_our_names_too(kind: str, tmp_path: Path) -> None:
    same = {"device": "aci", "Kubernetes": "aks", "Local": "local"}[kind]
    assert read({"computeType": kind}, tmp_path).deployment == DEFAULTS[same]


def test_a_field_of_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    found = violations({"computeType": "local", "port": 80, "numReplicas": 2, "sslEnabled": True}, tmp_path)
    assert [text.partition(" ")[0].rpartition(" ")[2] for text in found]
    assert any("numReplicas is for aks, and has no effect for local" in text for text in found)
    assert any("sslEnabled is for aci, and has no effect for local" in text for text in found)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"computeType": "batch"}, "computeType must be local, aci or aks, is 'batch'"),
        ({}, "computeType must be local, aci or aks, and is missing"),
        ({"computeType": "local", "port": 0}, "port must be at least 1"),
        ({"computeType": "local", "prot": 80}, "prot is not a known field; did you mean 'port'?"),
        ({"computeType": "aci", "cpu": 1}, "did you mean 'containerResourceRequirements.cpu'?"),
        ({"computeType": "aci", "cpu_cores": 1}, "did you mean 'containerResourceRequirements.cpu'?"),
        ({"computeType": "aks", "minReplicas": 2}, "did you mean 'autoScaler.minReplicas'?"),
        ({"computeType": "aks", "autoScaler": {"gpuCores": 1}}, "autoScaler.gpuCores is not a known field; did"),
        ({"computeType": "aci", "containerResourceRequirements": {"cpu": 0}}, "cpu must be more than 0, is 0"),
        ({"computeType": "aci", "containerResourceRequirements": {"memoryInGB": -1}}, "must be more than 0, is -1"),
        ({"computeType": "aci", "containerResourceRequirements": {"cpuLimit": 2}}, "cpuLimit is for aks"),
        ({"computeType": "aci", "location": "westeurope"}, "location names a region, which exists only in Azure"),
        ({"computeType": "aci", "appInsightsEnabled": True}, "appInsightsEnabled must be false"),
        ({"computeType": "aci", "sslEnabled": True, "sslKey": "k.pem"}, "sslCertificate is missing"),
        ({"computeType": "aci", "sslEnabled": True, "sslKey": "no", "sslCertificate": "c.pem"}, "'no' is not a file"),
        ({"computeType": "aci", "sslKey": "k.pem"}, "sslKey is given, and sslEnabled is not true"),
        ({"computeType": "aci", "dnsNameLabel": "a b"}, "dnsNameLabel must be the name of a host"),
        ({"computeType": "aks", "authEnabled": True, "tokenAuthEnabled": True}, "tokenAuthEnabled excludes"),
        ({"computeType": "aks", "numReplicas": 2, "autoScaler": {"autoscaleEnabled": True}}, "numReplicas is given"),
        ({"computeType": "aks", "autoScaler": {"autoscaleEnabled": False}}, "numReplicas is missing"),
        ({"computeType": "aks", "autoScaler": {"minReplicas": 11}}, "more than the most replicas (10)"),
        ({"computeType": "aks", "numReplicas": 2, "autoScaler": {"maxReplicas": 3}}, "maxReplicas has no effect"),
        ({"computeType": "aks", "autoScaler": {"targetUtilization": 101}}, "must be at most 100"),
        ({"computeType": "aks", "namespace": "A"}, "namespace must be 1 to 63 lowercase"),
        ({"computeType": "aks", "containerResourceRequirements": {"cpu": 2, "cpuLimit": 1}}, "cpuLimit must be at"),
        ({"computeType": "aks", "gpuCores": -1}, "gpuCores must be 0 or more"),
        ({"computeType": "aks", "keys": {"primaryKey": "short"}}, "keys.primaryKey must have 32 to 512"),
        ({"computeType": "aks", "authEnabled": False, "keys": {"primaryKey": KEY}}, "keys are given, and authEnabled"),
        ({"computeType": "aci", "keys": {"primaryKey": KEY}}, "keys are given, and authEnabled is not true"),
        ({"computeType": "aks", "keys": {"primaryKey": KEY, "secondaryKey": KEY}}, "secondaryKey is the primary key"),
        ({"computeType": "aks", "livenessProbeRequirements": {"successThreshold": 2}}, "successThreshold must be 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_field(written: dict[str, Any], told: str, tmp_path: Path) -> None:
    found = violations(written, tmp_path)
    assert [text for text in found if told in text], found


def test_everything_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = "computeType: aks\nnumReplicas: 0\nnamespace: A\nauthEnabled: maybe\ngpuCores: -1\nport: 80\n"
    found = violations(text, tmp_path, "dc.yml")
    assert [one.partition(":")[0] for one in sorted(found)] == [f"line {at}" for at in (2, 3, 4, 5, 6)]


def test_keys_are_nowhere_but_beside(tmp_path: Path) -> None:
    found = read({"computeType": "aks", "keys": {"primaryKey": KEY, "secondaryKey": "s" * 32}}, tmp_path)
    assert (found.keys.primary, found.keys.secondary) == (KEY, "s" * 32)
    assert found.written == {"computeType": "aks"}
    assert KEY not in repr(found)
    wrong = violations({"computeType": "aks", "keys": {"primaryKey": f"{KEY}!", "secondaryKey": 12345678}}, tmp_path)
    assert not [text for text in wrong if KEY in text or "12345678" in text]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_deployment(tmp_path / "no.json")
    with pytest.raises(NotFoundError):
        read_deployment(tmp_path / "no")
    (tmp_path / "dc.txt").write_text("{}")
    with pytest.raises(UsageError, match="neither JSON nor YAML"):
        read_deployment(tmp_path / "dc.txt")
