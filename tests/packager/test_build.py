"""Building: one image or an index, the same bytes anywhere, and nothing half done.

The bases are made here and there are no wheels: tests/integration builds images that run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, IncompatibleError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import ModelRef
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.manifest import Index
from packager.images.build import Build, BuildOptions
from packager.models.query import ModelQuery
from packager.wheels.groups import WheelGroup
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, make_base, make_index
from tests.packager.support.workspaces import make_workspace


@pytest.fixture(autouse=True)
def _no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> tuple[WheelGroup, ...]:
        return ()

    monkeypatch.setattr("packager.images.build.scoring_wheels", none)


def tiny(
    workspace: Workspace, *platforms: Platform, base: str = "tiny:1", model: str = "churn", tag: str = "churn:1"
) -> Build:
    return workspace.builder.build([ModelRef.parse(model)], tag, platforms or (AMD64,), BuildOptions(base))


def test_one_platform_gives_an_image_and_several_an_index(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    one = tiny(workspace)
    assert workspace.store.resolve("churn:1").digest == one.descriptor.digest == one.images[0].descriptor.digest
    both = tiny(workspace, AMD64, ARM64)
    index = Index.from_bytes(workspace.store.read(workspace.store.resolve("churn:1")))
    assert [(item.platform, item.digest) for item in index.manifests] == [
        (image.platform, image.descriptor.digest) for image in both.images
    ]
    assert both.images[0].descriptor.digest == one.descriptor.digest
    for image in both.images:
        config = ImageConfig.from_bytes(workspace.store.read(workspace.store.manifest(image.descriptor).config))
        assert config.platform == image.platform


def test_the_same_inputs_give_the_same_digest_in_another_folder_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny(make_workspace(tmp_path / "one"), AMD64, ARM64)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    mask = os.umask(0o077)
    try:
        second = tiny(make_workspace(tmp_path / "two"), AMD64, ARM64, tag="other:2")
    finally:
        os.umask(mask)
    assert second.descriptor.digest == first.descriptor.digest


def test_a_base_from_a_folder_gives_the_same_digest_wherever_the_folder_is(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        workspace = make_workspace(tmp_path / name)
        workspace.bases.store.tag("b:1", make_base(workspace.bases.store, [debian()]))
        digests.add(tiny(workspace, base=f"oci:{workspace.bases.store.root}").descriptor.digest)
    assert len(digests) == 1


def test_building_again_writes_nothing_new(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    first = tiny(workspace)
    assert first.images[0].new_bytes > 0
    assert any(layer.new for layer in first.images[0].layers)
    again = tiny(workspace)
    assert again.descriptor == first.descriptor
    assert again.images[0].new_bytes == 0
    assert not any(layer.new for layer in again.images[0].layers)


def test_a_new_version_shares_all_layers_but_model_and_configuration(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, versions=2)
    first, second = (tiny(workspace, model=f"churn:{version}").images[0] for version in (1, 2))
    shared = {layer.digest for layer in first.layers} & {layer.digest for layer in second.layers}
    assert {layer.kind for layer in second.layers if layer.digest not in shared} == {"config", "model"}


@pytest.mark.parametrize(
    "platforms", [(AMD64, AMD64), (ARM64, Platform.parse("linux/arm64/v8")), ()], ids=["twice", "variant", "none"]
)
def test_a_platform_stands_once(tmp_path: Path, platforms: tuple[Platform, ...]) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(UsageError, match="--platform: a platform is listed twice, or the list is empty"):
        workspace.builder.build([ModelRef("churn")], "churn:1", platforms, BuildOptions("tiny:1"))


def test_a_variant_that_the_base_lacks_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(EdgepackError, match="linux/arm/v7"):
        tiny(workspace, Platform.parse("linux/arm/v7"))
    assert "churn:1" not in workspace.store.tags()


def test_a_platform_that_fails_leaves_the_tag_as_it_was(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, versions=2)
    before = tiny(workspace, AMD64, model="churn:1")
    images = [(one, make_base(workspace.store, [debian("amd64")], one)) for one in (AMD64, ARM64)]
    workspace.store.tag("mislabelled:1", make_index(workspace.store, images))
    with pytest.raises(IncompatibleError, match="its binaries are built for amd64, not for linux/arm64"):
        tiny(workspace, AMD64, ARM64, base="mislabelled:1", model="churn:2")
    assert workspace.store.resolve("churn:1").digest == before.descriptor.digest


@pytest.mark.parametrize(
    ("refs", "error", "says"),
    [([], UsageError, "needs a model or an entry script"), (["churn", "churn:1"], UsageError, "listed twice"),
     (["absent"], NotFoundError, "registered are churn"),
     (["churn:9"], NotFoundError, "its versions are 1"), (["code"], UsageError, "has no framework")],
)  # fmt: skip
def test_models_that_cannot_be_served_are_refused(
    tmp_path: Path, refs: list[str], error: type[EdgepackError], says: str
) -> None:
    workspace = make_workspace(tmp_path)
    if refs == ["code"]:
        (tmp_path / "code.py").write_text("pass")
        workspace.models.register("code", tmp_path / "code.py")
    with pytest.raises(error, match=says):
        workspace.builder.build([ModelRef.parse(ref) for ref in refs], "x:1", (AMD64,), BuildOptions("tiny:1"))


# ---- What a foreign base brings -----------------------------------------------------------------------------------


def config_of(workspace: Workspace, built: Build) -> ImageConfig:
    return ImageConfig.from_bytes(workspace.store.read(workspace.store.manifest(built.images[0].descriptor).config))


def test_what_the_base_says_of_itself_is_kept(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    own = ImageConfig(
        AMD64, env={"LANG": "C.UTF-8"}, labels={"vendor": "x"}, cmd=("bash",), entrypoint=("/entry",), user="root",
        working_dir="/app", exposed_ports=("80/tcp",), other={"Volumes": {"/data": {}}},
        history=(History("FROM scratch"), History("ENV", empty_layer=True)),
    )  # fmt: skip
    workspace.store.tag("own:1", make_base(workspace.store, [debian()], config=own))
    config = config_of(workspace, tiny(workspace, base="own:1"))
    assert (config.env["LANG"], config.labels["vendor"]) == ("C.UTF-8", "x")
    assert config.other == {"Volumes": {"/data": {}}}
    assert [line.created_by for line in config.history[:2]] == ["FROM scratch", "ENV"]
    assert (config.cmd, config.user, config.working_dir) == ((), "10001:10001", "/")
    assert config.exposed_ports == ("5001/tcp",)


@pytest.mark.parametrize("lines", [(), (History("one"), History("ENV", empty_layer=True))])
def test_the_history_has_a_line_for_every_layer(tmp_path: Path, lines: tuple[History, ...]) -> None:
    workspace = make_workspace(tmp_path)
    own = ImageConfig(AMD64, history=lines)
    workspace.store.tag("own:1", make_base(workspace.store, [debian(), {"a": b"a"}, {"b": b"b"}], config=own))
    config = config_of(workspace, tiny(workspace, base="own:1"))
    assert sum(not line.empty_layer for line in config.history) == len(config.diff_ids) == 6


def test_what_builders_attach_to_an_index_is_no_platform(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    images = [(AMD64, make_base(workspace.store, [debian()])),
              (Platform("unknown", "unknown"), make_base(workspace.store, [{"a": b"a"}]))]  # fmt: skip
    workspace.store.tag("attested:1", make_index(workspace.store, images))
    tiny(workspace, base="attested:1")
    with pytest.raises(IncompatibleError, match="base attested:1: is for linux/amd64, not for linux/arm64"):
        tiny(workspace, ARM64, base="attested:1")


def test_a_base_whose_parts_do_not_agree_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    root = make_base(workspace.store, [debian()])
    manifest = workspace.store.manifest(root)
    broken = replace(manifest, layers=(*manifest.layers, *manifest.layers))
    workspace.store.tag("broken:1", workspace.store.put_bytes(broken.to_bytes(), root.media_type))
    with pytest.raises(InvalidDocumentError, match="has 1 diff IDs for 2 layers"):
        tiny(workspace, base="broken:1")


def test_a_base_of_many_layers_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    layers: list[Mapping[str, bytes | str]] = [debian(), *({f"f{number}": b"x"} for number in range(57))]
    workspace.store.tag("many:1", make_base(workspace.store, layers))
    with pytest.raises(UsageError, match="61 layers, more than 60; give a base with fewer layers"):
        tiny(workspace, base="many:1")
    workspace.store.tag("many:1", make_base(workspace.store, layers[:-1]))
    assert len(tiny(workspace, base="many:1").images[0].layers) == 60


# ---- Credentials --------------------------------------------------------------------------------------------------


def test_a_credential_in_the_environment_of_a_base_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path)
    env = {"PIP_INDEX_URL": "https://me:index-password@pypi.example/simple"}
    workspace.store.tag("leaky:1", make_base(workspace.store, [debian()], env=env))
    assert tiny(workspace, base="leaky:1", tag="before:1"), "nobody knows that it is one"
    monkeypatch.setenv("UV_INDEX_URL", env["PIP_INDEX_URL"])
    says = "image configuration: contains the credential.*the variable UV_INDEX_URL"
    with pytest.raises(EdgepackError, match=says) as error:
        tiny(workspace, base="leaky:1")
    assert "index-password" not in str(error.value)
    assert "churn:1" not in workspace.store.tags()


def test_a_credential_in_a_model_is_never_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path)
    monkeypatch.setenv("EDGEPACK_REGISTRY_TOKEN", "a-registry-token")
    (tmp_path / "m.bin").write_bytes(b"\0" * ((1 << 20) - 5) + b"a-registry-token")
    before = workspace.store.digests()
    with pytest.raises(EdgepackError, match=r"m\.bin: contains the credential"):
        workspace.models.register("leaky", tmp_path / "m.bin")
    assert workspace.store.digests() == before
    assert workspace.models.list(ModelQuery("leaky")) == ()


def test_no_layer_config_or_manifest_names_this_machine(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    built = tiny(workspace)
    manifest = workspace.store.manifest(built.descriptor)
    text = manifest.to_bytes() + workspace.store.read(manifest.config)
    for word in (str(tmp_path), os.uname().nodename):
        assert word.encode() not in text
