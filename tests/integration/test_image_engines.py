"""The images in real engines, as users run them: Docker, Podman, and an emulated arm64 processor."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.support.emulation import emulated
from tests.integration.support.images import Commands, Site, assert_scores, image_of, wait_healthy
from tests.support.parts import remove_tree, unmount_below
from tests.support.ports import free_port
from tests.support.running import run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What an operator who trusts nothing gives a container.
CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@contextmanager
def container(client: tuple[str, ...], image: str, *options: str) -> Iterator[str]:
    """A container of ``image``, removed by its id at the end of the block."""
    name = run(*client, "run", "--detach", *CONFINED, *options, image).strip()
    try:
        yield name
    except BaseException:
        print(subprocess.run([*client, "logs", name], capture_output=True, text=True, check=False))  # noqa: T201
        raise
    finally:
        run(*client, "rm", "--force", name)


def alive(client: tuple[str, ...], name: str) -> bool:
    return run(*client, "inspect", "--format", "{{.State.Running}}", name).strip() == "true"


@pytest.fixture(scope="module")
def docker(engine: str) -> tuple[str, ...]:
    return "docker", "--host", engine


@pytest.fixture(scope="module")
def loaded(docker: tuple[str, ...], archive: Path) -> str:
    """The image's name in the engine that loaded our archive."""
    assert "mlp:1" in run(*docker, "load", "--input", archive)
    return "mlp:1"


@pytest.mark.real("dockerd", "docker", "ip")
def test_docker_runs_what_it_loaded(site: Site, docker: tuple[str, ...], loaded: str) -> None:
    port = free_port()
    with container(docker, loaded, "--publish", f"127.0.0.1:{port}:5001") as name:
        wait_healthy(port, 60, lambda: alive(docker, name))
        assert_scores(port, site.models[1])
        state = json.loads(run(*docker, "inspect", name))[0]
        assert state["Config"]["User"] == "10001:10001"
        owner = Path(f"/proc/{state['State']['Pid']}").stat()
        assert (owner.st_uid, owner.st_gid) == (10001, 10001)
        # It ends when it is asked to, and not by being killed ten seconds later.
        run(*docker, "stop", "--time", "20", name)
        assert json.loads(run(*docker, "inspect", name))[0]["State"]["ExitCode"] == 0


@pytest.mark.real("dockerd", "docker", "ip")
def test_docker_runs_it_on_the_hosts_network_at_another_port(site: Site, docker: tuple[str, ...], loaded: str) -> None:
    port = free_port()
    address = ("--env", f"EDGEPACK_PORT={port}", "--env", "EDGEPACK_HOST=127.0.0.1")
    with container(docker, loaded, "--network=host", *address) as name:
        wait_healthy(port, 60, lambda: alive(docker, name))
        assert_scores(port, site.models[1])


