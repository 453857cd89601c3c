"""Services on Kubernetes: kubectl against a small API server of ours, whose states a test gives; no cluster is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import RuntimeFailedError, UsageError
from packager.exports.secrets import Credentials
from packager.services.configuration.values import ComputeType
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.kubectl import Kubectl
from packager.services.targets.kubernetes import KubernetesTarget, Patience
from packager.services.targets.pod_states import observed
from tests.packager.support.cluster import FakeCluster, fake_cluster
from tests.packager.support.workloads import DIGEST, workload

SERVICE = Service("churn", ComputeType.KUBERNETES, ("churn:4",), "services/churn:abab", DIGEST, {})
IMAGE = f"registry.example/edge/churn@{DIGEST}"
HEALTHY = {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def pod(*, waiting: tuple[str, str] | None = None, last: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A pod of the service, whose container waits for a reason, or runs."""
    state = {"running": {}} if waiting is None else {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    one = {"name": "scoring", "state": state, "lastState": {"terminated": last} if last else {}, "restartCount": 2,
           **{name: status.pop(name) for name in ("started", "ready") if name in status}}  # fmt: skip
    limits = {"resources": {"limits": {"memory": "512Mi"}}}
    return {
        "metadata": {"name": "churn-1", "labels": {"app.kubernetes.io/instance": "churn"}},
        "spec": {"containers": [{"name": "scoring", "image": IMAGE, **limits}]},
        "status": {"containerStatuses": [one], **status},
    }


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


UNSCHEDULED = pod(conditions=[condition("PodScheduled", "False", "Unschedulable", "0/3 nodes: 3 Insufficient memory.")])
STATES: list[tuple[str, list[dict[str, Any]], dict[str, Any], State, str]] = [
    ("no room", [UNSCHEDULED], {}, State.UNSCHEDULABLE, "no node takes the pod: 0/3 nodes: 3 Insufficient memory."),
    ("no image", [pod(waiting=("ImagePullBackOff", "not found"))], {}, State.FAILED, "cannot be pulled: not found"),
    ("first try", [pod(waiting=("ErrImagePull", "denied"))], {}, State.FAILED, "the image cannot be pulled: denied"),
    ("no secret", [pod(waiting=("CreateContainerConfigError", 'secret "x" not found'))], {}, State.FAILED, "secret"),
    ("script", [pod(waiting=("CrashLoopBackOff", ""), last={"exitCode": 5})], {}, State.FAILED, "its init() failed"),
    ("crash", [pod(waiting=("CrashLoopBackOff", ""), last={"exitCode": 1})], {}, State.FAILED, "exit code 1"),
    ("memory", [pod(waiting=("CrashLoopBackOff", ""), last={"exitCode": 137, "reason": "OOMKilled"})], {}, State.FAILED,
     "it needs more memory than its limit of 512Mi: raise memoryInGB"),
    ("again", [pod(last={"exitCode": 137, "reason": "OOMKilled"}, started=True)], {}, State.UNHEALTHY,
     "it was started 2 times again: it needs more memory"),
    ("not ready", [pod(started=True, ready=False)], {}, State.UNHEALTHY, "does not answer the probe of readiness"),
    ("starting", [pod(started=False)], {}, State.TRANSITIONING, "does not answer the probe of its start yet"),
    ("killed", [pod(waiting=("CrashLoopBackOff", ""), last={"exitCode": 137})], {}, State.FAILED, "probe of liveness"),
    ("nothing yet", [], {}, State.TRANSITIONING, "no pod of it is there yet"),
    ("quota", [], {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: pods")]},
     State.UNSCHEDULABLE, "no pod can be made: exceeded quota: pods"),
    ("too long", [pod(started=False)], {"conditions": [condition("Progressing", "False", "Deadline", "")]},
     State.FAILED, "and its time to start is over"),
    ("healthy", [pod(started=True, ready=True)], HEALTHY, State.HEALTHY, ""),
    ("one old, one new", [pod(waiting=("ImagePullBackOff", "gone"))], {**HEALTHY, "replicas": 2}, State.FAILED, "gone"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pods", "status", "state", "reason"), STATES, ids=[one[0] for one in STATES])
def test_states_and_reasons_follow_from_what_a_cluster_says(
    name: str, pods: list[dict[str, Any]], status: dict[str, Any], state: State, reason: str
) -> None:
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"image": IMAGE}]}}}
    seen = observed({"metadata": {"name": "churn"}, "spec": spec, "status": status}, pods)
    assert (seen.state, seen.image) == (state, DIGEST), name
    assert reason in (seen.reason or "")


