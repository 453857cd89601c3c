"""The places that a user can name by skopeo's words, and what comes from and goes to them."""

from __future__ import annotations

import importlib
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, NotFoundError, UsageError
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import Archive, write_archive
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import images
from edgepack.oci.manifest import Index
from edgepack.oci.recompress import plain_tar, without_zstd
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from edgepack.signing.statement import attach, verify_image
from packager.places.table import find_destination, find_file, find_registry, find_source
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, make_base, make_index


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", tmp_path / "cache")


@pytest.fixture
def image(workspace: Workspace) -> Descriptor:
    root = make_base(workspace.store, [debian()])
    workspace.store.tag("churn:1", root)
    return root


def found(text: str, workspace: Workspace, *, offline: bool = False) -> str:
    with find_source(text, workspace.store).open(offline=offline) as (_, root):
        return str(root.digest)


# ---- Naming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["one", "two:1", "r.example:5000/x:1"])
@pytest.mark.parametrize("folder", ["layout", "with:colon/layout", "a:b:c/layout", "there", "there:1"])
def test_a_layout_is_found_by_its_tag_where_it_was_sent_to(
    workspace: Workspace, image: Descriptor, tmp_path: Path, folder: str, tag: str
) -> None:
    for name in ("with:colon", "a:b:c", "there", "there:1"):
        (tmp_path / name).mkdir()
    find_destination(f"oci:{tmp_path}/{folder}:{tag}").send(workspace.store, "churn:1", image)
    assert Store.open_existing(tmp_path / folder).tags().keys() == {tag}
    assert found(f"oci:{tmp_path}/{folder}:{tag}", workspace) == str(image.digest)