@pytest.mark.real("dockerd", "docker", "ip", "openssl")
def test_a_container_is_secured_by_what_is_mounted_beside_it(docker: tuple[str, ...], loaded: str, place: Path) -> None:
    folder = place / "secured"
    folder.mkdir()
    command = [sys.executable, "-m", "edge_server.security", "keys"]
    keys = json.loads(run(*command, "new", folder / "keys.json"))
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", folder / "key.pem", "-out", folder / "chain.pem",
    )  # fmt: skip
    for path in (folder, *folder.iterdir()):
        os.chown(path, 10001, 10001)
    port = free_port()
    secured = {"AUTH_MODE": "key", "AUTH_FILE": "keys.json", "TLS_CERTIFICATE": "chain.pem", "TLS_KEY": "key.pem"}
    options = ["--volume", f"{folder}:/run/churn:ro", "--publish", f"127.0.0.1:{port}:5001"]
    for name, value in secured.items():
        options += ["--env", f"EDGEPACK_{name}={value if name == 'AUTH_MODE' else f'/run/churn/{value}'}"]
    context = ssl.create_default_context(cafile=str(folder / "chain.pem"))

    def status(key: str) -> int:
        asked = urllib.request.Request(f"https://localhost:{port}/metrics", headers={"Authorization": f"Bearer {key}"})
        try:
            return int(urllib.request.urlopen(asked, context=context, timeout=10).status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    with container(docker, loaded, *options):
        wait_until(lambda: status(keys["primary"]) == 200)
        assert status("x" * 43) == 401
        run(*command, "regenerate", folder / "keys.json", "primary")
        wait_until(lambda: status(keys["primary"]) == 401)
        assert status(keys["secondary"]) == 200


@pytest.mark.real("dockerd", "docker", "ip")
def test_docker_knows_the_image_by_its_configuration(site: Site, docker: tuple[str, ...], loaded: str) -> None:
    manifest = image_of(site.built, "linux/amd64")["digest"].removeprefix("sha256:")
    config = json.loads((site.commands.blobs / manifest).read_bytes())["config"]["digest"]
    shown = json.loads(run(*docker, "image", "inspect", loaded))[0]
    assert shown["Id"] == config
    assert shown["Architecture"] == "amd64"
    assert shown["Config"]["Labels"]["io.edgepack.models"] == "mlp:1"


@pytest.mark.real("dockerd", "docker", "ip")
def test_an_image_can_be_pushed_to_the_daemon_and_come_back(
    site: Site, docker: tuple[str, ...], engine: str, place: Path
) -> None:
    site.commands.edgepack("package", "push", "mlp:1", "docker-daemon:pushed/mlp:7", DOCKER_HOST=engine)
    assert "pushed/mlp" in run(*docker, "images", "pushed/mlp:7")
    other = Commands(place / "from-daemon", place / "from-daemon/workspace")
    came = other.edgepack("package", "load", "docker-daemon:pushed/mlp:7", "-t", "mlp:7", DOCKER_HOST=engine)
    assert came.json["tag"] == "mlp:7"
    shown, ours = (one.edgepack("package", "inspect", tag).json["platforms"][0]["layers"]
                   for one, tag in ((other, "mlp:7"), (site.commands, "mlp:1")))  # fmt: skip
    assert [layer["diff_id"] for layer in shown] == [layer["diff_id"] for layer in ours]


@pytest.mark.real("dockerd", "docker", "ip")
def test_users_can_build_on_top_of_it_without_a_network(
    site: Site, docker: tuple[str, ...], loaded: str, place: Path
) -> None:
    context = place / "context"
    context.mkdir()
    (context / "note.txt").write_text("from the user")
    (context / "Dockerfile").write_text(
        f"FROM {loaded}\nCOPY note.txt /opt/note.txt\n"
        'RUN ["/usr/bin/python3.11", "-c", "import onnxruntime, numpy; open(\'/opt/note.txt\').read()"]\n'
    )
    run(*docker, "build", "--network=none", "--tag", "child:1", context)
    port = free_port()
    with container(docker, "child:1", "--publish", f"127.0.0.1:{port}:5001") as name:
        wait_healthy(port, 60, lambda: alive(docker, name))
        assert_scores(port, site.models[1])


@pytest.mark.real("dockerd", "docker", "ip")
def test_an_image_of_the_daemon_serves_as_a_base(site: Site, docker: tuple[str, ...], engine: str, place: Path) -> None:
    # The base that the recipe makes, imported as a tree by the engine, as if it had been pulled from anywhere.
    (place / "base").mkdir()
    manifest = image_of(site.built, "linux/amd64")["digest"].removeprefix("sha256:")
    layer = json.loads((site.commands.blobs / manifest).read_bytes())["layers"][0]["digest"]
    tree = place / "base/base.tar.gz"
    tree.write_bytes((site.commands.blobs / layer.removeprefix("sha256:")).read_bytes())
    run(*docker, "import", "--change", "ENV GREETING=hello", tree, "company/base:3")

    other = Commands(place / "on-daemon", place / "on-daemon/workspace", {"DOCKER_HOST": engine})
    other.register(site.models[1])
    built = other.build("mlp", "mlp:1", "--base", "docker-daemon:company/base:3", platform="linux/amd64")
    kinds = [layer["kind"] for layer in built["platforms"][0]["layers"]]
    assert kinds == ["base", "wheel", "wheel", "wheels", "server", "config", "model"]
    other.edgepack("package", "push", "mlp:1", "docker-daemon:on-base:1")
    port = free_port()
    with container(docker, "on-base:1", "--publish", f"127.0.0.1:{port}:5001") as name:
        wait_healthy(port, 60, lambda: alive(docker, name))
        assert_scores(port, site.models[1])
        env = json.loads(run(*docker, "inspect", name))[0]["Config"]["Env"]
        assert "GREETING=hello" in env


@pytest.mark.real("podman", "runc")
def test_podman_runs_what_it_loaded(site: Site, archive: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="edi-p-"))
    client: tuple[str, ...] = ("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--runtime", "runc",
              "--cgroup-manager", "cgroupfs")  # fmt: skip
    port = free_port()
    # Podman's defaults raise these limits, which a machine may not allow.
    options: tuple[str, ...] = ("--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    options += ("--env", f"EDGEPACK_PORT={port}", "--env", "EDGEPACK_HOST=127.0.0.1")
    try:
        image = run(*client, "load", "--input", archive).rpartition(" ")[2].strip()
        assert image.endswith("/mlp:1")
        with container(client, image, *options) as name:
            wait_healthy(port, 60, lambda: alive(client, name))
            assert_scores(port, site.models[1])
            assert run(*client, "inspect", "--format", "{{.Config.User}}", name).strip() == "10001:10001"
        run(*client, "rmi", image)
    finally:
        unmount_below(folder)
        remove_tree(folder)


@pytest.mark.real("qemu-aarch64-static", "update-binfmts", "skopeo", "umoci", "chroot")
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_arm64_image_answers_the_same_under_emulation(
    site: Site, request: pytest.FixtureRequest, place: Path, python: str
) -> None:
    unpacked: dict[str, Path] = request.getfixturevalue("rootfs" if python == "3.11" else "newer_rootfs")
    with emulated(unpacked["arm64"], place / f"emulated-{python}") as port:
        assert_scores(port, site.models[1])
