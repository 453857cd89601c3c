"""Exports of a real image, run by what they are for where that is here: Podman. No cluster runs them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.integration.support.images import Site, assert_scores, wait_healthy
from tests.packager.support.cluster import fake_cluster
from tests.support.parts import docker_registry, remove_tree, unmount_below
from tests.support.ports import free_port
from tests.support.running import run

# Podman's defaults raise these limits, which a machine may not allow.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
# What KServe starts a modelcar with: pkg/utils/storage.go.
MODELCAR = "ln -sf /proc/$$/root/models /mnt/models && sleep infinity"
PREFETCH = '[ -d /models ] && [ "$(ls -A /models)" ] && echo OK'


@dataclass(frozen=True)
class Podman:
    """Podman with everything that it keeps below ``folder``."""

    folder: Path

    @property
    def argv(self) -> tuple[str, ...]:
        root = ("--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run")
        settings = f"CONTAINERS_CONF={self.folder}/containers.conf"
        return ("env", settings, "podman", *root, "--runtime", "runc", "--cgroup-manager", "cgroupfs")

    def __call__(self, *words: object) -> str:
        return run(*self.argv, *words)

    def program(self) -> Path:
        """A program that is this one."""
        path = self.folder / "podman"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.argv)} "$@"\n')
        path.chmod(0o755)
        return path


@pytest.fixture(scope="module")
def podman(archive: Path) -> Iterator[Podman]:
    folder = Path(tempfile.mkdtemp(prefix="ede-"))
    (folder / "containers.conf").write_text(LIMITS)
    found = Podman(folder)
    try:
        found("load", "--quiet", "--input", archive)
        yield found
    finally:
        unmount_below(folder)
        remove_tree(folder)


@pytest.mark.real("podman", "runc", "catatonit")
def test_the_pod_runs_answers_and_is_held_tightly(site: Site, podman: Podman, tmp_path: Path) -> None:
    """By ``podman kube play``: its security context is in force. Scheduling, autoscaling, budgets, network policies and
    admission are not proven: there is no cluster here."""
    port = free_port()
    site.commands.edgepack("export", "podman", "mlp:1", "-o", tmp_path / "pod", "--port", port)
    file = tmp_path / "pod/pod.yaml"
    podman("kube", "play", file)
    try:
        wait_healthy(port, 60)
        assert_scores(port, site.models[1])
        assert subprocess.run([*podman.argv, "healthcheck", "run", "mlp-scoring"], check=False).returncode == 0
        pid = podman("inspect", "--format", "{{.State.Pid}}", "mlp-scoring").strip()
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        (root,) = [
            line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines() if line.split()[1] == "/"
        ]
        assert "ro" in root[3].split(",")
        limit = podman("inspect", "--format", "{{.HostConfig.Memory}}", "mlp-scoring")
        assert int(limit) == 512 << 20
    finally:
        podman("kube", "down", file)


@pytest.mark.real("podman", "runc")
def test_the_modelcar_starts_as_kserve_starts_it_within_its_memory(site: Site, podman: Podman, tmp_path: Path) -> None:
    """The command, memory and user that KServe gives it; that KServe's controller does so is not proven."""
    commands = site.commands
    done = commands.edgepack(
        "export", "kserve", "mlp:1", "-o", tmp_path / "kserve", "--modelcar", "--repository", "registry.example/mlp"
    )
    assert json.loads(done.stdout)["files"]
    commands.edgepack("package", "push", "mlp-modelcar:1", f"oci-archive:{tmp_path / 'car.tar'}")
    image = podman("load", "--quiet", "--input", tmp_path / "car.tar").rpartition(" ")[2].strip()
    shared = tmp_path / "mnt"
    shared.mkdir()
    shared.chmod(0o777)
    options = ("--network=none", "--memory=15m", "--user=1010")
    assert podman("run", "--rm", *options, image, "sh", "-c", PREFETCH).strip() == "OK"
    name = podman("run", "--detach", *options, f"--volume={shared}:/mnt", image, "sh", "-c", MODELCAR).strip()
    try:
        _wait(lambda: (shared / "models").is_symlink())
        pid = podman("inspect", "--format", "{{.State.Pid}}", name).strip()
        (model,) = Path(f"/proc/{pid}/root/models").glob("*.onnx")
        assert model.read_bytes() == site.models[1].read_bytes()
        # The runtime serves the folder under the service's name.
        _assert_serves(model.parent, site)
    finally:
        podman("rm", "--force", "--time=0", name)


