"""The logins that we show and write, in the hands of Docker, Podman and skopeo."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support.forked import finish as forked
from tests.support.parts import docker_engine, docker_registry, remove_tree, unmount_below
from tests.support.running import finish, run
from tests.support.token_server import token_server

PASSWORD = "open-sesame-7!+/"  # with letters that addresses escape


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # A socket's path may have 107 bytes, which pytest's folders exceed.
    folder = Path(tempfile.mkdtemp(prefix="edp-l-"))
    try:
        yield folder
    finally:
        unmount_below(folder)
        remove_tree(folder)


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    """A workspace with the image ``churn:1``."""
    workspace = Workspace(place / "workspace", place / "cache")
    workspace.store.tag("churn:1", make_base(workspace.store, [debian()]))
    return workspace.root


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[str]:
    (place / "engine").mkdir()
    with docker_engine(place / "engine") as address:
        yield address


def edgepack(root: Path, home: Path, *words: object, given: str = "", code: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("EDGEPACK_")}
    env |= {"HOME": str(home), "EDGEPACK_WORKSPACE": str(root), "DOCKER_CONFIG": str(home / "docker")}
    env |= {"XDG_RUNTIME_DIR": str(home), "XDG_CONFIG_HOME": str(home)}
    done = forked("edgepack", *words, env=env, given=given, cwd=home)
    assert done.code == code, done.stderr
    assert PASSWORD not in done.stderr
    return done.stdout


def podman(home: Path) -> list[str]:
    return ["podman", "--root", str(home / "podman"), "--runroot", str(home / "podman-run"), "--storage-driver=vfs"]


@pytest.mark.real("docker-registry", "htpasswd", "dockerd", "docker", "ip", "podman", "skopeo")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_shown_and_written_opens_a_registry_with_a_password(place: Path, root: Path, engine: str) -> None:
    home = place / "basic"
    home.mkdir()
    with docker_registry(home / "registry", "ann", PASSWORD) as port:
        host = f"127.0.0.1:{port}"
        login = ("--username", "ann", "--password-stdin")
        edgepack(root, home, "package", "push", "churn:1", f"{host}/team/churn:1", *login, given=PASSWORD)
        ask = ("package", "credentials", "--registry", host, *login, "--output", "json")
        shown = json.loads(edgepack(root, home, *ask, "--show-password", given=PASSWORD))["logins"][0]
        assert PASSWORD not in edgepack(root, home, *ask, given=PASSWORD)

        client = ("docker", "--host", engine, "--config", home / "logged-in")
        run(*client, "login", "-u", shown["username"], "--password-stdin", shown["registry"], given=shown["password"])
        run(*client, "pull", f"{host}/team/churn:1")
        run("docker", "--host", engine, "image", "rm", f"{host}/team/churn:1")

        folder = home / "written"
        edgepack(root, home, *ask, "--write-docker-config", folder, given=PASSWORD)
        assert (folder.stat().st_mode & 0o777, (folder / "config.json").stat().st_mode & 0o777) == (0o700, 0o600)
        env = {**os.environ, "DOCKER_CONFIG": str(folder), "REGISTRY_AUTH_FILE": str(folder / "config.json")}
        run("docker", "--host", engine, "pull", f"{host}/team/churn:1", env=env)
        run(*podman(home), "pull", "--tls-verify=false", f"{host}/team/churn:1", env=env)
        run("skopeo", "inspect", "--tls-verify=false", f"docker://{host}/team/churn:1", env=env)
        denied = finish("skopeo", "inspect", "--no-creds", "--tls-verify=false", f"docker://{host}/team/churn:1")
        assert denied.code != 0
        # The written file is a source of ours too.
        other = place / "other"
        edgepack(
            other, home, "package", "pull", f"{host}/team/churn:1", "--registry-credentials", folder / "config.json"
        )
    finish("umount", "--lazy", str(home / "podman/overlay"))
    shutil.rmtree(home)


@pytest.mark.real("docker-registry", "dockerd", "docker", "ip", "skopeo")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_docker_pulls_with_a_token_that_only_pulls(place: Path, root: Path, engine: str) -> None:
    home = place / "bearer"
    home.mkdir()
    with (
        token_server("ann", PASSWORD) as service,
        docker_registry(home / "registry", auth=service.section(home)) as port,
    ):
        host = f"127.0.0.1:{port}"
        (home / "logins.json").write_text(json.dumps({"auths": {host: {"username": "ann", "password": PASSWORD}}}))
        (home / "logins.json").chmod(0o600)
        login = ("--registry-credentials", home / "logins.json")
        edgepack(root, home, "package", "push", "churn:1", f"{host}/churn:1", *login)
        folder = home / "written"
        ask = ("package", "credentials", "--registry", f"{host}/churn", *login, "--output", "json")
        out = edgepack(root, home, *ask, "--show-password", "--write-docker-config", folder)
        shown = json.loads(out)["logins"][0]
        assert (shown["kind"], shown["scopes"]) == ("pull-token", ["repository:churn:pull"])
        assert 280 < shown["expires_in"] <= 300
        assert PASSWORD not in out + (folder / "config.json").read_text()
        env = {**os.environ, "DOCKER_CONFIG": str(folder)}
        image = f"{host}/churn:1"
        run("docker", "--host", engine, "pull", image, env=env)
        assert finish("docker", "--host", engine, "push", image, env=env).code != 0
        address = f"docker://{image}"
        run("skopeo", "copy", f"--src-registry-token={shown['password']}", "--src-tls-verify=false", address,
            f"oci:{home}/copy:1")  # fmt: skip
        without = edgepack(root, home, *ask, "--no-pull-token", "--show-password")
        assert json.loads(without)["logins"][0]["password"] == PASSWORD
    shutil.rmtree(home)
