"""Images whose index names more than is there, as ``docker save`` writes them from the containerd store."""

from __future__ import annotations

import json
import os
import socket
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.bundle.write import write_bundle
from edgepack.errors import (
    InvalidDocumentError,
    NotFoundError,
    SizeMismatchError,
    UnsafeArchiveError,
    UsageError,
    VerificationError,
)
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import write_archive
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from edgepack.signing.statement import attach, verify_image
from packager.bases.find import find_base
from packager.images.inspect import views
from packager.places.table import find_destination, find_file, find_source
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.edgepack.support.small_images import gzipped, member, tar_of
from tests.packager.support.bases import AMD64, ARM64, debian, make_base

ARM = Platform("linux", "arm", "v7")
UNKNOWN = Platform("unknown", "unknown")
HELD = {"one": {AMD64}, "two": {AMD64, ARM64}, "all": {AMD64, ARM64, ARM}, "none": set[Platform]()}


@pytest.fixture
def whole(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "whole", tmp_path / "cache")


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "other", tmp_path / "cache")


def made(store: Store, *, attested: bool = False) -> Descriptor:
    """An image for three platforms, with or without what BuildKit attaches to each."""
    entries = []
    for platform in (AMD64, ARM64, ARM):
        files = debian("amd64" if platform == ARM else platform.architecture)
        one = make_base(store, [{**files, f"etc/{platform.architecture}": b"x"}], platform)
        entries.append(replace(one, platform=platform))
        if attested:
            nothing = b'{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}'
            config = store.put_bytes(nothing, mediatypes.CONFIG)
            layer = store.put_bytes(b'{"of": "%s"}' % one.digest.hex.encode(), mediatypes.IN_TOTO)
            told = store.put_bytes(Manifest(config, (layer,)).to_bytes(), mediatypes.MANIFEST)
            notes = {
                "vnd.docker.reference.digest": str(one.digest),
                "vnd.docker.reference.type": "attestation-manifest",
            }
            entries.append(replace(told, platform=UNKNOWN, annotations=notes))
    root = store.put_bytes(Index(tuple(entries)).to_bytes(), mediatypes.INDEX)
    store.tag("churn:1", root)
    return root


def blobs_of(store: Store, root: Descriptor, platforms: set[Platform]) -> set[str]:
    """The blobs of the images for ``platforms`` alone, and the index."""
    found = {root.digest.hex}
    for one in Index.from_bytes(store.read(root)).manifests:
        if one.platform in platforms:
            found |= {one.digest.hex, *(blob.digest.hex for blob in store.manifest(one).blobs)}
    return found


def saved(store: Store, root: Descriptor, kept: set[str], path: Path) -> Path:
    """The archive of ``docker save`` with these blobs."""
    write_archive(store, {"churn:1": root}, path)
    with tarfile.open(path) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]
    path.write_bytes(
        tar_of(*(member(name, data) for name, data in files.items()
                 if not name.startswith("blobs/") or name.rpartition("/")[2] in kept))
    )  # fmt: skip
    return path


def laid_out(store: Store, root: Descriptor, kept: set[str], path: Path) -> Path:
    """An OCI layout with these blobs."""
    find_destination(f"oci:{path}").send(store, "churn:1", root)
    for blob in path.glob("blobs/sha256/*"):
        if blob.name not in kept:
            blob.unlink()
    return path


@pytest.mark.parametrize("attested", [False, True])
@pytest.mark.parametrize("held", ["one", "two", "all"])
@pytest.mark.parametrize("place", ["archive", "packed", "layout"])
def test_what_is_there_is_loaded_pushed_and_bundled(
    whole: Workspace, other: Workspace, tmp_path: Path, place: str, held: str, attested: bool
) -> None:
    root = made(whole.store, attested=attested)
    platforms = HELD[held] | ({UNKNOWN} if held == "all" else set())
    kept = blobs_of(whole.store, root, platforms)
    path = (laid_out if place == "layout" else saved)(whole.store, root, kept, tmp_path / "image")
    if place == "packed":
        path = gzipped(path)
    loaded = find_file(str(path)).load(other.store)
    assert loaded.tag == "churn:1"
    assert {view.platform for view in views(other.store, loaded.root)} == HELD[held]
    assert (loaded.root.digest == root.digest) is (held == "all")
    if held == "one":
        manifest = Index.from_bytes(whole.store.read(root)).manifests[0]
        assert loaded.root == Descriptor(manifest.media_type, manifest.digest, manifest.size, loaded.root.annotations)
    write_bundle(other.store, ["churn:1"], tmp_path / "b.bundle", key=None)
    find_destination(f"docker-archive:{tmp_path}/again.tar").send(other.store, "churn:1", loaded.root)
    with running(Simulator()) as sim:
        find_destination(f"127.0.0.1:{sim.port}/churn:1").send(other.store, "churn:1", loaded.root)
        assert str(loaded.root.digest) in {name.partition(":")[2] for name in sim.manifests}


