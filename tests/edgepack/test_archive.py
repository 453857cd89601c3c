"""One file that every tool takes; and what other tools write is read, with nothing unsound let in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    InvalidReferenceError,
    NotFoundError,
    UnsafeArchiveError,
    UsageError,
    VerificationError,
)
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import Archive, stream_archive, write_archive
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import write_layer
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.small_images import (
    AMD64,
    ARM64,
    Gzip,
    entries,
    gzipped,
    image,
    member,
    small_image,
    tar_of,
    two_platforms,
)
from tests.support.parts import docker_engine
from tests.support.running import run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def archive(tmp_path: Path, store: Store) -> Path:
    """An archive of one image, ``churn:1``."""
    path = tmp_path / "image.tar"
    write_archive(store, {"churn:1": small_image(store)}, path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]


def rewritten(path: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with other members."""
    found = members(path)
    change(found)
    path.write_bytes(tar_of(*(member(name, data) for name, data in found.items())))
    return path


def taken(path: Path, store: Store) -> dict[str, Descriptor]:
    """Copy all images of the archive into ``store``."""
    with Archive(path) as found:
        for descriptor in found.images().values():
            copy(found, store, descriptor)
        return dict(found.images())


# Writing


def test_the_same_images_make_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for number in range(2):
        store = Store.create(tmp_path / str(number))
        tags = ["churn:1", "churn:2"] if number else ["churn:2", "churn:1"]
        path = tmp_path / f"{number}.tar"
        write_archive(
            store, {tag: {"churn:1": small_image, "churn:2": two_platforms}[tag](store) for tag in tags}, path
        )
        written.append(path.read_bytes())

    assert written[0] == written[1]


def test_a_stream_has_the_same_bytes_as_a_file(store: Store, archive: Path) -> None:
    stream = io.BytesIO()

    stream_archive(store, {"churn:1": small_image(store)}, stream)

    assert stream.getvalue() == archive.read_bytes()


def test_an_archive_is_a_layout_and_has_dockers_manifest(archive: Path, store: Store) -> None:
    root = small_image(store)
    manifest = store.manifest(root)
    found = members(archive)

    assert set(found) == {"oci-layout", "index.json", "manifest.json"} | {
        f"blobs/sha256/{blob.digest.hex}" for blob in (root, *manifest.blobs)
    }
    assert json.loads(found["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{manifest.config.digest.hex}",
            "Layers": [f"blobs/sha256/{layer.digest.hex}" for layer in manifest.layers],
            "RepoTags": ["churn:1"],
        }
    ]
    (named,) = json.loads(found["index.json"])["manifests"]
    assert named["annotations"] == {
        "io.containerd.image.name": "docker.io/library/churn:1",
        "org.opencontainers.image.ref.name": "churn:1",
    }


@pytest.mark.parametrize("platform", [AMD64, ARM64])
def test_dockers_manifest_names_the_platform_that_was_asked_for(
    tmp_path: Path, store: Store, platform: Platform
) -> None:
    path = tmp_path / "image.tar"

    write_archive(store, {"churn:1": two_platforms(store)}, path, platform=platform)

    found = members(path)
    config = found[json.loads(found["manifest.json"])[0]["Config"]]
    assert json.loads(config)["architecture"] == platform.architecture
    with pytest.raises(UsageError, match="no image for linux/arm/v7; name one of its platforms"):
        write_archive(store, {"churn:1": two_platforms(store)}, path, platform=Platform("linux", "arm", "v7"))
    # An image of one platform may be carried by any machine.
    write_archive(store, {"churn:1": small_image(store, ARM64)}, path, platform=AMD64)


def test_tags_of_one_image_are_one_entry(tmp_path: Path, store: Store) -> None:
    root = small_image(store)
    write_archive(store, {"churn:1": root, "host:5000/team/churn:latest": root}, tmp_path / "image.tar")

    (entry,) = json.loads(members(tmp_path / "image.tar")["manifest.json"])
    assert entry["RepoTags"] == ["churn:1", "host:5000/team/churn:latest"]
    assert set(taken(tmp_path / "image.tar", Store.create(tmp_path / "other"))) == set(entry["RepoTags"])


def test_zstd_layers_are_refused_before_anything_is_written(tmp_path: Path, store: Store) -> None:
    class Zstd(Gzip):
        media_type = mediatypes.LAYER_ZSTD

    root = image(store, [write_layer(entries(), store, Zstd(), kind="code")])

    with pytest.raises(UsageError, match="Docker before 23 does not load; build the image with gzip"):
        write_archive(store, {"churn:1": root}, tmp_path / "image.tar")

    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("tag", ["Churn:1", "churn:1:2", "", "churn:1@" + str(Digest.of(b""))])