def test_pods_of_an_earlier_version_say_nothing_of_the_new_one() -> None:
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"image": IMAGE}]}}}
    old = pod(waiting=("CrashLoopBackOff", ""), last={"exitCode": 1})
    old["spec"]["containers"][0]["image"] = f"registry.example/edge/churn@sha256:{'00' * 32}"
    seen = observed({"metadata": {}, "spec": spec, "status": {}}, [old])
    assert (seen.state, seen.reason) == (State.TRANSITIONING, "no pod of it is there yet")
    assert observed(None, []).state is State.DELETED


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as found:
        yield found


class Clock:
    """A clock that a test's waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def target(cluster: FakeCluster, folder: Path, sent: list[str] | None = None, **changes: Any) -> KubernetesTarget:
    clock, pushed = Clock(), [] if sent is None else sent
    kubectl = Kubectl("test", "ml", cluster.kubeconfig(folder / "kubeconfig"))
    made = workload(**{"scale": None, **changes})
    patience = Patience(30.0, 10.0, clock, clock.sleep)
    credentials = Credentials({"keys.json": b"{}"}) if changes.get("auth") == "key" else Credentials()
    return KubernetesTarget(
        kubectl, lambda _: made, lambda service: pushed.append(service.package), lambda _: credentials, patience
    )


@pytest.mark.real("kubectl")
def test_kubectl_applies_observes_reads_logs_and_deletes(cluster: FakeCluster, tmp_path: Path) -> None:
    sent: list[str] = []
    here = target(cluster, tmp_path, sent, auth="key")
    here.settle(SERVICE)
    cluster.status, cluster.pods = dict(HEALTHY), [pod(started=True, ready=True)]
    here.apply(SERVICE)
    assert sent == ["services/churn:abab"]
    kinds = [kind for kind, _ in cluster.applied]
    assert sorted(kinds) == ["configmaps", "deployments", "networkpolicies", "secrets", "serviceaccounts", "services"]
    assert kinds.index("secrets") < kinds.index("deployments")
    assert all("fieldManager=edgepack" in query and "force=true" in query for query in cluster.queries)
    seen = here.observe(SERVICE)
    assert (seen.state, seen.image) == (State.HEALTHY, DIGEST)
    assert here.logs(SERVICE, 10) == "model loaded\nready\n"
    assert here.address(SERVICE) == "http://churn.ml.svc"
    cluster.objects["services", "other"] = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "other"}}
    here.delete(SERVICE)
    assert [*cluster.objects] == [("services", "other")]
    here.delete(SERVICE)  # again is fine
    assert here.observe(SERVICE).state is State.DELETED


@pytest.mark.real("kubectl")
def test_what_cannot_run_is_told_with_the_reason(cluster: FakeCluster, tmp_path: Path) -> None:
    here = target(cluster, tmp_path)
    cluster.status, cluster.pods = {}, [pod(waiting=("ImagePullBackOff", "manifest unknown"))]
    with pytest.raises(RuntimeFailedError, match="Failed: the image cannot be pulled: manifest unknown"):
        here.apply(SERVICE)
    # Again, with a Deployment that is there: this server of ours cannot set it back, and the reason is told still.
    with pytest.raises(RuntimeFailedError, match=r"manifest unknown \(the Deployment could not be set back\)"):
        here.apply(SERVICE)
    cluster.objects.clear()
    cluster.pods = [UNSCHEDULED]
    with pytest.raises(RuntimeFailedError, match="Unschedulable: no node takes the pod: 0/3 nodes"):
        here.apply(SERVICE)


@pytest.mark.real("kubectl")
def test_a_cluster_without_rights_context_or_answer_is_told_before_anything_is_sent(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    sent: list[str] = []
    cluster.refuses.add(("patch", "deployments"))
    with pytest.raises(RuntimeFailedError, match=r"has no right to patch deployments\.apps"):
        target(cluster, tmp_path, sent).settle(SERVICE)
    config = tmp_path / "kubeconfig"
    with pytest.raises(UsageError, match="'other' is not a context of the kubeconfig; there are test"):
        Kubectl("other", "ml", config).check_cluster()
    config.write_text(config.read_text().replace(cluster.address, "http://127.0.0.1:1"))
    with pytest.raises(RuntimeFailedError, match="kubectl get failed"):
        Kubectl("test", "ml", config).check_cluster()
    assert sent == []
    assert cluster.applied == []


@pytest.mark.real("kubectl")
def test_a_secret_that_nobody_has_is_told_before_anything_is_applied(cluster: FakeCluster, tmp_path: Path) -> None:
    here = target(cluster, tmp_path, tls=True)
    with pytest.raises(UsageError, match="needs the secret churn-tls, which the namespace does not have"):
        here.apply(SERVICE)
    assert cluster.applied == []
