"""The base image of an inference configuration: in a registry that wants a login, which gets into nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import AuthenticationError, EdgepackError, InvalidDocumentError
from edgepack.host.credentials import Credentials
from edgepack.names import ModelRef
from packager.environments.environment import Environment, base_reference, violations_of
from packager.images.build import BuildOptions
from packager.inference.configuration_file import read_configuration
from packager.places.table import find_destination
from packager.registries.access import Access
from packager.registries.logins import GivenLogins
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, NOT_IN_TINY
from tests.packager.support.workspaces import make_workspace
from tests.support.parts import docker_registry

PASSWORD = "hunter2-of-the-base"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def port(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A registry that has a base, for whoever logs in."""
    with docker_registry(tmp_path_factory.mktemp("registry") / "r", "robot", PASSWORD) as port:
        name = f"127.0.0.1:{port}/team/base:1"
        access = Access(logins=GivenLogins(Credentials("robot", PASSWORD, source="i.json: baseImageRegistry.password")))
        find_destination(name, access).send(workspace.store, "tiny:1", workspace.image("tiny:1"))
        yield port


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-logins"))
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    return tmp_path


def options_of(port: int, password: str = PASSWORD, **more: object) -> BuildOptions:
    """The options of a build by a file."""
    registry = {"address": f"127.0.0.1:{port}", "username": "robot", "password": password}
    said = {"entryScript": "score.py", "baseImage": "team/base:1", "baseImageRegistry": registry, **more}
    Path("i.json").write_text(json.dumps(said))
    return BuildOptions(without_libraries=NOT_IN_TINY).of(
        read_configuration(Path("i.json"), lambda ref: Environment(ref.name))
    )


@pytest.mark.real("docker-registry")
def test_a_base_is_fetched_by_the_login_that_the_file_has(
    workspace: Workspace, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        options = options_of(port)
        (plan,) = workspace.builder.plan([ModelRef("churn")], (AMD64,), options)
    assert plan.base.reference == f"127.0.0.1:{port}/team/base:1"
    written = b"".join(path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in written
    assert PASSWORD not in f"{options!r} {plan!r} {caplog.text}"
    full = f"127.0.0.1:{port}/team/base:1"
    workspace.builder.plan([ModelRef("churn")], (AMD64,), options_of(port, baseImage=full))
    with pytest.raises(AuthenticationError):
        workspace.builder.plan([], (AMD64,), options_of(port, password="wrong-password"))


@pytest.mark.real("docker-registry")
def test_the_login_is_for_its_own_base_only(workspace: Workspace, port: int) -> None:
    registry = {"address": f"127.0.0.1:{port}", "username": "robot", "password": PASSWORD}
    said = {"entryScript": "score.py", "baseImage": "team/base:1", "baseImageRegistry": registry}
    Path("i.json").write_text(json.dumps(said))
    inference = read_configuration(Path("i.json"), lambda ref: Environment(ref.name))
    assert BuildOptions(base="other.example/base:1").of(inference).access.logins.typed is None
    given = Access(logins=GivenLogins(Credentials("me", "my-own-password")))
    assert BuildOptions(access=given).of(inference).access == given


@pytest.mark.parametrize("where", ["score.py", "helper.txt", "description"])
@pytest.mark.real("docker-registry")
def test_a_build_fails_where_the_password_would_get_into_it(workspace: Workspace, port: int, where: str) -> None:
    source = Path("src")
    source.mkdir()
    (source / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    if where != "description":
        with (source / where).open("a") as file:
            file.write(f"# {PASSWORD}\n")
    description = f"log in with {PASSWORD}" if where == "description" else "a text"
    options = options_of(port, sourceDirectory="src", description=description)
    with pytest.raises(EdgepackError, match=r"credential from i\.json: baseImageRegistry\.password") as error:
        workspace.builder.build([ModelRef("churn")], "leak:1", (AMD64,), options)
    assert PASSWORD not in str(error.value)
    assert "leak:1" not in workspace.store.tags()


@pytest.mark.parametrize(
    ("image", "address", "base"),
    [
        ("team/base:1", "registry.example:5000", "docker://registry.example:5000/team/base:1"),
        ("docker://team/base:1", "registry.example", "docker://registry.example/team/base:1"),
        ("registry.example/base", "registry.example", "registry.example/base"),
        ("localhost/base", "localhost", "localhost/base"),
        ("team/base:1", None, "team/base:1"),
        (None, None, None),
    ],
)
def test_a_base_is_in_the_registry_that_is_given(image: str | None, address: str | None, base: str | None) -> None:
    environment = Environment("e", base_image=image, base_registry_address=address)
    assert list(violations_of(environment)) == []
    assert base_reference(environment) == base


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("other.example/base:1", "is of the registry other.example, and its registry is given as registry.example"),
        ("oci:folder", "is of this machine, and has no registry"),
        ("docker-archive:base.tar", "is of this machine, and has no registry"),
    ],
)
def test_a_base_of_another_registry_is_refused(image: str, says: str) -> None:
    assert any(
        says in one
        for one in violations_of(Environment("e", base_image=image, base_registry_address="registry.example"))
    )
    said = {"entryScript": "score.py", "baseImage": image, "baseImageRegistry": "registry.example"}
    Path("i.json").write_text(json.dumps(said))
    with pytest.raises(InvalidDocumentError, match=f"baseImage .*{says}"):
        read_configuration(Path("i.json"), lambda ref: Environment(ref.name))


def test_the_same_environment_without_a_registry_has_the_same_base() -> None:
    environment = Environment("e", base_image="oci:folder")
    assert base_reference(replace(environment, base_registry_address=None)) == "oci:folder"
