"""The check of manifests finds what Kubernetes' schema finds, and what it misses; no cluster is asked here."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from packager.exports.check.findings import Findings
from packager.exports.check.kubernetes import check_kubernetes
from packager.exports.check.objects import objects_in, read_objects
from packager.exports.check.podman import check_podman
from packager.exports.kubernetes import Cluster, objects
from packager.exports.routing import Route
from tests.packager.support.workloads import everything, workload

Documents = dict[str, dict[str, Any]]
# What it is called, how it is made, the words for it, and whether the schema finds it.
Fault = tuple[str, Callable[[Documents], object], str, bool]


def good() -> Documents:
    """Our own objects, by file."""
    return deepcopy(objects(workload(), Cluster("ml", route=Route("churn.example"), monitored=True)))


def check(documents: Documents) -> Findings:
    return check_kubernetes(objects_in(yaml.safe_dump_all(documents.values()), "all.yaml"))


def pod(documents: Documents) -> dict[str, Any]:
    return documents["deployment.yaml"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container(documents: Documents) -> dict[str, Any]:
    return pod(documents)["containers"][0]  # type: ignore[no-any-return]


def change(documents: Documents, file: str, path: str, value: object) -> None:
    """Set a field of a document; ``...`` removes it."""
    found: Any = documents[f"{file}.yaml"]
    *above, last = (part.replace("~1", "/") for part in path.split("/"))
    for name in above:
        found = found[int(name)] if isinstance(found, list) else found[name]
    if value is ...:
        del found[last]
    else:
        found[int(last) if isinstance(found, list) else last] = value


def fault(name: str, file: str, path: str, value: object, text: str, schema: bool = False) -> Fault:
    return name, lambda documents: change(documents, file, path, value), text, schema


CONTAINER = "spec/template/spec/containers/0"
SEEDED: list[Fault] = [
    fault(
        "a misspelled field",
        "deployment",
        "spec/replica",
        3,
        "spec.replica is not a known field; did you mean 'replicas'?",
        True,
    ),
    fault(
        "a wrong type",
        "deployment",
        "spec/minReadySeconds",
        "five",
        "minReadySeconds must be a whole number, is 'five'",
        True,
    ),
    fault("no selector", "deployment", "spec/selector", ..., "spec.selector is missing", True),
    fault(
        "an unknown kind",
        "deployment",
        "kind",
        "Deploymnet",
        "'Deploymnet' is not a kind of apps/v1; did you mean 'Deployment'?",
        True,
    ),
    fault(
        "a removed version",
        "autoscaler",
        "apiVersion",
        "autoscaling/v2beta2",
        "'autoscaling/v2beta2' is not served since Kubernetes 1.26; use autoscaling/v2",
        True,
    ),
    fault(
        "a selector that finds no pod",
        "deployment",
        "spec/selector/matchLabels/app.kubernetes.io~1name",
        "x",
        "matchLabels.app.kubernetes.io/name is 'x', and the labels of spec.template have 'churn'",
    ),
    fault(
        "an illegal name", "deployment", "metadata/name", "Churn_1", "'Churn_1' is not a name that the cluster takes"
    ),
    fault(
        "a port that is none",
        "deployment",
        f"{CONTAINER}/ports/0/containerPort",
        500100,
        "containerPort must be from 1 to 65535, is 500100",
    ),
    fault(
        "a probe of an unknown port",
        "deployment",
        f"{CONTAINER}/livenessProbe/httpGet/port",
        "web",
        "'web' is not a port of the container; named are 'http'",
    ),
    fault(
        "an amount that is none",
        "deployment",
        f"{CONTAINER}/resources/limits/memory",
        "256MB",
        "'256MB' is not an amount; write it as 500m, 0.5, 256Mi or 1Gi",
    ),
    fault(
        "a limit below the request",
        "deployment",
        f"{CONTAINER}/resources/limits/memory",
        "64Mi",
        "64Mi is below the 512Mi of the request",
    ),
    fault(
        "an unknown strategy",
        "deployment",
        "spec/strategy/type",
        "BlueGreen",
        "spec.strategy.type must be RollingUpdate or Recreate, is 'BlueGreen'",
    ),
    fault(
        "a mount of no volume",
        "deployment",
        f"{CONTAINER}/volumeMounts/0/name",
        "temp",
        "'temp' is not among the pod's volumes: 'tmp'",
    ),
    fault(
        "not root, and root",
        "deployment",
        f"{CONTAINER}/securityContext/runAsUser",
        0,
        "runAsUser is 0, which is root, and runAsNonRoot forbids it",
    ),
    (
        "two ports of a name",
        lambda found: container(found)["ports"].append({"name": "http", "containerPort": 5002}),
        "'http' is the name of another port too",
        False,
    ),
    fault("more at least than at most", "autoscaler", "spec/minReplicas", 50, "is 50, above the maxReplicas of 5"),
    fault(
        "no image",
        "deployment",
        f"{CONTAINER}/image",
        ...,
        "containers[0].image is missing: the container has no image",
    ),
]
MORE: list[Fault] = [
    fault("a label that is none", "service", "metadata/labels", {"team": "a b"}, "'a b' is not a value of a label"),
    fault("a key that is none", "service", "metadata/annotations", {"a b/c": "x"}, "has a name that is not one"),
    fault(
        "a service's port",
        "service",
        "spec/ports/0/targetPort",
        "web",
        "'web' is not the name of a port of the pods: 'http'",
    ),
    fault("a service of no pod", "service", "spec/selector", {"app": "x"}, "finds no pod; the files have 'churn'"),
    fault("a service's name", "service", "metadata/name", "1churn", "'1churn' is not a name that the cluster takes"),
    fault(
        "nothing to scale",
        "autoscaler",
        "spec/scaleTargetRef/name",
        "x",
        "there is no Deployment 'x' to scale; the files have 'churn'",
    ),
    fault(
        "percent of nothing",
        "deployment",
        f"{CONTAINER}/resources",
        {},
        "'cpu' is not asked for by the container 'scoring'",
    ),
    fault("a budget of no pod", "disruptionbudget", "spec/selector/matchLabels", {"app": "x"}, "finds no pod"),
    fault("two budgets in one", "disruptionbudget", "spec/minAvailable", 1, "and maxUnavailable exclude each other"),
    fault(
        "a route to no service",
        "route",
        "spec/rules/0/http/paths/0/backend/service/name",
        "x",
        "there is no Service 'x'",
    ),
    fault(
        "a route to no port",
        "route",
        "spec/rules/0/http/paths/0/backend/service/port/name",
        "x",
        "'x' is not a port of the Service 'churn'",
    ),
    fault(
        "nothing may change",
        "deployment",
        "spec/strategy/rollingUpdate",
        {"maxUnavailable": 0, "maxSurge": 0},
        "nothing could ever change",
    ),
    fault(
        "successes of a probe",
        "deployment",
        f"{CONTAINER}/livenessProbe/successThreshold",
        2,
        "must be 1 for this probe, is 2",
    ),
    fault(
        "two ways of a probe",
        "deployment",
        f"{CONTAINER}/livenessProbe/tcpSocket",
        {"port": 5001},
        "must have one of httpGet",
    ),
    fault(
        "a pull policy",
        "deployment",
        f"{CONTAINER}/imagePullPolicy",
        "Sometimes",
        "must be Always, IfNotPresent, Never",
    ),
    fault("an image with a space", "deployment", f"{CONTAINER}/image", "a b", "'a b' is not a reference of an image"),
    fault(
        "a volume twice",
        "deployment",
        "spec/template/spec/volumes",
        [{"name": "tmp"}, {"name": "tmp"}],
        "'tmp' is the name of another volume too",
    ),
    fault(
        "a negative amount", "deployment", f"{CONTAINER}/resources/requests/cpu", "-1", "must not be negative, is -1"
    ),
    fault("two objects of a name", "settings", "kind", "ServiceAccount", "is the name of another", True),
    (
        "a key that is not there",
        lambda found: container(found).update(
            env=[
                {
                    "name": "A",
                    "valueFrom": {
                        "configMapKeyRef": {"name": found["settings.yaml"]["metadata"]["name"], "key": "nothing"}
                    },
                }
            ]
        ),
        "'nothing' is not in the ConfigMap",
        False,
    ),
]


def seed(one: Fault) -> Documents:
    documents = good()
    one[1](documents)
    return documents


def test_what_we_write_ourselves_has_no_fault() -> None:
    for made in (workload(), everything(), workload(scale=None, replicas=1), everything(scale=None)):
        found = check(objects(made, Cluster("ml", route=Route("churn.example"), monitored=True)))
        assert found.violations == []
        assert not any("not pinned" in text for text in found.remarks)


@pytest.mark.parametrize("one", SEEDED, ids=[name for name, *_ in SEEDED])
def test_each_of_the_seventeen_seeded_faults_is_found(one: Fault) -> None:
    found = check(seed(one))
    assert any(one[2] in text for text in found.violations), found.violations


@pytest.mark.parametrize("one", MORE, ids=[name for name, *_ in MORE])
def test_other_faults_are_found_too(one: Fault) -> None:
    if one[0] == "two objects of a name":
        documents = good()
        documents["again.yaml"] = documents["service.yaml"]
    else:
        documents = seed(one)
    found = check(documents)
    assert any(one[2] in text for text in found.violations), found.violations


def _changed(documents: Documents) -> list[dict[str, Any]]:
    before = good()
    return [one for name, one in documents.items() if one != before.get(name)]


def test_the_schema_alone_misses_twelve_of_the_seventeen() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    missed = []
    for one in SEEDED:
        try:
            for document in _changed(seed(one)):
                kubernetes_validate.validate(document, "1.34", strict=True)
        except Exception:  # noqa: BLE001 - each of its errors says that it was found
            assert one[3], one[0]
        else:
            missed.append(one[0])
    assert missed == [name for name, _, _, by_schema in SEEDED if not by_schema]
    assert len(missed) == 12


def test_lines_of_a_file_are_named_and_many_documents_may_be_in_one(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    first = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n---\n# nothing\n---\n"
    file.write_text(first + "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a_b\n")
    found = check_kubernetes(read_objects([file]))
    assert [text.removeprefix(str(tmp_path)) for text in found.violations] == [
        "/all.yaml: Secret a_b: line 12: metadata.name 'a_b' is not a name that the cluster takes; use lowercase"
        " letters, digits, '-' and '.'"
    ]


def test_what_the_files_do_not_have_is_a_remark_for_the_cluster_may_have_it() -> None:
    documents = {name: one for name, one in good().items() if name == "autoscaler.yaml"}
    found = check(documents)
    assert found.violations == []
    assert any("there is no Deployment 'churn' to scale among the files" in text for text in found.remarks)


@pytest.mark.parametrize(
    ("file", "path", "text"),
    [
        ("service", "spec/ports/0/targetPort", "5002 is not a port that the pods declare: 5001"),
        ("networkpolicy", "spec/ingress/0/ports/0/port", "5002 is not a port that the pods declare: 5001"),
    ],
)
def test_a_port_that_no_container_declares_is_a_remark(file: str, path: str, text: str) -> None:
    documents = good()
    change(documents, file, path, 5002)
    found = check(documents)
    assert found.violations == []
    assert any(text in one for one in found.remarks)


def test_kinds_of_extensions_are_not_refused() -> None:
    found = check_kubernetes(objects_in("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n", "a.yaml"))
    assert found.violations == []
    assert "of an extension" in found.remarks[0]


def test_podman_reads_probes_in_its_own_way() -> None:
    documents = {name: one for name, one in good().items() if name in ("deployment.yaml", "settings.yaml")}
    found = check_podman(objects_in(yaml.safe_dump_all(documents.values()), "all.yaml"))
    assert any("becomes curl inside of the container" in text for text in found.violations)
    assert any("readinessProbe is not acted on by Podman" in text for text in found.remarks)