def _assert_serves(folder: Path, site: Site) -> None:
    from tests.support.http_client import ask

    port = free_port()
    argv = [sys.executable, "-m", "edge_server", "--model", str(folder), "--model-name", "churn", "--port", str(port)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as server:
        try:
            wait_healthy(port, 60, lambda: server.poll() is None)
            assert ask(port, "GET", "/v2/models/churn/ready").status == 200
            assert_scores(port, site.models[1])
        finally:
            server.terminate()


@pytest.mark.real("podman", "runc")
def test_the_compose_file_runs_by_podman_compose(site: Site, podman: Podman, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("podman-compose")
    if not program.exists():
        pytest.skip("podman-compose is not installed")
    port = free_port()
    site.commands.edgepack("export", "compose", "mlp:1", "-o", tmp_path, "--port", port)
    document = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    # No network of its own: a test machine may not let one be made.
    (service,) = document["services"].values()
    service.pop("ports")
    service["network_mode"] = "host"
    service["environment"] |= {"EDGEPACK_PORT": str(port), "EDGEPACK_HOST": "127.0.0.1"}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(document))
    compose = (program, "--podman-path", podman.program(), "--file", tmp_path / "compose.yaml")
    run(*compose, "up", "--detach", env=dict(os.environ))
    try:
        wait_healthy(port, 60)
        assert_scores(port, site.models[1])
    finally:
        run(*compose, "down", "--timeout", "0", env=dict(os.environ))


@pytest.mark.real("kubectl", "docker-registry")
def test_a_service_on_kubernetes_is_pushed_applied_and_exported(site: Site, tmp_path: Path) -> None:
    """Against a small API server of ours and a real registry; that a cluster pulls and runs it is not proven."""
    configuration = tmp_path / "aks.json"
    configuration.write_text('{"computeType": "aks", "authEnabled": false, "namespace": "ml", "numReplicas": 1}')
    with docker_registry(tmp_path / "registry") as port, fake_cluster() as cluster:
        host = f"127.0.0.1:{port}"
        cluster.status = {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        env = {
            "EDGEPACK_SERVICE_REGISTRY": f"{host}/edge", "EDGEPACK_PLAIN_HTTP": host,
            "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig")),
        }  # fmt: skip
        words = ("service", "deploy", "-n", "mlp", "-m", "mlp:1", "--dc", configuration)
        done = site.commands.edgepack(*words, "--target", "nowhere", code=2, **env)
        assert "'nowhere' is not a context of the kubeconfig; there are test" in done.stderr
        shown = site.commands.edgepack(*words, "--target", "test", **env).json
        assert (shown["state"], shown["compute_type"], shown["target"]) == ("Healthy", "AKS", "test")
        (container,) = cluster.objects["deployments", "mlp"]["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"{host}/edge/mlp@{shown['image']}"
        run("skopeo", "inspect", "--tls-verify=false", f"docker://{container['image']}")
        site.commands.edgepack(
            "export", "kubernetes", "mlp", "-o", tmp_path / "files", "--repository", f"{host}/edge/mlp"
        )
        exported = yaml.safe_load((tmp_path / "files/deployment.yaml").read_text())
        assert exported["spec"]["template"] == cluster.objects["deployments", "mlp"]["spec"]["template"]
        configuration.write_text('{"computeType": "aks", "namespace": "ml", "numReplicas": 1}')  # which has keys
        site.commands.edgepack("service", "update", "mlp", "--dc", configuration, **env)
        keys = site.commands.edgepack("service", "keys", "mlp", **env).json
        data = cluster.objects["secrets", "mlp-auth"]["stringData"]["keys.json"]
        assert json.loads(data)["primary"] == "sha256:" + hashlib.sha256(keys["primary"].encode()).hexdigest()
        assert not [key for key in keys.values() if key in json.dumps(list(cluster.objects.values()))]
        site.commands.edgepack("service", "delete", "mlp", **env)
        assert cluster.objects == {}


def test_what_cannot_be_exported_is_refused_in_one_sentence(site: Site, tmp_path: Path) -> None:
    export = site.commands.edgepack
    done = export("export", "kubernetes", "mlp:1", "-o", tmp_path / "a", code=1)
    assert "edgepack package push mlp:1 REGISTRY/REPOSITORY:TAG, and give --repository" in done.stderr
    assert not (tmp_path / "a").exists()
    assert "not found" in export("export", "podman", "nothing:1", "-o", tmp_path / "a", code=3).stderr
    words = ("export", "kubernetes", "mlp:1", "-o", tmp_path / "b", "--repository", "registry.example/mlp")
    assert "has a tag" in export(*words[:-1], "registry.example/mlp:1", code=2).stderr
    assert "is not a name of Kubernetes" in export(*words, "--namespace", "No_Such", code=2).stderr
    assert "are for --host" in export(*words, "--gateway", "web", code=2).stderr
    assert "below --replicas 3" in export(*words, "--replicas", 3, "--max-replicas", 2, code=2).stderr
    assert "has neither keys nor TLS" in export(*words, "--with-secrets", tmp_path, code=2).stderr
    assert "keys.json" in export(*words, "--auth", "key", "--with-secrets", tmp_path, code=3).stderr
    assert not (tmp_path / "b").exists()
    (tmp_path / "keys.json").write_text('{"schema": "edgepack.keys/v1"}')
    export(
        "export", "kubernetes", "mlp:1", "-o", tmp_path / "c", *words[5:], "--auth", "key", "--with-secrets", tmp_path
    )
    assert (tmp_path / "c/secret-auth.yaml").stat().st_mode & 0o777 == 0o600
    assert json.loads(export("export", "kubernetes", "--check", tmp_path / "c").stdout)["remarks"] == []
    export(*words)
    assert "--exist-ok" in export(*words, "--replicas", 3, code=2).stderr
    export(*words, "--replicas", 3, "--exist-ok")
    assert json.loads(export("export", "kubernetes", "--check", tmp_path / "b").stdout)["remarks"] == []
    (tmp_path / "b/service.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: Bad}\nspec: {ports: 5}\n")
    done = export("export", "kubernetes", "--check", tmp_path / "b", code=2)
    assert "line 3: metadata.name 'Bad'" in done.stderr
    assert "spec.ports must be a list" in done.stderr


def test_the_same_package_gives_the_same_files_and_the_same_modelcar(site: Site, tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        words = ("-o", tmp_path / name, "--modelcar", "--repository", "registry.example/mlp")
        site.commands.edgepack("export", "kserve", "mlp:1", *words)
        files = sorted((tmp_path / name).iterdir())
        digests.add(tuple((file.name, file.read_text()) for file in files))
    assert len(digests) == 1


def _wait(condition: Callable[[], bool]) -> None:
    from tests.support.waiting import wait_until

    wait_until(condition)
