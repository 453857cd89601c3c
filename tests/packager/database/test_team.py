"""A workspace that a team shares: metadata in PostgreSQL, blobs in an image registry; and moved there and back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.names import ModelRef
from edgepack.oci import mediatypes
from edgepack.oci.digest import Digest
from packager.commands.main import build_cli
from packager.models.details import ModelDetails
from packager.models.download import download
from packager.models.model import Conversion, Framework
from packager.services.configuration.values import ComputeType
from packager.services.registry import ServiceRegistry
from packager.services.service import Service
from packager.workspaces.config import Team, WorkspaceConfig
from packager.workspaces.migrate import migrate
from packager.workspaces.workspace import Workspace
from tests.support.parts import docker_registry
from tests.support.postgres import Postgres
from tests.support.running import run
from tests.support.typed import Type, typist

pytestmark = pytest.mark.real("docker-registry", "skopeo")

# What model-spec 1 says of an artifact's configuration, in our words.
CONFIG_SCHEMA = {
    "type": "object",
    "required": ["descriptor", "config", "modelfs"],
    "additionalProperties": False,
    "properties": {
        "descriptor": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "createdAt": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
                "name": {"type": "string", "minLength": 1},
                "version": {"type": "string"},
                "description": {"type": "string"},
            },
        },
        "config": {"type": "object", "additionalProperties": False, "properties": {"format": {"type": "string"}}},
        "modelfs": {
            "type": "object",
            "required": ["type", "diffIds"],
            "additionalProperties": False,
            "properties": {
                "type": {"const": "layers"},
                "diffIds": {"type": "array", "minItems": 1, "items": {"pattern": "^sha256:[0-9a-f]{64}$"}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def registry_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with docker_registry(tmp_path_factory.mktemp("team") / "registry") as port:
        yield port


@pytest.fixture
def team(registry_port: int, team_address: str) -> Team:
    """A team of its own: a new database, and repositories of its name."""
    return Team(team_address, f"127.0.0.1:{registry_port}/{team_address.rpartition('/')[2]}", plain_http=True)


def member(folder: Path, team: Team) -> Workspace:
    """The workspace of one of the team."""
    workspace = Workspace(folder, folder.with_name("cache"))
    workspace.configure(WorkspaceConfig("plant", team))
    return workspace


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "churn"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 400)
    (folder / "vocabulary.bin").write_bytes(b"words")
    return folder


def fetched(workspace: Workspace) -> int:
    return len(workspace.store.digests())


def test_what_one_registers_another_has(team: Team, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"data": [[1]]}')
    ann, bob = member(tmp_path / "ann", team), member(tmp_path / "bob", team)
    details = ModelDetails(description="x")
    made = ann.models.register("Churn", model_folder, details, sample_input=tmp_path / "rows.json")
    found = bob.models.get(ModelRef("Churn"))
    assert found == made
    assert fetched(bob) == 0, "nothing moves before it is needed"
    assert found.sample is not None
    assert bob.store.read(found.sample.blob) == b'{"data": [[1]]}'
    path = download(bob.store, found, tmp_path / "out")
    assert (path / "weights.bin").read_bytes() == (model_folder / "weights.bin").read_bytes()
    kept = fetched(bob)
    download(bob.store, found, tmp_path / "again")
    assert (fetched(bob), kept) == (2, 2)


def test_a_conversion_is_made_once_for_all(team: Team, model_folder: Path, tmp_path: Path) -> None:
    ann, bob = member(tmp_path / "ann", team), member(tmp_path / "bob", team)
    made = ann.models.register("m", model_folder, ModelDetails(Framework.SCIKIT_LEARN))
    report = ann.store.put_bytes(b'{"parity": 1}', "application/json")
    ann.models.save_conversion(made, Conversion("k" * 64, made.layers, report, "model.onnx"))
    conversion = bob.models.get(made.ref).conversion
    assert conversion is not None
    assert bob.store.can_give(conversion.report)
    assert not bob.store.has(conversion.report)
    assert bob.store.read(conversion.report) == b'{"parity": 1}'


def test_other_tools_read_the_artifact(team: Team, model_folder: Path, tmp_path: Path) -> None:
    ann = member(tmp_path / "ann", team)
    made = ann.models.register("churn", model_folder, ModelDetails(Framework.CUSTOM, description="who leaves"))
    copied = tmp_path / "copied"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{team.registry}/churn:1", f"oci:{copied}:churn")
    index = json.loads((copied / "index.json").read_text())

    def blob(descriptor: dict[str, str]) -> bytes:
        return (copied / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()

    manifest = json.loads(blob(index["manifests"][0]))
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert {layer["mediaType"] for layer in manifest["layers"]} <= {
        "application/vnd.cncf.model.weight.v1.tar", "application/vnd.cncf.model.weight.v1.tar+gzip",
    }  # fmt: skip
    config = json.loads(blob(manifest["config"]))
    jsonschema.validate(config, CONFIG_SCHEMA)
    assert config["modelfs"]["diffIds"] == [str(layer.diff_id) for layer in made.layers]
    assert (config["descriptor"]["name"], config["descriptor"]["version"]) == ("churn", "1")
    (layer,) = manifest["layers"]
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    (tmp_path / "layer").write_bytes(blob(layer))
    run("tar", "-xf", tmp_path / "layer", "-C", unpacked)
    assert [path.read_bytes() for path in unpacked.rglob("vocabulary.bin")] == [b"words"]


def test_names_that_no_repository_may_have_have_one_each(team: Team, model_folder: Path, tmp_path: Path) -> None:
    ann, bob = member(tmp_path / "ann", team), member(tmp_path / "bob", team)
    for number, name in enumerate(["Churn", "churn", "CHURN", "a..b", "a-", "x" * 255, "X" * 255]):
        file = tmp_path / f"{number}.bin"
        file.write_text(name)
        ann.models.register(name, file)
    for model in bob.models.list():
        (path,) = [download(bob.store, model, tmp_path / "out" / model.name)]
        assert path.read_text() == model.name


def test_a_registration_that_cannot_be_sent_registers_nothing(team: Team, model_folder: Path, tmp_path: Path) -> None:
    gone = Team(team.database, "127.0.0.1:1/models", plain_http=True)
    with pytest.raises(EdgepackError, match=r"127\.0\.0\.1:1"):
        member(tmp_path / "ann", gone).models.register("churn", model_folder)
    assert member(tmp_path / "bob", team).models.list() == ()


def test_offline_says_what_would_need_the_network(team: Team, model_folder: Path, tmp_path: Path) -> None:
    ann, bob = member(tmp_path / "ann", team), member(tmp_path / "bob", team)
    made = ann.models.register("churn", model_folder)
    bob.is_offline = True
    with pytest.raises(EdgepackError, match=r"is in the team's registry.*run it once without --offline"):
        download(bob.store, bob.models.get(made.ref), tmp_path / "out")
    bob.is_offline = False
    download(bob.store, bob.models.get(made.ref), tmp_path / "out")
    bob.is_offline = True
    download(bob.store, bob.models.get(made.ref), tmp_path / "again")


def test_a_workspace_moves_to_a_team_and_back_with_its_versions(team: Team, model_folder: Path, tmp_path: Path) -> None:
    alone = Workspace(tmp_path / "alone", tmp_path / "cache")
    for _ in range(3):
        alone.models.register("churn", model_folder, ModelDetails(tags={"a": "b"}, properties={"c": "d"}))
    alone.delete_model(ModelRef("churn", 3))
    made = alone.models.get(ModelRef("churn", 2))
    report = alone.store.put_bytes(b"{}", "application/json")
    converted = alone.models.save_conversion(made, Conversion("k" * 64, made.layers, report, "model.onnx"))
    moved = migrate(alone, team)
    assert (moved.moved, moved.present) == (2, 0)

    bob = member(tmp_path / "bob", team)
    assert bob.models.get(ModelRef("churn", 2)) == converted
    assert bob.models.register("churn", model_folder).version == 4, "3 was given already"
    back = migrate(bob, None)
    assert (back.moved, back.present) == (3, 0)
    shutil.rmtree(tmp_path / "alone")
    again = Workspace(tmp_path / "bob", tmp_path / "cache")
    assert again.config.team is None
    assert [model.id for model in again.models.list()] == ["churn:1", "churn:2", "churn:4"]
    assert again.store.read(report) == b"{}"
    assert (download(again.store, again.models.list()[0], tmp_path / "o") / "vocabulary.bin").read_bytes() == b"words"


def test_a_migration_that_stops_goes_on(
    team: Team, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from packager.workspaces.team import TeamBlobs

    alone = Workspace(tmp_path / "alone", tmp_path / "cache")
    for name in ("a", "b", "c"):
        alone.models.register(name, model_folder)
    share = TeamBlobs.share
    with monkeypatch.context() as patch:

        def failing(self: TeamBlobs, model):  # type: ignore[no-untyped-def]
            if model.name == "b":
                raise OSError("the plug was pulled")
            return share(self, model)

        patch.setattr(TeamBlobs, "share", failing)
        with pytest.raises(OSError, match="plug"):
            migrate(alone, team)
    again = Workspace(tmp_path / "alone", tmp_path / "cache")
    assert again.config.team is None
    moved = migrate(again, team)
    assert (moved.moved, moved.present) == (2, 1)
    assert [model.id for model in member(tmp_path / "bob", team).models.list()] == ["a:1", "b:1", "c:1"]


def test_what_a_team_changed_comes_back_with_the_models(
    team: Team, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = Workspace(tmp_path / "alone", tmp_path / "cache")
    made = alone.models.register("churn", model_folder, ModelDetails(tags={"stage": "test"}))
    same = Workspace(tmp_path / "same", tmp_path / "cache")
    same.models.register("churn", model_folder, ModelDetails(tags={"mine": "yes"}))
    migrate(alone, team)
    bob = member(tmp_path / "bob", team)
    bob.models.update(made.ref, add_tags={"stage": "prod"}, description="in use")
    report = bob.store.put_bytes(b"{}", "application/json")
    bob.models.save_conversion(made, Conversion("k" * 64, made.layers, report, "m.onnx"))

    back = migrate(Workspace(tmp_path / "alone", tmp_path / "cache"), None)
    again = Workspace(tmp_path / "alone", tmp_path / "cache")
    found = again.models.get(made.ref)
    assert (back.moved, back.present) == (1, 0)
    assert (found.tags, found.description) == ({"stage": "prod"}, "in use")
    assert again.store.read(report) == b"{}"
    # What a member brings that the team has already does not change the team's, and says so.
    assert migrate(same, team).present == 1
    assert bob.models.get(made.ref).tags == {"stage": "prod"}
    assert "churn:1: the tags and all else that changes of it stay as the team has them" in caplog.text


def test_a_copy_that_was_cut_short_is_fetched_again(team: Team, model_folder: Path, tmp_path: Path) -> None:
    made = member(tmp_path / "ann", team).models.register("churn", model_folder)
    bob = member(tmp_path / "bob", team)
    download(bob.store, made, tmp_path / "one")
    (layer, *_) = made.layers
    os.truncate(bob.store.path(layer.descriptor.digest), 1)
    download(bob.store, made, tmp_path / "two")
    assert bob.store.is_sound(layer.descriptor.digest)


def test_nothing_moves_where_the_team_has_something_else(team: Team, model_folder: Path, tmp_path: Path) -> None:
    member(tmp_path / "ann", team).models.register("churn", model_folder / "vocabulary.bin")
    alone = Workspace(tmp_path / "alone", tmp_path / "cache")
    for name in ("another", "churn"):
        alone.models.register(name, model_folder)
    with pytest.raises(UsageError, match="has something else as churn:1"):
        migrate(alone, team)
    assert [model.id for model in member(tmp_path / "bob", team).models.list()] == ["churn:1"]
    with pytest.raises(NotFoundError):
        member(tmp_path / "bob", team).models.get(ModelRef("another"))


# ---- The commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def edgepack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def test_a_team_is_set_up_and_left_by_command(edgepack: Type, team: Team, model_folder: Path) -> None:
    addresses = ("--database", team.database, "--registry", team.registry, "--plain-http")
    assert edgepack("workspace", "init", "--name", "plant", *addresses).code == 0
    assert edgepack("model", "register", "-n", "churn", "-p", model_folder).code == 0
    shown = json.loads(edgepack("workspace", "show", "--output", "json").out)
    assert (shown["name"], shown["models"], shown["registry"]) == ("plant", 1, team.registry)
    assert shown["database"].startswith("postgresql://team@127.0.0.1:")
    assert edgepack("workspace", "init").sentence.endswith(
        "has models or environments already; it is a team's; move it to this folder with: "
        "edgepack workspace migrate --local"
    )
    assert edgepack("workspace", "migrate").sentence == "say where to; give --database and --registry, or --local"
    assert edgepack("workspace", "migrate", "--local").code == 0
    assert edgepack("workspace", "migrate", "--local").code == 2
    assert json.loads(edgepack("model", "list", "--output", "json").out)[0]["id"] == "churn:1"


def test_mistakes_at_init_change_nothing(edgepack: Type, team: Team, server: Postgres, tmp_path: Path) -> None:
    for words, said in {
        ("--database", team.database): "give --registry too",
        ("--registry", team.registry): "give --database too",
        ("--database", team.database, "--registry", "models"): "names no registry",
        ("--database", "mysql://a/b", "--registry", team.registry): "not the address of a PostgreSQL database",
        ("--database", f"{team.database}x", "--registry", team.registry): "cannot be used",
        ("--name", "../x"): "is not the name of a workspace",
        ("--plain-http",): "give --registry too",
    }.items():
        ended = edgepack("workspace", "init", *words)
        assert said in ended.sentence
        assert ended.code in (1, 2)
    assert edgepack("workspace", "show").code == 3
    (tmp_path / "ws").mkdir(exist_ok=True)
    (tmp_path / "ws/workspace.json").write_text(
        '{"schema": "edgepack.workspace/v1", "nam": "x", "team": {"registry": 1}}'
    )
    wrong = edgepack("model", "list")
    assert wrong.code == 2
    for text in (
        "nam is not a known field; did you mean 'name'?",
        "team.database is missing",
        "team.registry must be text",
    ):
        assert text in wrong.sentence


def test_the_types_are_those_of_the_specification() -> None:
    assert mediatypes.MODEL_WEIGHTS == "application/vnd.cncf.model.weight.v1.tar"
    assert mediatypes.MODEL_FILE_PATH == "org.cncf.model.filepath"


def test_services_on_this_machine_are_nobody_elses(team: Team, tmp_path: Path) -> None:
    def service(kind: ComputeType, models: str, name: str = "churn") -> Service:
        return Service(name, kind, (models,), "services/churn:a", Digest("0" * 64), {}, created="c", updated="u")

    ann, bob = (ServiceRegistry.of(member(tmp_path / one, team)) for one in ("ann", "bob"))
    ann.put(service(ComputeType.LOCAL, "churn:1"))
    bob.put(service(ComputeType.LOCAL, "churn:2"))
    bob.put(service(ComputeType.KUBERNETES, "churn:3", "shared"))
    assert [(one.name, one.models) for one in ann.list()] == [("churn", ("churn:1",)), ("shared", ("churn:3",))]
    assert bob.get("churn").models == ("churn:2",)
    assert ann.remove("churn").models == ("churn:1",)
    with pytest.raises(NotFoundError, match="service 'churn' not found"):
        ann.remove("churn")
    assert bob.get("churn").models == ("churn:2",)
    bob.remove("shared")
    assert ann.find("shared") is None


def test_services_elsewhere_move_with_the_workspace_and_those_here_stay(team: Team, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ann", tmp_path / "cache")
    for name, kind in (("here", ComputeType.LOCAL), ("there", ComputeType.KUBERNETES)):
        one = Service(name, kind, ("churn:1",), "services/x:a", Digest("0" * 64), {}, created="c", updated="u")
        ServiceRegistry.of(workspace).put(one)
    for to, others in ((team, ["there"]), (None, ["there"])):
        migrate(workspace, to)
        workspace = Workspace(tmp_path / "ann", tmp_path / "cache")
        assert [one.name for one in ServiceRegistry.of(workspace).list()] == ["here", "there"]
        assert [one.name for one in ServiceRegistry.of(member(tmp_path / "bob", team)).list()] == others
