"""``Model.package`` and ``ModelPackage``: their states, errors and records; images are of a base made to measure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import packager
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from packager.exceptions import UserErrorException, WebserviceException
from packager.images import build
from packager.images.build import Builder
from packager.model import InferenceConfig, Model, ModelPackage
from packager.workspace import Workspace
from packager.workspaces.config import Team, WorkspaceConfig
from tests.packager.support.workspaces import make_workspace
from tests.support.caches import with_bases
from tests.support.parts import docker_registry


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose images are on ``tiny:1``, with no wheels in them."""
    parts = make_workspace(tmp_path, versions=2)
    monkeypatch.setenv("EDGEPACK_CACHE", str(with_bases(tmp_path / "cache")))
    monkeypatch.chdir(tmp_path)
    original = build.find_base
    monkeypatch.setattr(build, "find_base", lambda name, *given, **more: original("tiny:1", *given, **more))
    monkeypatch.setattr(build, "scoring_wheels", lambda *_, **__: ())
    Path("score.py").write_text("def init(): pass\ndef run(data): return data\n")
    return packager.Workspace(path=parts.root)


def test_an_image_is_packaged_and_told(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    package = Model.package(ws, [Model(ws, "churn")])
    assert package.state == "Succeeded"
    assert re.fullmatch(r"package:\d{14}", str(package.location))
    assert (package.error, package.generate_dockerfile) == (None, False)
    assert package.serialize() == {"generateDockerfile": False, "state": "Succeeded", "location": package.location}
    assert package.location in ws.images
    capsys.readouterr()
    package.wait_for_creation(show_output=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Package creation Succeeded"
    assert any(re.search(r"model churn:2: .*, cached$", line) for line in lines)
    assert any(re.search(r"server scoring .*, new$", line) for line in lines)
    assert package.get_logs(offset=10) == package.get_logs()[10:]
    assert package.get_logs(decode=False) == Path(package.package_build_log_uri.removeprefix("file://")).read_bytes()
    again = ModelPackage(ws, package.operation_id, None)
    again.update_creation_state()
    assert (again.serialize(), repr(again)) == (package.serialize(), repr(package))
    registry = package.get_container_registry()
    assert (registry.address, registry.username, registry.password) == (None, None, None)


def test_names_are_given_or_made_and_no_two_are_the_same(ws: Workspace) -> None:
    config = InferenceConfig("score.py")
    named = Model.package(ws, [], config, image_name="churn", image_label="a")
    assert named.location == "churn:a"
    made = {Model.package(ws, ["churn:1"], config).location for _ in range(3)}
    assert len(made) == 3
    several = Model.package(ws, ["churn:1", Model(ws, "churn")], config, platforms=["linux/amd64", "linux/arm64"])
    assert ws.images[str(several.location)].platforms == ("linux/amd64", "linux/arm64")


def test_each_kind_of_package_names_the_way_of_the_other(ws: Workspace) -> None:
    files = Model.package(ws, ["churn"], generate_dockerfile=True)
    assert files.serialize() == {"generateDockerfile": True, "state": "Succeeded", "location": None}
    with pytest.raises(WebserviceException, match=r"cannot be pulled; use save\(\)"):
        files.pull()
    with pytest.raises(WebserviceException, match=r"cannot be saved as a folder; use pull\(\)"):
        Model.package(ws, ["churn"]).save("folder")
    with pytest.raises(UsageError, match=r"another program asked.*Model\.package"):
        ModelPackage(ws, files.operation_id, None).save("folder")
    assert not Path("folder").exists()


def test_without_a_configuration_it_is_one_model_that_needs_no_script(ws: Workspace) -> None:
    for models in ([], ["churn:1", "churn:2"]):
        with pytest.raises(UserErrorException, match="You must provide an InferenceConfig when deploying zero or mul"):
            Model.package(ws, models)
    Path("weights.bin").write_bytes(b"w")
    custom = ws.models.register("own", "weights.bin")
    with pytest.raises(WebserviceException, match=r"You must provide an InferenceConfig .* set to Custom"):
        Model.package(ws, [custom])


def test_what_is_given_wrong_is_raised_at_once_and_recorded_nowhere(ws: Workspace) -> None:
    config = InferenceConfig("score.py")
    for wrong, kind in (
        (lambda: Model.package(ws, "churn"), UsageError),
        (lambda: Model.package("ws", ["churn"]), UsageError),
        (lambda: Model.package(ws, [Path("churn")]), UsageError),
        (lambda: Model.package(ws, ["churn"], "inferenceconfig.json"), UsageError),
        (lambda: Model.package(ws, ["nothing"]), NotFoundError),
        (lambda: Model.package(ws, ["churn:1", "churn:1"], config), UsageError),
        (lambda: Model.package(ws, ["churn"], image_name="No Name"), UsageError),
        (lambda: Model.package(ws, ["churn"], image_label="a/b"), UsageError),
        (lambda: Model.package(ws, ["churn"], platforms=["linux/arm/v7"]), EdgepackError),
        (lambda: Model.package(ws, ["churn"], InferenceConfig("absent.py")), InvalidDocumentError),
    ):
        with pytest.raises(WebserviceException) as error:
            wrong()
        assert isinstance(error.value, kind)
    for identity in ("../../x", "0" * 32, ""):
        with pytest.raises(NotFoundError, match="not found"):
            ModelPackage(ws, identity, None)
    assert not list((ws.parts.root / "packages").glob("*/package.json"))


def test_what_fails_later_is_recorded_and_raised_by_waiting(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise EdgepackError("the mirror is down", hint="try again")

    monkeypatch.setattr(Builder, "build", fail)
    package = Model.package(ws, ["churn"])
    assert (package.state, package.location, package.error) == (
        "Failed", None, {"message": "the mirror is down; try again"},
    )  # fmt: skip
    assert package.get_logs().splitlines()[-1] == "error: the mirror is down; try again"
    for found in (package, ModelPackage(ws, package.operation_id, None)):
        for wait in (found.wait_for_creation, found.pull, found.get_container_registry):
            with pytest.raises(WebserviceException, match="terminal state Failed: the mirror is down; try again"):
                wait()


@pytest.mark.real("docker-registry", "htpasswd")
def test_a_teams_package_is_in_its_registry(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_registry(tmp_path / "registry", "user", "secret-of-registry") as port:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        (tmp_path / "auth.json").write_text(
            f'{{"auths": {{"127.0.0.1:{port}": {{"username": "user", "password": "secret-of-registry", "auth": '
            f'"dXNlcjpzZWNyZXQtb2YtcmVnaXN0cnk="}}}}}}'
        )
        _ = ws.parts.store, ws.parts.models  # those of this machine: only the registry is the team's
        team = Team("postgresql://nowhere/x", f"127.0.0.1:{port}/team", plain_http=True)
        ws.parts.__dict__["config"] = WorkspaceConfig("team", team)
        package = Model.package(ws, ["churn"])
        package.wait_for_creation()
        assert re.fullmatch(rf"127\.0\.0\.1:{port}/team/package:\d{{14}}", str(package.location))
        found = package.get_container_registry()
        assert (found.address, found.username, found.password) == (f"127.0.0.1:{port}", "user", "secret-of-registry")
        assert "secret-of-registry" not in repr(found) + repr(package) + package.get_logs()
        elsewhere = packager.Workspace(path="elsewhere").parts
        from packager.places.table import find_registry

        loaded = find_registry(str(package.location), team.access()).load(elsewhere.store, "got:1")
        assert str(loaded.root.digest) == ws.images[str(package.location)].digest
