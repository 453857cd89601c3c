"""Compute targets: kubeconfigs and contexts by names, by the command and by Azure's classes; no cluster is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import packager
from edgepack.errors import NotFoundError, UsageError
from packager.commands.main import build_cli
from packager.compute import AksCompute, ComputeTarget, ComputeTargetException
from packager.exceptions import UserErrorException
from packager.sdk.webservice.deploy import _place
from packager.services.configuration.values import ComputeType
from packager.services.registry import ServiceRegistry
from packager.services.service import Service
from packager.services.targets.cluster import kubernetes_target
from packager.services.targets.compute_targets import ComputeTargets
from packager.webservice import AciWebservice, AksWebservice
from tests.packager.support.cluster import FakeCluster, fake_cluster
from tests.packager.support.workloads import DIGEST
from tests.support.typed import typist

pytestmark = pytest.mark.real("kubectl")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as found:
        yield found


def test_a_cluster_is_attached_shown_used_and_detached(cluster: FakeCluster, tmp_path: Path) -> None:
    config = cluster.kubeconfig(tmp_path / "kube config")
    ws = packager.Workspace(path=tmp_path / "ws")
    with pytest.raises(ComputeTargetException, match="ComputeTargetNotFound: compute target 'myaks' not found"):
        ComputeTarget(ws, "myaks")
    wanted = AksCompute.attach_configuration("rg", "test", cluster_purpose="DevTest", kubeconfig=config, namespace="ml")
    made = ComputeTarget.attach(ws, "myaks", wanted)
    made.wait_for_completion(show_output=True)
    found = ws.compute_targets["myaks"]
    assert (type(found), found.name, found.type, found.provisioning_state) == (AksCompute, "myaks", "AKS", "Succeeded")
    kept = json.loads((tmp_path / "ws/services/compute/myaks.json").read_text())
    assert (kept["context"], kept["namespace"], kept["kubeconfig"]) == ("test", "ml", str(config))
    assert "token" not in str(kept)
    service = Service("churn", ComputeType.KUBERNETES, (), "services/churn:a", DIGEST, {"computeType": "aks"}, "myaks")
    kubectl = kubernetes_target(ws.parts, service)._kubectl
    assert (kubectl.context, kubectl.namespace, kubectl.kubeconfig) == ("test", "ml", config)
    ServiceRegistry.of(ws.parts).put(service)
    with pytest.raises(ComputeTargetException, match=r"still has '?churn'?.*edgepack service delete churn"):
        found.detach()
    ServiceRegistry.of(ws.parts).remove("churn")
    found.detach()
    assert ws.compute_targets == {}


def test_a_cluster_that_cannot_be_used_is_attached_and_says_why(cluster: FakeCluster, tmp_path: Path) -> None:
    ws = packager.Workspace(path=tmp_path / "ws")
    off = cluster.kubeconfig(tmp_path / "off")
    off.write_text(off.read_text().replace(cluster.address, "http://127.0.0.1:1"))
    made = ComputeTarget.attach(ws, "off", AksCompute.attach_configuration(None, "test", kubeconfig=off))
    assert (made.provisioning_state, len(made.provisioning_errors)) == ("Failed", 1)
    made.detach()
    cluster.refuses.add(("patch", "deployments"))
    config = cluster.kubeconfig(tmp_path / "config")
    made = ComputeTarget.attach(
        ws, "myaks", AksCompute.attach_configuration(resource_id="/a/managedClusters/test", kubeconfig=config)
    )
    with pytest.raises(ComputeTargetException, match=r"has no right to patch deployments\.apps"):
        made.wait_for_completion()
    assert made.provisioning_state == "Failed"
    for name, given, says in (
        ("myaks", AksCompute.attach_configuration(None, "other", kubeconfig=config), "'other' is not a context"),
        ("myaks", AksCompute.attach_configuration(None, "test", kubeconfig="none"), "there is no such kubeconfig"),
        ("my_aks", AksCompute.attach_configuration(None, "test", kubeconfig=config), "is not a name of a compute"),
    ):
        with pytest.raises(ComputeTargetException, match=says):
            ComputeTarget.attach(ws, name, given)
    assert [one.name for one in ComputeTarget.list(ws)] == ["myaks"]


def test_what_only_a_cloud_can_do_is_refused_by_name() -> None:
    for call, says in (
        (lambda: AksCompute.provisioning_configuration(3), "there is no cloud here that could make a cluster"),
        (lambda: ComputeTarget.create(packager.Workspace(), "x", None), "ComputeTarget.create: there is no cloud"),
        (lambda: AksCompute.attach_configuration("rg", "c", load_balancer_type="x"), "load_balancer_type: exists only"),
        (lambda: AksCompute.attach_configuration("rg"), "names no cluster"),
        (lambda: AksCompute.attach_configuration("rg", "c", cluster_purpose="Big"), "is not FastProd or DevTest"),
    ):
        with pytest.raises(ComputeTargetException, match=says) as error:
            call()
        assert isinstance(error.value, UserErrorException)


def test_a_target_and_a_configuration_must_mean_the_same(cluster: FakeCluster, tmp_path: Path) -> None:
    ws = packager.Workspace(path=tmp_path / "ws")
    config = cluster.kubeconfig(tmp_path / "config")
    target = ComputeTarget.attach(ws, "myaks", AksCompute.attach_configuration(None, "test", kubeconfig=config))
    assert _place(target, None) == _place("myaks", None) == "myaks"
    assert _place(target, AksWebservice.deploy_configuration(compute_target_name="myaks")) == "myaks"
    with pytest.raises(UsageError, match="compute_target_name is other"):
        _place(target, AksWebservice.deploy_configuration(compute_target_name="other"))
    with pytest.raises(UsageError, match="is a cluster of Kubernetes"):
        _place(target, AciWebservice.deploy_configuration())
    with pytest.raises(UsageError, match="deployment_target: is a int"):
        _place(7, None)


def test_the_command_attaches_lists_shows_and_detaches(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, ws = cluster.kubeconfig(tmp_path / "config"), str(tmp_path / "ws")
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)

    def compute(*words: str, code: int = 0) -> str:
        done = edgepack("compute", *words, "--workspace", ws)
        assert done.code == code, done.err
        return done.out + ("" if code == 0 else done.err)

    assert "myaks" in compute("attach", "myaks", "--kubeconfig", str(config), "--pull-secret", "login")
    assert "is there already" in compute("attach", "myaks", "--kubeconfig", str(config), code=2)
    compute("attach", "myaks", "--kubeconfig", str(config), "--context", "test", "--pull-secret", "login", "--replace")
    assert '"pull_secret": "login"' in compute("list", "--output", "json")
    shown = json.loads(compute("show", "myaks", "--output", "json"))
    assert (shown["state"], shown["context"], shown["services"]) == ("Succeeded", "test", [])
    assert "did you mean 'myaks'" in compute("show", "myask", code=3)
    compute("detach", "myaks")
    assert "compute target 'myaks' not found" in compute("detach", "myaks", code=3)
    with pytest.raises(NotFoundError):
        ComputeTargets(packager.Workspace(path=ws).parts).get("myaks")
