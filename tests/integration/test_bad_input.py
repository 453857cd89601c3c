"""What bad input gets at the command line: one clear sentence, the right exit code, and nothing left half done."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Site
from image_kit import Commands, docker_registry, free_port, image_of, run, unmount_below

from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import ImageConfig, Manifest
from edgepack.oci.store import Store

pytestmark = pytest.mark.real("mmdebstrap")

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclass(frozen=True)
class Desk:
    """A workspace with ``mlp:1`` registered and built, in which a command must fail and change nothing."""

    site: Site

    def refuses(self, *words: object, code: int, says: str, **env: str) -> str:
        """Run ``edgepack``, which must end with ``code`` and one sentence that ``says`` (a pattern) what is wrong."""
        commands = self.site.commands
        before = commands.edgepack("package", "list").json, commands.edgepack("model", "list").json
        done = commands.edgepack(*words, code=code, **env)
        assert done.stdout == ""
        assert_one_sentence(done.stderr, says)
        assert (commands.edgepack("package", "list").json, commands.edgepack("model", "list").json) == before
        return done.stderr


def assert_one_sentence(text: str, says: str) -> None:
    said = [line for line in text.splitlines() if not line.startswith("edgepack: building base")]
    assert len(said) == 1, text
    assert said[0].startswith("edgepack: ")
    assert "unexpected" not in said[0]
    assert re.search(says, said[0]), said[0]


@pytest.fixture(scope="module")
def desk(site: Site) -> Desk:
    return Desk(site)


# ---- Models -------------------------------------------------------------------------------------------------------


def test_a_model_file_that_is_not_there(desk: Desk) -> None:
    desk.refuses("model", "register", "-n", "new", "-p", "absent.onnx", code=3, says=r"absent\.onnx: there is no such")


@pytest.mark.parametrize("name", ["has space", "-dash", "sla/sh", "ümlaut", "", "a" * 256, "new\n"])
def test_a_name_that_no_model_may_have(desk: Desk, name: str) -> None:
    file = desk.site.models[1]
    desk.refuses("model", "register", f"--name={name}", "-p", file, code=2, says="is not a model name; use letters")


@pytest.mark.parametrize("tag", ["Capital:1", "two:tags:1", "churn:", "", "a//b:1"])
def test_a_tag_that_no_image_may_have(desk: Desk, tag: str) -> None:
    desk.refuses("package", "build", "-m", "mlp", f"--tag={tag}", code=2, says="is not an image tag; write it as")


def test_an_unknown_framework(desk: Desk) -> None:
    words = ("model", "register", "-n", "new", "-p", desk.site.models[1], "--framework", "Caffe")
    desk.refuses(*words, code=2, says="'Caffe' is not a known framework; use one of ScikitLearn")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is not an ONNX model"),
        (lambda data: bytes(1000), "is not an ONNX model"),
    ],
)
def test_a_corrupt_onnx_file(desk: Desk, place: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    file = place / "corrupt.onnx"
    file.write_bytes(damage(desk.site.models[1].read_bytes()))
    desk.refuses("model", "register", "-n", "corrupt", "-p", file, code=2, says=rf"corrupt\.onnx: .*{says}")


def test_models_and_versions_that_are_not_there(desk: Desk) -> None:
    build = ("package", "build", "-t", "x:1")
    desk.refuses(*build, "-m", "absent", code=3, says="there is no model absent; registered are mlp")
    desk.refuses(*build, "-m", "mlp:99", code=3, says="there is no model mlp:99; its versions are 1")
    desk.refuses(*build, "-m", "mlp:one", code=2, says="'one' is not a model version")


# ---- Platforms and bases ------------------------------------------------------------------------------------------


def test_a_platform_without_wheels_is_named_with_what_it_lacks(desk: Desk) -> None:
    build = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform")
    desk.refuses(*build, "linux/arm/v7", code=1, says=r"no wheels of onnxruntime and numpy for linux/arm/v7; build for")
    desk.refuses(*build, "linux/amd64,linux/arm/v7", code=1, says="linux/arm/v7")
    desk.refuses(*build, "windows/amd64", code=1, says="windows/amd64")
    desk.refuses(*build, "amd64", code=2, says="'amd64' is not a platform; write it as linux/amd64")
    desk.refuses(*build, "linux/amd64,linux/amd64", code=2, says="platform stands twice")


def make_base(folder: Path, layer: bytes, platform: str = "linux/amd64") -> str:
    """A base image in an OCI layout: the plain tar ``layer``; gives its name for ``--base``."""
    store = Store.create(folder)
    blob = store.put_bytes(layer, mediatypes.LAYER)
    config = ImageConfig(Platform.parse(platform), (blob.digest,))
    manifest = Manifest(store.put_bytes(config.to_bytes(), mediatypes.CONFIG), (blob,))
    store.tag("base:1", store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST))
    return f"oci:{folder}:base:1"


def recipe_layer(site: Site, platform: str) -> bytes:
    """The plain tar of the base that our recipe makes."""
    digest = image_of(site.built, platform)["layers"][0]["digest"].removeprefix("sha256:")
    return gzip.decompress((site.commands.blobs / digest).read_bytes())


def rewritten(layer: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """``layer`` with the contents of its files as ``change`` gives them; without those that it gives ``None`` for."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(layer)) as source, tarfile.open(fileobj=out, mode="w") as target:
        for member in source:
            data = None
            if member.isreg():
                file = source.extractfile(member)
                data = change(member.name, file.read() if file else b"")
            elif member.issym():
                data = change(member.name, b"")
            if data is None and not member.isdir():
                continue
            if member.isreg() and data is not None:
                member.size = len(data)
            target.addfile(member, io.BytesIO(data) if member.isreg() and data is not None else None)
    return out.getvalue()


