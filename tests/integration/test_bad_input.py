"""What bad models, platforms and bases get at the command line."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from tests.integration.support.images import Site, image_of
from tests.integration.support.refusals import Desk

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
        (
            lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "is a pointer of Git LFS, not the file",
        ),
        (lambda data: bytes(1000), "is not an ONNX model"),
    ],
)
def test_a_corrupt_onnx_file(desk: Desk, place: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    file = place / "corrupt.onnx"
    file.write_bytes(damage(desk.site.models[1].read_bytes()))
    desk.refuses("model", "register", "-n", "corrupt", "-p", file, code=2, says=rf"corrupt\.onnx: .*{says}")


def test_models_and_versions_that_are_not_there(desk: Desk) -> None:
    build = ("package", "build", "-t", "x:1")
    desk.refuses(*build, "-m", "absent", code=3, says="model absent not found; registered are mlp")
    desk.refuses(*build, "-m", "mlp:99", code=3, says="model mlp:99 not found; its versions are 1")
    desk.refuses(*build, "-m", "mlp:one", code=2, says="'one' is not a model version")


# ---- Platforms and bases ------------------------------------------------------------------------------------------


def test_a_platform_that_nothing_is_built_for_is_named(desk: Desk) -> None:
    build = ("package", "build", "-m", "mlp:1", "-t", "x:1", "--platform")
    desk.refuses(*build, "linux/arm/v7", code=2, says=r"images cannot be built for linux/arm/v7; build for linux/amd64")
    desk.refuses(*build, "linux/amd64,linux/arm/v7", code=2, says="linux/arm/v7")
    desk.refuses(*build, "windows/amd64", code=2, says="windows/amd64")
    desk.refuses(*build, "amd64", code=2, says="'amd64' is not a platform; write it as linux/amd64")
    desk.refuses(*build, "linux/amd64,linux/amd64", code=2, says="platform is listed twice")


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
    desk.refuses(
        *build, lying, code=1, says=r"base-lying.* its binaries are built for arm64, not for linux/amd64; give"
    )


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
