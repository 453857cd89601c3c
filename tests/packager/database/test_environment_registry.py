"""The registry of environments, asked the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from packager.database.tables import ENVIRONMENTS
from packager.environments.document import digest_of, to_json
from packager.environments.environment import Environment
from packager.environments.pip_requirements import PipRequirements
from packager.environments.registry import EnvironmentRegistry
from packager.workspaces.workspace import Workspace
from tests.packager.database.conftest import Open
from tests.packager.support.environments import FULL

CURATED = ["onnx-minimal:1", "python-minimal:1", "sklearn-minimal:1"]


@pytest.fixture
def registry(open_database: Open) -> EnvironmentRegistry:
    return EnvironmentRegistry(open_database())


def with_package(name: str, *packages: str) -> Environment:
    return Environment(name, python="==3.11.*", pip=PipRequirements(packages))


def ids(found: tuple[Environment, ...]) -> list[str]:
    return [environment.id for environment in found if environment.id not in CURATED]


def test_all_that_is_said_of_an_environment_is_kept(registry: EnvironmentRegistry, open_database: Open) -> None:
    made = registry.register(replace(FULL, version=None, created=None))
    assert made == replace(FULL, version=1, created=made.created)
    assert EnvironmentRegistry(open_database()).get(EnvironmentRef("My_env.1")) == made
    assert made.created is not None
    assert len(made.created) == len("2026-01-31T12:00:00Z")


def test_the_same_software_is_the_same_version(registry: EnvironmentRegistry) -> None:
    first = registry.register(with_package("mine", "numpy"))
    assert (
        registry.register(replace(with_package("mine", "numpy"), conda_file="# another text\ndependencies: []"))
        == first
    )
    second = registry.register(with_package("mine", "numpy", "flask"))
    assert (first.id, second.id) == ("mine:1", "mine:2")
    # Only the latest is compared: going back is a change too.
    assert registry.register(with_package("mine", "numpy")).id == "mine:3"
    assert registry.register(with_package("other", "numpy")).id == "other:1"


def test_versions_are_found_and_listed(registry: EnvironmentRegistry) -> None:
    for name, package in (("b", "x"), ("b", "y"), ("a", "x"), ("B", "x")):
        registry.register(with_package(name, package))
    assert ids(registry.list()) == ["B:1", "a:1", "b:2"]
    assert [one.id for one in registry.list()] == sorted(["B:1", "a:1", "b:2", *CURATED])
    assert ids(registry.versions("b")) == ["b:1", "b:2"]
    assert registry.get(EnvironmentRef("b")).pip.requirements == ("y",)
    assert registry.get(EnvironmentRef("b", 1)).pip.requirements == ("x",)
    with pytest.raises(NotFoundError, match="environment b:3 not found; its versions are 1, 2"):
        registry.get(EnvironmentRef("b", 3))
    with pytest.raises(NotFoundError, match="environment onx-minimal not found; did you mean 'onnx-minimal'"):
        registry.get(EnvironmentRef("onx-minimal"))
    with pytest.raises(NotFoundError, match="environment zz not found; there are B, a, b, onnx-minimal"):
        registry.versions("zz")


def test_a_deleted_version_is_gone_and_its_number_too(registry: EnvironmentRegistry) -> None:
    registry.register(with_package("mine", "x"))
    second = registry.register(with_package("mine", "y"))
    assert registry.delete(EnvironmentRef("mine", 2)) == second
    assert registry.get(EnvironmentRef("mine")).version == 1
    with pytest.raises(NotFoundError, match="its versions are 1"):
        registry.delete(EnvironmentRef("mine", 2))
    assert registry.register(with_package("mine", "x")).version == 1
    assert registry.register(with_package("mine", "y")).version == 3
    with pytest.raises(UsageError, match="say which version; such as mine:3"):
        registry.delete(EnvironmentRef("mine"))
    registry.delete(EnvironmentRef("mine", 1))
    registry.delete(EnvironmentRef("mine", 3))
    assert ids(registry.list()) == []
    assert registry.register(with_package("mine", "y")).version == 4


@pytest.mark.parametrize("name", ["onnx-minimal", "sklearn-minimal", "python-minimal"])
def test_what_edgepack_brings_cannot_be_changed(registry: EnvironmentRegistry, name: str) -> None:
    with pytest.raises(
        UsageError, match="is the name of an environment that edgepack brings; register it under another"
    ):
        registry.register(with_package(name, "numpy"))
    with pytest.raises(UsageError, match="edgepack brings it, so it stays"):
        registry.delete(EnvironmentRef(name, 1))
    assert registry.get(EnvironmentRef(name)).id == f"{name}:1"
    assert [one.id for one in registry.versions(name)] == [f"{name}:1"]


def test_an_environment_that_is_not_sound_is_not_registered(registry: EnvironmentRegistry) -> None:
    for wrong in (Environment("a b"), with_package("mine", "numpy=1"), Environment("mine", variables={"A B": ""})):
        with pytest.raises(InvalidDocumentError):
            registry.register(wrong)
    assert ids(registry.list()) == []
    assert registry.register(with_package("mine")).version == 1


def test_a_record_that_was_altered_is_checked_again(registry: EnvironmentRegistry, open_database: Open) -> None:
    registry.register(with_package("mine", "numpy"))
    evil = to_json(replace(with_package("mine", "-e ."), version=1))
    with open_database().writing() as connection:
        connection.update(ENVIRONMENTS, {"definition": evil}, {"name": "mine"})
    with pytest.raises(InvalidDocumentError, match="environment mine:1 in the database: pip requirement"):
        registry.get(EnvironmentRef("mine"))
    with open_database().writing() as connection:
        connection.update(ENVIRONMENTS, {"definition": {**evil, "password": "x"}}, {"name": "mine"})
    with pytest.raises(InvalidDocumentError, match="password is not a known field"):
        registry.list()


def test_a_version_from_elsewhere_is_not_kept_in_silence(
    registry: EnvironmentRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    assert registry.register(replace(FULL, version=7)).version == 1
    assert "My_env.1:7 is registered as version 1 of the name here" in caplog.text


def test_no_credential_of_this_machine_is_registered(
    registry: EnvironmentRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:tr0ub4dor&3@pypi.example/simple")
    key = "-----BEGIN PRIVATE KEY-----\n" + "A" * 64 + "\n-----END PRIVATE KEY-----"
    for wrong in (
        Environment("mine", variables={"INDEX": "user:tr0ub4dor&3"}),
        Environment("mine", base_dockerfile="FROM x\nRUN pip install -i https://user:tr0ub4dor&3@pypi.example x"),
        Environment("mine", conda_file="# tr0ub4dor&3\ndependencies: []"),
        Environment("mine", variables={"KEY": key}),
    ):
        with pytest.raises(
            EdgepackError, match=r"contains the credential from the variable PIP_|holds a private key"
        ) as raised:
            registry.register(wrong)
        assert "tr0ub4dor" not in str(raised.value)
    assert ids(registry.list()) == []


def _register(open_database: Open, number: int, results: object) -> None:
    registry = EnvironmentRegistry(open_database())
    found = [registry.register(with_package("mine", f"p{number}-{turn}")).version for turn in range(5)]
    found.append(registry.register(with_package("same", "numpy")).version)
    results.put(found)  # type: ignore[attr-defined]


def test_many_processes_get_each_number_once_and_the_same_software_one(open_database: Open) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_register, args=(open_database, n, results)) for n in range(10)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(version for versions in found for version in versions[:-1]) == list(range(1, 51))
    assert {versions[-1] for versions in found} == {1}


def test_a_workspace_with_an_environment_alone_is_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a ws", tmp_path / "cache")
    assert not workspace.exists
    with pytest.raises(InvalidDocumentError):
        workspace.environments.register(Environment("a b"))
    assert not workspace.exists
    made = workspace.environments.register(with_package("mine"))
    again = Workspace(tmp_path / "a ws", tmp_path / "cache", create=False)
    assert again.exists
    assert digest_of(again.environments.get(EnvironmentRef("mine", 1))) == digest_of(made)