def test_a_tag_that_no_tool_takes_is_refused(tmp_path: Path, store: Store, tag: str) -> None:
    with pytest.raises((InvalidReferenceError, UsageError)):
        write_archive(store, {tag: small_image(store)}, tmp_path / "image.tar")


def test_what_is_no_image_is_refused(tmp_path: Path, store: Store) -> None:
    empty = store.put_bytes(b"{}", mediatypes.EMPTY)
    artifact = store.put_bytes(Manifest(empty, (empty,), artifact_type="application/a").to_bytes(), mediatypes.MANIFEST)

    with pytest.raises(UsageError, match="not a container image"):
        write_archive(store, {"churn:1": artifact}, tmp_path / "image.tar")
    with pytest.raises(UsageError, match="no image is given"):
        write_archive(store, {}, tmp_path / "image.tar")


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_store_makes_no_archive_and_keeps_the_old_one(store: Store, archive: Path, damage: str) -> None:
    before = archive.read_bytes()
    root = small_image(store)
    blob = store.path(store.manifest(root).layers[1].digest)
    data = blob.read_bytes()
    if damage == "missing":
        blob.unlink()
    else:
        blob.write_bytes(b"X" + data[1:])

    with pytest.raises((DigestMismatchError, NotFoundError)):
        write_archive(store, {"churn:1": root}, archive)

    assert archive.read_bytes() == before
    assert sorted(path.name for path in archive.parent.iterdir()) == ["image.tar", "store"]


# Reading


@pytest.mark.parametrize("make", [small_image, two_platforms])
def test_what_was_written_is_read_again(tmp_path: Path, store: Store, make: Callable[[Store], Descriptor]) -> None:
    root, other = make(store), Store.create(tmp_path / "other")
    write_archive(store, {"churn:1": root}, tmp_path / "image.tar")

    found = taken(tmp_path / "image.tar", other)

    assert {tag: item.digest for tag, item in found.items()} == {"churn:1": root.digest}
    assert validate(other, root) == []


def test_a_compressed_archive_is_read_and_leaves_nothing(tmp_path: Path, archive: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    packed = gzipped(archive)

    with Archive(packed) as found:
        assert set(found.images()) == {"churn:1"}
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, packed.name])
    with pytest.raises(UnsafeArchiveError, match="unpacks to more than 1000 bytes"):
        Archive(packed, limit=1000)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UnsafeArchiveError, match="damaged gzip"):
        Archive(packed)


def test_a_blob_is_read_from_any_offset(store: Store, archive: Path) -> None:
    layer = store.manifest(small_image(store)).layers[1]
    data = store.read(layer)

    with Archive(archive) as found:
        with found.open(layer, 100) as first, found.open(layer, 7) as second:
            assert first.read(10) + second.read(10) == data[100:110] + data[7:17]
        with found.open(layer, len(data)) as stream:
            assert stream.read() == b""
        with pytest.raises(NotFoundError), found.open(Descriptor("a/b", Digest.of(b"x"), 1)):
            pass
        with pytest.raises(VerificationError), found.open(Descriptor("a/b", layer.digest, 1)):
            pass


def test_an_archive_by_docker_since_25_is_named_by_containerds_annotation(tmp_path: Path, archive: Path) -> None:
    def change(found: dict[str, bytes]) -> None:
        index = json.loads(found["index.json"])
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "1"
        found["index.json"] = json.dumps(index).encode()

    with Archive(rewritten(archive, change)) as found:
        assert set(found.images()) == {"churn:1"}
        assert found.images()["churn:1"].annotations[mediatypes.REF_NAME] == "churn:1"


def test_platforms_that_were_left_out_are_allowed(tmp_path: Path, store: Store) -> None:
    root = two_platforms(store)
    write_archive(store, {"churn:1": root}, tmp_path / "image.tar")
    arm = Index.from_bytes(store.read(root)).manifests[1]
    path = rewritten(tmp_path / "image.tar", lambda found: found.pop(f"blobs/sha256/{arm.digest.hex}"))

    with Archive(path) as found:
        assert not found.has(arm)
        with pytest.raises(NotFoundError, match="the copy is incomplete"):
            copy(found, Store.create(tmp_path / "other"), root)