def test_a_base_of_another_architecture(desk: Desk, place: Path) -> None:
    arm = recipe_layer(desk.site, "linux/arm64")
    build = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform", "linux/amd64", "--base")
    honest = make_base(place / "base-arm64", arm, "linux/arm64")
    desk.refuses(*build, honest, code=1, says=r"base-arm64.* is for linux/arm64, not for linux/amd64; give a base")
    lying = make_base(place / "base-lying", arm, "linux/amd64")
    desk.refuses(*build, lying, code=1, says=r"base-lying.* its programs are for arm64, not for linux/amd64; give")


def test_a_base_without_python(desk: Desk, place: Path) -> None:
    def change(name: str, data: bytes) -> bytes | None:
        return None if "bin/python3" in name else data

    base = make_base(place / "base-bare", rewritten(recipe_layer(desk.site, "linux/amd64"), change))
    words = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform", "linux/amd64", "--base", base)
    desk.refuses(*words, code=1, says="base-bare.* has no Python 3; give a base with Python")


def test_a_base_with_an_older_glibc_than_the_wheels_need(desk: Desk, place: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name.endswith("/libc.so.6"):
            assert b"release version 2.36" in data
            return data.replace(b"release version 2.36", b"release version 2.17")
        return data

    base = make_base(place / "base-old", rewritten(recipe_layer(desk.site, "linux/amd64"), change))
    words = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform", "linux/amd64", "--base", base)
    desk.refuses(*words, code=1, says=r"(numpy|onnxruntime|orjson|httptools).* no wheel for linux/amd64 .*glibc 2\.17")


@pytest.mark.parametrize(
    ("base", "code", "says"),
    [
        ("oci:absent", 3, "absent: not an OCI image layout"),
        ("docker-archive:absent.tar", 3, r"absent\.tar: there is no such"),
        ("docker-archive:/etc/hostname", 4, "/etc/hostname"),
        ("UPPER:1", 2, "UPPER"),
    ],
)
def test_a_base_that_is_not_there_or_is_none(desk: Desk, base: str, code: int, says: str) -> None:
    words = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform", "linux/amd64", "--base", base)
    desk.refuses(*words, code=code, says=says)


def test_no_engine_answers(desk: Desk, place: Path) -> None:
    words = ("package", "push", "mlp:1", "docker-daemon:mlp:1")
    desk.refuses(*words, code=1, says="no container engine answers; start", DOCKER_HOST=f"unix://{place}/absent.sock")


# ---- Archives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_an_archive_that_was_cut(archive: Path, place: Path, share: float) -> None:
    other = Commands(place / "cut", place / "cut/workspace")
    cut = place / "cut.tar"
    size = int(archive.stat().st_size * share)
    with archive.open("rb") as file:
        cut.write_bytes(file.read(size))
    done = other.edgepack("package", "load", cut, code=4)
    assert_one_sentence(done.stderr, r"cut\.tar")
    assert_empty(other)


@pytest.mark.parametrize("which", ["index.json", "smallest", "largest", "last"])
def test_an_archive_that_was_altered(archive: Path, place: Path, which: str) -> None:
    other = Commands(place / f"altered-{which}", place / f"altered-{which}/workspace")
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar if member.isreg()}
    blobs = sorted((member for name, member in members.items() if name.startswith("blobs/")), key=lambda one: one.size)
    last = max(blobs, key=lambda one: one.offset)
    member = {"smallest": blobs[0], "largest": blobs[-1], "last": last}.get(which) or members[which]
    data, path = bytearray(archive.read_bytes()), place / "altered.tar"
    data[member.offset_data + member.size // 2] ^= 1
    path.write_bytes(data)
    done = other.edgepack("package", "load", path, code=4)
    assert_one_sentence(done.stderr, rf"altered\.tar|{member.name.rpartition('/')[2]}")
    assert_empty(other)
    # Nothing that failed stands in the way of the whole file.
    assert other.edgepack("package", "load", archive).json["tag"] == "mlp:1"
    assert_whole(other)


def test_a_file_that_is_no_archive(place: Path) -> None:
    other = Commands(place / "none", place / "none/workspace")
    path = place / "none.tar"
    for content in (b"hello\n", b"PK\x03\x04" + bytes(2000), gzip.compress(b"hello")):
        path.write_bytes(content)
        assert_one_sentence(other.edgepack("package", "load", path, code=4).stderr, r"none\.tar")
    done = other.edgepack("package", "load", place / "absent.tar", code=3)
    assert_one_sentence(done.stderr, r"absent\.tar: there is no such file")
    assert_empty(other)


def assert_empty(commands: Commands) -> None:
    assert commands.edgepack("package", "list").json == []
    assert_whole(commands)


def assert_whole(commands: Commands) -> None:
    for path in commands.blobs.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


# ---- Registries ---------------------------------------------------------------------------------------------------


@pytest.mark.real("docker-registry", "htpasswd")
def test_a_registry_that_wants_a_password(desk: Desk, place: Path) -> None:
    with docker_registry(place / "guarded", "ann", "open sesame") as port:
        name = f"127.0.0.1:{port}/team/mlp:1"
        config = place / "docker-config"
        config.mkdir()
        without = {"DOCKER_CONFIG": str(config)}
        desk.refuses("package", "push", "mlp:1", name, code=1, says=rf"127.0.0.1:{port}.*log ?in", **without)
        desk.refuses("package", "pull", name, code=1, says=rf"127.0.0.1:{port}.*log ?in", **without)
        (config / "config.json").write_text(
            json.dumps({"auths": {f"127.0.0.1:{port}": {"auth": "YW5uOndyb25nLXBhc3N3b3Jk"}}})  # ann:wrong-password
        )
        said = desk.refuses("package", "push", "mlp:1", name, code=1, says=rf"127.0.0.1:{port}", **without)
        assert "wrong-password" not in said
        assert "YW5u" not in said


@pytest.mark.real("docker-registry")
def test_a_registry_that_does_not_have_it(desk: Desk, registry: int) -> None:
    name = f"127.0.0.1:{registry}/nobody/nothing"
    desk.refuses("package", "pull", f"{name}:1", code=3, says=rf"{re.escape(name)}: .*no manifest 1")
    digest = f"sha256:{'0' * 64}"
    desk.refuses("package", "pull", f"{name}@{digest}", "-t", "x:1", code=3, says=digest)
    words = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--base", f"{name}:1")
    desk.refuses(*words, code=3, says=rf"{re.escape(name)}: .*no manifest 1")


def test_a_registry_that_is_not_running(desk: Desk) -> None:
    name = f"127.0.0.1:{free_port()}/team/mlp:1"
    for words in (("push", "mlp:1", name), ("pull", name)):
        desk.refuses("package", *words, code=1, says=rf"{name.partition('/')[0]}.*(refused|reach|connect)")


# ---- A full disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    folder = place / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder)
    yield folder
    unmount_below(place / "small")
    run("umount", folder)


@ROOT
@pytest.mark.real("mount", "umount")
def test_a_full_disk(site: Site, small_disk: Path) -> None:
    other = Commands(small_disk, small_disk / "workspace")
    other.register(site.models[1])
    words = ("package", "build", "-m", "mlp:1", "-t", "mlp:1", "--platform", "linux/amd64")
    assert_one_sentence(other.edgepack(*words, code=1).stderr, "no space left on the disk; free some space")
    assert_empty(other)
    target = small_disk / "mlp.tar"
    pushed = site.commands.edgepack("package", "push", "mlp:1", f"docker-archive:{target}", code=1)
    assert_one_sentence(pushed.stderr, "no space left on the disk; free some space")
    assert not target.exists()
    run("mount", "-o", "remount,size=200m", small_disk)
    built = other.edgepack(*words).json
    assert built["platforms"][0]["digest"] == image_of(site.built, "linux/amd64")["digest"]
    assert_whole(other)