@pytest.mark.parametrize("place", ["archive", "layout"])
def test_a_base_is_taken_for_the_platform_that_is_there(
    whole: Workspace, other: Workspace, tmp_path: Path, place: str
) -> None:
    root = made(whole.store, attested=True)
    kept = blobs_of(whole.store, root, {AMD64})
    path = (laid_out if place == "layout" else saved)(whole.store, root, kept, tmp_path / "image")
    name = f"oci:{path}" if place == "layout" else f"docker-archive:{path}"
    base = find_base(name, AMD64, other.store, other.bases)
    assert base.descriptor.digest == Index.from_bytes(whole.store.read(root)).manifests[0].digest
    with pytest.raises(
        NotFoundError, match="names an image for linux/arm64 and does not hold it, only for linux/amd64"
    ):
        find_base(name, ARM64, other.store, other.bases)
    with find_source(name, other.store).open() as (source, found):
        assert [view.platform for view in views(source, found)] == [AMD64]


@pytest.mark.parametrize("kept", ["manifest", "nothing"])
@pytest.mark.parametrize("place", ["archive", "layout"])
def test_an_image_of_which_nothing_is_there_is_refused_by_name(
    whole: Workspace, other: Workspace, tmp_path: Path, place: str, kept: str
) -> None:
    root = made(whole.store)
    blobs = {root.digest.hex}
    if kept == "manifest":  # containerd may keep a manifest whose layers it lacks
        blobs |= {one.digest.hex for one in Index.from_bytes(whole.store.read(root)).manifests}
    path = (laid_out if place == "layout" else saved)(whole.store, root, blobs, tmp_path / "image")
    words = r"of the images that it names none is there \(linux/amd64, linux/arm/v7, linux/arm64\)"
    with pytest.raises((NotFoundError, VerificationError), match=words):
        find_file(str(path)).load(other.store)
    assert other.store.tags() == {}


def test_a_manifest_whose_layers_are_absent_is_absent(whole: Workspace, other: Workspace, tmp_path: Path) -> None:
    root = made(whole.store)
    manifests = {one.digest.hex for one in Index.from_bytes(whole.store.read(root)).manifests}
    path = saved(whole.store, root, blobs_of(whole.store, root, {ARM64}) | manifests, tmp_path / "image")
    assert [view.platform for view in views(other.store, find_file(str(path)).load(other.store).root)] == [ARM64]


def test_an_archive_that_is_cut_between_two_blobs_is_not_a_partial_image(
    whole: Workspace, other: Workspace, tmp_path: Path
) -> None:
    path = saved(whole.store, made(whole.store), {path.name for path in whole.store.root.glob("blobs/sha256/*")},
                 tmp_path / "image")  # fmt: skip
    with tarfile.open(path) as tar:
        starts = [info.offset for info in tar if info.name.startswith("blobs/sha256/")]
    data, refused = path.read_bytes(), 0
    for start in starts:
        path.write_bytes(data[:start])
        with pytest.raises(VerificationError):
            find_file(str(path)).load(other.store)
        refused += 1
    assert refused > 5
    assert other.store.tags() == {}


def test_a_blob_of_another_size_is_not_an_absent_one(whole: Workspace, other: Workspace, tmp_path: Path) -> None:
    root = made(whole.store)
    kept = {path.name for path in whole.store.root.glob("blobs/sha256/*")}
    path = laid_out(whole.store, root, kept, tmp_path / "image")
    layer = whole.store.manifest(Index.from_bytes(whole.store.read(root)).manifests[1]).layers[0]
    (path / f"blobs/sha256/{layer.digest.hex}").write_bytes(b"short")
    with pytest.raises(SizeMismatchError):
        find_file(str(path)).load(other.store)


def test_signatures_of_the_image_that_is_there_come_with_a_layout(
    whole: Workspace, other: Workspace, tmp_path: Path
) -> None:
    root = made(whole.store)
    first = Index.from_bytes(whole.store.read(root)).manifests[0]
    path = laid_out(whole.store, root, blobs_of(whole.store, root, {AMD64}), tmp_path / "image")
    key = whole.keys.create("mine")
    attach(Store.open_existing(path), first, "churn:1", key)
    loaded = find_file(str(path)).load(other.store)
    verify_image(other.store, loaded.root.digest, [key.public])