def test_without_a_tag_an_image_keeps_its_name_there(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    (tmp_path / "there:1").mkdir()
    for folder in ("layout", "there:1"):
        find_destination(f"oci:{tmp_path}/{folder}").send(workspace.store, "churn:1", image)
        assert Store.open_existing(tmp_path / folder).tags().keys() == {"churn:1"}


def test_a_layout_of_one_nameless_image_needs_no_tag(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", image)
    layout = Store.open_existing(tmp_path / "layout")
    index = layout.index()
    (tmp_path / "layout/index.json").write_bytes(
        type(index)(tuple(Descriptor(item.media_type, item.digest, item.size) for item in index.manifests)).to_bytes()
    )
    assert found(f"oci:{tmp_path}/layout", workspace) == str(image.digest)


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_an_archive_is_found_with_and_without_its_tag(
    workspace: Workspace, image: Descriptor, tmp_path: Path, transport: str
) -> None:
    (tmp_path / "a:b").mkdir()
    find_destination(f"{transport}:{tmp_path}/a:b/c.tar").send(workspace.store, "churn:1", image)
    for text in (f"{tmp_path}/a:b/c.tar", f"{tmp_path}/a:b/c.tar:churn:1"):
        assert found(f"{transport}:{text}", workspace) == str(image.digest)


def test_latest_is_what_a_name_without_a_tag_means(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    write_archive(workspace.store, {"churn:latest": image, "other:1": image}, tmp_path / "a.tar")
    assert found(f"docker-archive:{tmp_path}/a.tar:churn", workspace) == str(image.digest)


def test_one_of_several_images_must_be_named(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    find_destination(f"oci:{tmp_path}/l:one").send(workspace.store, "churn:1", image)
    find_destination(f"oci:{tmp_path}/l:two").send(workspace.store, "churn:1", image)
    with pytest.raises(NotFoundError, match=r"l: holds 2 images; it has one, two; write .*l:NAME for one of them"):
        found(f"oci:{tmp_path}/l", workspace)
    with pytest.raises(NotFoundError, match=r"'three' not found; it has one, two"):
        found(f"oci:{tmp_path}/l:three", workspace)


def test_a_tag_of_the_workspace_comes_before_a_registry(workspace: Workspace, image: Descriptor) -> None:
    assert found("churn:1", workspace, offline=True) == str(image.digest)


@pytest.mark.parametrize("text", ["oci:{0}/absent", "oci-archive:{0}/absent.tar", "docker-archive:{0}/absent.tar"])
def test_what_is_not_there_is_named(workspace: Workspace, tmp_path: Path, text: str) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        found(text.format(tmp_path), workspace)


def test_a_tag_that_is_refused_today_is_still_found_in_an_older_workspace(
    workspace: Workspace, image: Descriptor
) -> None:
    workspace.store.tag("a..b/x:1", image)

    assert "a..b/x:1" in workspace.store.tags()
    assert found("a..b/x:1", workspace) == str(image.digest)


@pytest.mark.parametrize("text", ["oci:", "docker://", "docker-archive:", "docker-daemon:"])
def test_a_transport_without_a_place_is_refused(workspace: Workspace, text: str) -> None:
    with pytest.raises(UsageError, match="missing after"):
        found(text, workspace)


def test_a_name_that_is_not_here_and_names_no_registry_is_not_asked_of_the_network(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match=r"image 'python:3.12' not found; .* docker://python:3.12") as caught:
        found("python:3.12", workspace)
    assert caught.value.where == str(workspace.root)
    with pytest.raises(
        NotFoundError, match=r"'debian12' not found; recipes are one and two; see: edgepack package list"
    ):
        find_source("debian12", workspace.store, recipes=["one", "two"])
    with pytest.raises(UsageError, match="does not name a registry"):
        find_destination("churn:1").send(
            workspace.store, "churn:1", workspace.store.put_bytes(b"{}", "application/json")
        )


@pytest.mark.parametrize("text", ["docker://python:3.12", "r.example:5000/x@sha256:" + "0" * 64])
def test_offline_says_what_it_would_need_and_how_to_get_it(workspace: Workspace, text: str) -> None:
    with pytest.raises(EdgepackError, match=r"--offline: .* would need the network; fetch it .* package pull"):
        found(text, workspace, offline=True)


def test_offline_takes_no_engine_on_another_machine(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(EdgepackError, match="--offline: DOCKER_HOST names an engine on another machine"):
        found("docker-daemon:x:1", workspace, offline=True)


def test_only_a_registry_can_be_pulled_from() -> None:
    assert find_registry("docker://r.example/x:1").name == "r.example/x:1"
    assert find_registry("r.example:5000/x").name == "r.example:5000/x"
    with pytest.raises(UsageError, match="load it with: edgepack package load oci:/x"):
        find_registry("oci:/x")


# ---- Moving -------------------------------------------------------------------------------------------------------


def test_an_index_goes_through_layout_and_archive_unchanged(workspace: Workspace, tmp_path: Path) -> None:
    images = [(one, make_base(workspace.store, [debian(one.architecture)], one)) for one in (AMD64, ARM64)]
    root = make_index(workspace.store, images)
    workspace.store.tag("churn:1", root)
    for text in (f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/a.tar"):
        find_destination(text).send(workspace.store, "churn:1", root)
        other = Workspace(tmp_path / f"other-{text[:8]}", tmp_path / "cache")
        loaded = find_file(text).load(other.store, None)
        assert (loaded.tag, loaded.root.digest) == ("churn:1", root.digest)
        assert loaded.report.moved_blobs == 7
        assert find_file(text).load(other.store, None).report.moved_bytes == 0


def test_signatures_travel_with_a_layout(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    key = workspace.keys.create("mine")
    attach(workspace.store, image, "churn:1", key)
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", image)
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    find_file(f"oci:{tmp_path}/layout").load(other.store, "mine:1")
    verify_image(other.store, image.digest, [key.public])


@pytest.mark.parametrize("listing", ["by the subject's tag", "each without a name", "with its type alone"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_attached_to_an_image_is_no_other_image(
    workspace: Workspace, image: Descriptor, tmp_path: Path, listing: str, packed: bool
) -> None:
    """As edgepack lists attached artifacts, and as ORAS does, in a folder and in a tar of it."""
    key = workspace.keys.create("mine")
    attach(workspace.store, image, "churn:1", key)
    layout = tmp_path / "layout"
    find_destination(f"oci:{layout}").send(workspace.store, "churn:1", image)
    if listing != "by the subject's tag":
        (statement,) = Store.open_existing(layout).referrers(image.digest)
        kept = statement if "type" in listing else replace(statement, artifact_type=None, annotations={})
        named = image if packed else replace(image, annotations={})
        (layout / "index.json").write_bytes(Index((named, kept)).to_bytes())
    text = f"oci:{layout}"
    if packed:
        text = f"oci-archive:{tmp_path}/a.tar"
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(layout, ".")
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    assert find_file(text).load(other.store, "mine:1").root.digest == image.digest
    verify_image(other.store, image.digest, [key.public])


def test_the_images_of_an_index_are_no_other_images(workspace: Workspace, tmp_path: Path) -> None:
    images = [(one, make_base(workspace.store, [debian(one.architecture)], one)) for one in (AMD64, ARM64)]
    root = make_index(workspace.store, images)
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", root)
    listing = Index((root, *(replace(one, platform=None) for _, one in images)))
    (tmp_path / "layout/index.json").write_bytes(listing.to_bytes())
    assert find_file(f"oci:{tmp_path}/layout").load(workspace.store, "again:1").root.digest == root.digest


def test_an_archive_of_a_signed_image_is_said_to_be_without_signatures(
    workspace: Workspace, image: Descriptor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for prefix in ("oci-archive", "docker-archive"):
        find_destination(f"{prefix}:{tmp_path}/a.tar").send(workspace.store, "churn:1", image)
    assert caplog.text == ""
    attach(workspace.store, image, "churn:1", workspace.keys.create("mine"))
    for prefix in ("oci-archive", "docker-archive"):
        find_destination(f"{prefix}:{tmp_path}/a.tar").send(workspace.store, "churn:1", image)
        assert "churn:1 is signed, and an archive cannot carry signatures; oci:DIR" in caplog.text
        caplog.clear()


def test_load_takes_a_folder_or_file_without_a_word_before_it(
    workspace: Workspace, image: Descriptor, tmp_path: Path
) -> None:
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", image)
    find_destination(f"docker-archive:{tmp_path}/a.tar").send(workspace.store, "churn:1", image)
    for text in (f"{tmp_path}/layout", f"{tmp_path}/a.tar", f"{tmp_path}/a.tar:churn:1"):
        assert find_file(text).load(workspace.store, "again:1").root.digest == image.digest
    with pytest.raises(NotFoundError, match="no such file or folder"):
        find_file(f"{tmp_path}/absent").load(workspace.store, None)


def test_an_image_without_a_full_name_must_be_given_one(
    workspace: Workspace, image: Descriptor, tmp_path: Path
) -> None:
    find_destination(f"oci:{tmp_path}/layout:one").send(workspace.store, "churn:1", image)
    with pytest.raises(UsageError, match="has no name of its own; give one with --tag"):
        find_file(f"oci:{tmp_path}/layout").load(workspace.store, None)
    assert find_file(f"oci:{tmp_path}/layout").load(workspace.store, "churn:2").tag == "churn:2"


def test_a_cut_archive_changes_nothing(workspace: Workspace, image: Descriptor, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    find_destination(f"docker-archive:{path}").send(workspace.store, "churn:1", image)
    with Archive(path) as archive:
        assert len(archive.images()) == 1
    os.truncate(path, path.stat().st_size // 2)
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    with pytest.raises(EdgepackError):
        find_file(str(path)).load(other.store, "x:1")
    assert other.store.tags() == {}


# ---- zstd -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def zstd_image(workspace: Workspace, image: Descriptor) -> Descriptor:
    """The image with its layer compressed with zstd, in an index."""
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    store = workspace.store
    manifest = store.manifest(image)
    with plain_tar(store, manifest.layers[0]) as stream:
        packed = store.put_bytes(zstd.compress(stream.read()), mediatypes.LAYER_ZSTD)
    made = store.put_bytes(replace(manifest, layers=(packed, *manifest.layers[1:])).to_bytes(), mediatypes.MANIFEST)
    root = store.put_bytes(Index((replace(made, platform=AMD64),)).to_bytes(), mediatypes.INDEX)
    store.tag("z:1", root)
    return root


def test_zstd_becomes_gzip_in_an_archive_for_docker_and_it_is_said(
    workspace: Workspace, zstd_image: Descriptor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tar", "b.tar"):
        with caplog.at_level("INFO"):
            find_destination(f"docker-archive:{tmp_path}/{name}").send(workspace.store, "z:1", zstd_image)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with Archive(tmp_path / "a.tar") as archive:
        (root,) = archive.images().values()
        (manifest,) = (one for _, one in images(archive, root))
        (before,) = (one for _, one in images(workspace.store, zstd_image))
        assert manifest.config == before.config
        assert [layer.media_type for layer in manifest.layers] == [mediatypes.LAYER_GZIP]
        with plain_tar(archive, manifest.layers[0]) as now, plain_tar(workspace.store, before.layers[0]) as then:
            assert now.read() == then.read()
        assert validate(archive, root) == []
    said = f"(1) are compressed with gzip, which every engine loads; its digest is {root.digest} there"
    assert f"z:1: layers compressed with zstd {said}" in caplog.text


def test_an_oci_archive_keeps_zstd(workspace: Workspace, zstd_image: Descriptor, tmp_path: Path) -> None:
    attach(workspace.store, zstd_image, "z:1", workspace.keys.create("k"))
    find_destination(f"oci-archive:{tmp_path}/a.tar").send(workspace.store, "z:1", zstd_image)
    with Archive(tmp_path / "a.tar") as archive:
        assert [root.digest for root in archive.images().values()] == [zstd_image.digest]


def test_a_signed_image_is_not_compressed_in_another_way(
    workspace: Workspace, zstd_image: Descriptor, tmp_path: Path
) -> None:
    attach(workspace.store, zstd_image, "z:1", workspace.keys.create("k"))
    with pytest.raises(UsageError, match=r"is signed, and has layers compressed with zstd"):
        find_destination(f"docker-archive:{tmp_path}/a.tar").send(workspace.store, "z:1", zstd_image)
    assert not (tmp_path / "a.tar").exists()


def test_a_layer_that_is_not_what_its_image_names_is_refused(
    workspace: Workspace, zstd_image: Descriptor, tmp_path: Path
) -> None:
    store = workspace.store
    (before,) = (one for _, one in images(store, zstd_image))
    config = ImageConfig.from_bytes(store.read(before.config))
    other = store.put_bytes(replace(config, diff_ids=(Digest("a" * 64),)).to_bytes(), mediatypes.CONFIG)
    root = store.put_bytes(replace(before, config=other).to_bytes(), mediatypes.MANIFEST)
    with pytest.raises(DigestMismatchError, match="and its image names sha256:aaaa"):
        find_destination(f"docker-archive:{tmp_path}/a.tar").send(store, "z:1", root)
    found = without_zstd(store, root)
    with pytest.raises(DigestMismatchError):
        write_archive(found, {"z:1": found.root}, tmp_path / "b.tar")


def test_a_device_gives_its_engine_plain_layers_without_a_copy(
    workspace: Workspace, zstd_image: Descriptor, tmp_path: Path
) -> None:
    found = without_zstd(workspace.store, zstd_image)
    write_archive(found, {"z:1": found.root}, tmp_path / "a.tar")
    with Archive(tmp_path / "a.tar") as archive:
        (root,) = archive.images().values()
        assert root.digest == found.root.digest
        assert validate(archive, root) == []
        (manifest,) = (one for _, one in images(archive, root))
        assert [layer.media_type for layer in manifest.layers] == [mediatypes.LAYER]
        whole = found.open(manifest.layers[0])
        with whole as stream, found.open(manifest.layers[0], 700) as rest:
            assert stream.read()[700:] == rest.read()
    assert without_zstd(workspace.store, workspace.image("churn:1")).root == workspace.image("churn:1")