def test_every_truncation_is_noticed(tmp_path: Path, archive: Path) -> None:
    data = archive.read_bytes()
    # The last two blocks are the end of the archive; without them everything is still there.
    for length in [*range(0, len(data) - 1024, 512), *range(1, len(data) - 1024, 1900)]:
        archive.write_bytes(data[:length])
        with pytest.raises(VerificationError):
            Archive(archive)


def test_every_altered_block_is_noticed_by_whoever_copies(tmp_path: Path, archive: Path, store: Store) -> None:
    data = archive.read_bytes()
    whole = {tag: item.digest for tag, item in taken(archive, Store.create(tmp_path / "whole")).items()}
    noticed = 0
    for number, place in enumerate(range(40, len(data) - 1024, 512)):
        altered = bytearray(data)
        altered[place] ^= 0x01
        archive.write_bytes(altered)
        other = Store.create(tmp_path / f"other{number}")
        try:
            found = taken(archive, other)
        except EdgepackError:
            noticed += 1
        else:  # padding, or a document that none of the blobs depends on
            assert {item.digest for item in found.values()} == set(whole.values())
        assert all(Digest.of(path.read_bytes()).hex == path.name for path in other.root.glob("blobs/sha256/*"))
    assert noticed > 20


@pytest.mark.parametrize("missing", ["layer", "config", "manifest", "index.json", "everything"])
def test_what_is_missing_is_noticed_before_anything_is_taken(archive: Path, store: Store, missing: str) -> None:
    root = small_image(store)
    manifest = store.manifest(root)
    digests = {"layer": manifest.layers[0].digest, "config": manifest.config.digest, "manifest": root.digest}
    names = {key: f"blobs/sha256/{digest.hex}" for key, digest in digests.items()}

    def change(found: dict[str, bytes]) -> None:
        if missing == "everything":
            found.clear()
        elif missing == "index.json":
            del found["index.json"], found["manifest.json"]
        else:
            del found[names[missing]]

    with pytest.raises(VerificationError, match=r"not a valid archive|not an image archive"):
        Archive(rewritten(archive, change))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../climbs"), "climbs"),
        (member("/etc/absolute"), "climbs"),
        (member("a/../../b"), "climbs"),
        (member("index.json"), "twice"),
        (member("./blobs/../index.json"), "climbs"),
        (member(".//index.json"), "twice"),
        (member("node", kind=tarfile.CHRTYPE), "a device node"),
        (member("node", kind=tarfile.BLKTYPE), "a device node"),
        (member("pipe", kind=tarfile.FIFOTYPE), "FIFO"),
        (member("sparse", kind=tarfile.GNUTYPE_SPARSE), "sparse"),
        (member("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "leaves"),
        (member("link", kind=tarfile.SYMTYPE, link="../../etc/passwd"), "climbs"),
        (member("link", kind=tarfile.SYMTYPE, link="not-there"), "no file"),
        (member("link", kind=tarfile.SYMTYPE, link="link"), "no file"),
        (member("link", kind=tarfile.LNKTYPE, link="../oci-layout"), "climbs"),
        (member("oci-layout", kind=tarfile.SYMTYPE, link="index.json"), "twice"),
    ],
    ids=lambda value: f"{value[0].name}-{value[0].type!r}-{value[0].linkname}" if isinstance(value, tuple) else "",
)
def test_an_unsafe_member_makes_the_archive_unsafe(
    archive: Path, bad: tuple[tarfile.TarInfo, bytes], words: str
) -> None:
    found = [member(name, data) for name, data in members(archive).items()]
    archive.write_bytes(tar_of(*found, bad))
    before = set(archive.parent.rglob("*"))

    with pytest.raises(UnsafeArchiveError, match=words) as caught:
        Archive(archive)

    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(archive.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "data", [b"", b"no tar at all" * 100, bytes(10240), os.urandom(4096)], ids=["empty", "text", "zeros", "noise"]
)
def test_what_is_no_archive_is_told_clearly(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(VerificationError, match=r"x\.tar: not a valid archive"):
        Archive(tmp_path / "x.tar")


def test_what_cannot_be_opened_is_told_clearly(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        Archive(tmp_path / "absent.tar")
    with pytest.raises(UsageError, match="cannot be read"):
        Archive(tmp_path)


@pytest.mark.parametrize(
    ("pack", "program"),
    [
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd"),
        (lzma.compress, "xz"),
        (bz2.compress, "bzip2"),
        (lambda data: b"\x04\x22\x4d\x18" + data, "lz4"),
    ],
)
def test_the_program_that_unpacks_an_archive_is_named(
    tmp_path: Path, archive: Path, pack: Callable[[bytes], bytes], program: str
) -> None:
    packed = tmp_path / "an image"
    packed.write_bytes(pack(archive.read_bytes()))
    with pytest.raises(UsageError, match=f"is compressed with {program}; unpack it with: ") as caught:
        Archive(packed)
    command = str(caught.value).rpartition("with: ")[2]
    if program in ("xz", "bzip2") and shutil.which(program):
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
        assert (tmp_path / "image.tar").read_bytes() == archive.read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(packed.read_bytes(),))
    writer.start()
    with pytest.raises(UsageError, match=f"pipe it through: {program} -dc"):
        Archive(pipe)
    writer.join()


# Archives of Docker before 25


def legacy(store: Store, *, links: bool = False, packed: bool = False) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """What ``docker save`` wrote: a folder for each layer; a layer that is listed twice is a link."""
    root = small_image(store)
    manifest = store.manifest(root)
    config = store.read(manifest.config)
    first, second = (store.read(layer) for layer in manifest.layers)
    plain = gzip.decompress(first)
    found = {
        "config": member(f"{manifest.config.digest.hex}.json", config),
        "one": member("1" * 64 + "/layer.tar", first if packed else plain),
        "two": member("2" * 64 + "/layer.tar", second),
        "manifest": member(
            "manifest.json",
            json.dumps(
                [
                    {
                        "Config": f"{manifest.config.digest.hex}.json",
                        "RepoTags": ["docker.io/library/churn:1"],
                        "Layers": ["1" * 64 + "/layer.tar", "2" * 64 + "/layer.tar"],
                    }
                ]
            ).encode(),
        ),
    }
    if links:
        found["real"] = member("f" * 64 + ".tar", found["one"][1])
        found["one"] = member("1" * 64 + "/layer.tar", kind=tarfile.SYMTYPE, link="../" + "f" * 64 + ".tar")
    return found


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_legacy_archive_gets_a_manifest_and_keeps_its_configuration(
    tmp_path: Path, store: Store, links: bool, packed: bool
) -> None:
    path = tmp_path / "legacy.tar"
    path.write_bytes(tar_of(*legacy(store, links=links, packed=packed).values()))
    other = Store.create(tmp_path / "other")

    found = taken(path, other)

    assert set(found) == {"churn:1"}
    assert validate(other, found["churn:1"]) == []
    manifest = other.manifest(found["churn:1"])
    assert manifest.config.digest == store.manifest(small_image(store)).config.digest
    assert [layer.media_type == mediatypes.LAYER_GZIP for layer in manifest.layers] == [packed, False]


@pytest.mark.parametrize("part", ["config", "one", "two", "manifest"])
def test_a_part_that_is_missing_from_a_legacy_archive_is_named(tmp_path: Path, store: Store, part: str) -> None:
    found = legacy(store)
    name = found.pop(part)[0].name
    path = tmp_path / "legacy.tar"
    path.write_bytes(tar_of(*found.values()))

    with pytest.raises(VerificationError, match=name):
        Archive(path)


@pytest.mark.parametrize("part", ["config", "one", "two"])
def test_an_altered_part_of_a_legacy_archive_is_named(tmp_path: Path, store: Store, part: str) -> None:
    found = legacy(store)
    info, data = found[part]
    place = data.index(b"linux") if part == "config" else 2000
    found[part] = (info, data[:place] + b"m" + data[place + 1 :])
    path = tmp_path / "legacy.tar"
    path.write_bytes(tar_of(*found.values()))

    with pytest.raises(DigestMismatchError, match=info.name):
        Archive(path)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{}", b"[]", b"[1]", b"[{}]", b'[{"Config":1}]', b'[{"Config":"CONFIG","Layers":"x"}]', b"[" * 100_000],
)
def test_a_legacy_manifest_with_wrong_fields_is_refused(tmp_path: Path, store: Store, manifest: bytes) -> None:
    found = legacy(store)
    found["manifest"] = member("manifest.json", manifest.replace(b"CONFIG", found["config"][0].name.encode()))
    path = tmp_path / "legacy.tar"
    path.write_bytes(tar_of(*found.values()))

    with pytest.raises(VerificationError, match=r"manifest\.json"):
        Archive(path)


# Real tools


@pytest.mark.real("skopeo")
@pytest.mark.parametrize("make", [small_image, two_platforms])
def test_skopeo_takes_an_archive_either_way_without_changing_it(
    tmp_path: Path, store: Store, make: Callable[[Store], Descriptor]
) -> None:
    root, path = make(store), tmp_path / "image.tar"
    write_archive(store, {"churn:1": root}, path, platform=AMD64)

    run("skopeo", "copy", "--all", "--preserve-digests", f"oci-archive:{path}:churn:1", f"oci:{tmp_path / 'oci'}:churn")
    run("skopeo", "--override-arch", "amd64", "copy", f"docker-archive:{path}:churn:1", f"dir:{tmp_path / 'dir'}")

    layout = Store.open_existing(tmp_path / "oci")
    assert layout.resolve("churn").digest == root.digest
    assert validate(layout, layout.resolve("churn")) == []
    config = Manifest.from_bytes((tmp_path / "dir" / "manifest.json").read_bytes()).config
    assert config.digest == store.manifest(small_image(store)).config.digest


@pytest.mark.real("umoci")
def test_umoci_unpacks_an_archive(tmp_path: Path, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "layout", filter="data")

    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'layout'}:churn:1", tmp_path / "bundle")

    rootfs = tmp_path / "bundle" / "rootfs"
    assert (rootfs / "opt/app/größe.txt").read_bytes() == b"1\n"
    assert (rootfs / "opt/app/bin/run").stat().st_mode & 0o777 == 0o755
    assert (rootfs / "opt/app/latest").read_bytes() == b"hello\n"
    assert (rootfs / "opt/model.bin").stat().st_size == 5000


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Podman takes no run folder of more than 50 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ep-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.real("podman")
@pytest.mark.parametrize("make", [small_image, two_platforms])
def test_podman_loads_an_archive_and_what_it_saves_is_read(
    tmp_path: Path, short_path: Path, store: Store, make: Callable[[Store], Descriptor]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a storage of its own")
    path = tmp_path / "image.tar"
    write_archive(store, {"churn:1": make(store)}, path)
    podman = ["podman", "--root", tmp_path / "root", "--runroot", short_path / "run", "--storage-driver", "vfs"]
    expected = store.manifest(small_image(store)).config.digest

    assert "churn:1" in run(*podman, "load", "--input", path)
    (loaded,) = json.loads(run(*podman, "images", "--no-trunc", "--format", "json"))
    assert loaded["Id"] == expected.hex

    for kind in ("docker-archive", "oci-archive"):
        run(*podman, "save", "--format", kind, "--output", tmp_path / f"{kind}.tar", "churn:1")
        other = Store.create(tmp_path / kind)
        found = taken(tmp_path / f"{kind}.tar", other)
        assert set(found) == {"churn:1"}
        assert validate(other, found["churn:1"]) == []
        assert other.manifest(found["churn:1"]).config.digest == expected


@pytest.fixture(scope="module")
def docker() -> Iterator[dict[str, str]]:
    """A Docker engine of this module, on paths of its own; gives the environment that points at it."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker engine")
    if shutil.which("dockerd") is None:
        pytest.fail("dockerd is not installed")
    folder = Path(tempfile.mkdtemp(prefix="edgepack-docker-"))
    try:
        with docker_engine(folder) as address:
            yield {"DOCKER_HOST": address}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.real("dockerd", "docker", "ip")
@pytest.mark.parametrize("make", [small_image, two_platforms])
def test_docker_loads_an_archive_and_what_it_saves_is_read(
    tmp_path: Path, store: Store, docker: dict[str, str], make: Callable[[Store], Descriptor]
) -> None:
    tag = f"churn-{make.__name__.replace('_', '-')}:1"
    write_archive(store, {tag: make(store)}, tmp_path / "image.tar", platform=AMD64)
    expected = store.manifest(small_image(store)).config.digest

    assert tag in run("docker", "load", "--input", gzipped(tmp_path / "image.tar"), more=docker)
    assert run("docker", "image", "inspect", "--format", "{{.Id}}", tag, more=docker).strip() == str(expected)
    made = run("docker", "create", "--network", "none", tag, more=docker).strip()
    run("docker", "export", "--output", tmp_path / "rootfs.tar", made, more=docker)
    assert members(tmp_path / "rootfs.tar")["opt/app/greeting.txt"] == b"hello\n"

    run("docker", "save", "--output", tmp_path / "saved.tar", tag, more=docker)
    other = Store.create(tmp_path / "other")
    found = taken(tmp_path / "saved.tar", other)
    assert set(found) == {tag}
    assert validate(other, found[tag]) == []
    assert other.manifest(found[tag]).config.digest == expected
