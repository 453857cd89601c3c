"""What cut and altered archives, registries that refuse, and a full disk get at the command line."""

from __future__ import annotations

import gzip
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support.images import Commands, Site, image_of
from tests.integration.support.refusals import Desk, assert_empty, assert_one_sentence, assert_whole
from tests.support.parts import docker_registry, unmount_below
from tests.support.ports import free_port
from tests.support.running import run

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