# ---- What is not a blob or not an image ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "link to a fifo"])
@pytest.mark.parametrize("which", ["root", "layer"])
def test_a_blob_that_is_not_a_file_is_refused_and_not_waited_for(
    whole: Workspace, other: Workspace, tmp_path: Path, which: str, kind: str
) -> None:
    root = make_base(whole.store, [debian()])
    find_destination(f"oci:{tmp_path}/layout").send(whole.store, "churn:1", root)
    digest = root.digest if which == "root" else whole.store.manifest(root).layers[0].digest
    blob = tmp_path / "layout/blobs/sha256" / digest.hex
    blob.unlink()
    if kind == "fifo":
        os.mkfifo(blob)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{os.open(blob.parent, os.O_RDONLY)}/{blob.name}")
    elif kind == "device":
        blob.symlink_to("/dev/zero")
    elif kind == "folder":
        blob.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        blob.symlink_to(tmp_path / "pipe")
    with pytest.raises(UnsafeArchiveError, match=r"is a (FIFO|socket|device|folder) and not a regular file"):
        find_file(f"oci:{tmp_path}/layout").load(other.store)
    assert other.store.tags() == {}


def test_a_blob_may_be_a_link_to_a_file(whole: Workspace, other: Workspace, tmp_path: Path) -> None:
    root = make_base(whole.store, [debian()])
    find_destination(f"oci:{tmp_path}/layout").send(whole.store, "churn:1", root)
    for number, blob in enumerate((tmp_path / "layout/blobs/sha256").iterdir()):
        blob.rename(tmp_path / str(number))
        blob.symlink_to(tmp_path / str(number))
    assert find_file(f"oci:{tmp_path}/layout").load(other.store).root.digest == root.digest


def test_an_archive_is_read_from_a_pipe_and_from_no_device(whole: Workspace, other: Workspace, tmp_path: Path) -> None:
    root = make_base(whole.store, [debian()])
    write_archive(whole.store, {"churn:1": root}, tmp_path / "image.tar")
    for path in (tmp_path / "image.tar", gzipped(tmp_path / "image.tar")):
        os.mkfifo(tmp_path / "pipe")
        data = path.read_bytes()
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,), daemon=True)
        writer.start()
        assert find_file(f"docker-archive:{tmp_path}/pipe").load(other.store).root.digest == root.digest
        writer.join()
        (tmp_path / "pipe").unlink()
    with pytest.raises(UsageError, match="/dev/zero: is a device and not an archive"):
        find_file("docker-archive:/dev/zero").load(other.store)


@pytest.mark.parametrize("kind", ["json", "prettyjws", "child", "lying"])
def test_a_manifest_of_dockers_first_schema_is_refused_by_name(
    whole: Workspace, other: Workspace, tmp_path: Path, kind: str
) -> None:
    media_type = f"application/vnd.docker.distribution.manifest.v1+{'json' if kind == 'json' else 'prettyjws'}"
    old = json.dumps({"schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [], "history": []}).encode()
    layout = Store.create(tmp_path / "layout")
    root = layout.put_bytes(old, mediatypes.DOCKER_MANIFEST if kind == "lying" else media_type)
    if kind == "child":
        root = layout.put_bytes(Index((root,)).to_bytes(), mediatypes.INDEX)
    layout.tag("churn:1", root)
    files = {str(path.relative_to(layout.root)): path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    (tmp_path / "a.tar").write_bytes(tar_of(*(member(name, data) for name, data in files.items())))
    for text in (f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/a.tar"):
        with pytest.raises((InvalidDocumentError, VerificationError), match="Docker's schema 1"):
            find_file(text).load(other.store)
        with pytest.raises((InvalidDocumentError, VerificationError), match="Docker's schema 1"):
            find_base(text, AMD64, other.store, other.bases)
    assert other.store.tags() == {}


def test_what_is_no_image_is_not_tagged(other: Workspace, tmp_path: Path) -> None:
    layout = Store.create(tmp_path / "layout")
    layout.tag("churn:1", layout.put_bytes(b"hello", "text/plain"))
    with pytest.raises(InvalidDocumentError, match="is text/plain and not an image"):
        find_file(f"oci:{tmp_path}/layout").load(other.store)
    assert other.store.tags() == {}
