"""One workspace with images that are really built, once for all tests of this folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.images import Commands, Second, Site, write_model
from tests.integration.support.refusals import Desk
from tests.support.parts import docker_engine, docker_registry, remove_tree
from tests.support.running import run


# Of the package and not of the session: to remove all of it takes 10 to 30 s, which nothing else waits for as long as
# the other processes have tests to run.
@pytest.fixture(scope="package")
def place() -> Iterator[Path]:
    """A folder that every user may enter, with a path short enough for sockets; pytest's own is neither."""
    folder = Path(tempfile.mkdtemp(prefix="edi-"))
    folder.chmod(0o755)
    yield folder
    remove_tree(folder)


@pytest.fixture(scope="package")
def models(place: Path) -> dict[int, Path]:
    """Two versions of a model of one megabyte."""
    folder = place / "models"
    folder.mkdir()
    found = {}
    for version in (1, 2):
        (folder / str(version)).mkdir()
        found[version] = write_model(folder / str(version) / "mlp.onnx", version)
    return found


@pytest.fixture(scope="package")
def site(place: Path, models: dict[int, Path]) -> Site:
    commands = Commands(place / "site", place / "site/workspace")
    commands.register(models[1])
    commands.edgepack("key", "create", "-n", "test")
    commands.edgepack("key", "export", "test", "-o", place / "test.pub")
    return Site(commands, models, commands.build("mlp:1", "mlp:1"))


@pytest.fixture(scope="package")
def second(site: Site) -> Second:
    before = site.commands.blob_sizes()
    site.commands.register(site.models[2])
    built = site.commands.build("mlp:2", "mlp:2")
    return Second(built, before, site.commands.blob_sizes())


@pytest.fixture(scope="package")
def archive(site: Site) -> Path:
    """``mlp:1`` for both platforms as the one file that every tool takes."""
    path = site.folder / "mlp-1.tar"
    site.commands.edgepack("package", "push", "mlp:1", f"docker-archive:{path}")
    return path


@pytest.fixture(scope="package")
def layout(site: Site) -> Path:
    """``mlp:1`` for both platforms as an OCI layout."""
    path = site.folder / "mlp-1"
    site.commands.edgepack("package", "push", "mlp:1", f"oci:{path}:one")
    return path


@pytest.fixture(scope="package")
def rootfs(layout: Path, place: Path) -> dict[str, Path]:
    """The unpacked trees of the images, by architecture, as skopeo and umoci make them."""
    return {architecture: unpack(f"{layout}:one", place, architecture) for architecture in ("amd64", "arm64")}


@pytest.fixture(scope="package")
def newer(site: Site) -> Any:
    """``mlp:1`` on the base with Python 3.13, called ``newer:1``."""
    return site.commands.build("mlp:1", "newer:1", "--base", "debian13-python3.13")


@pytest.fixture(scope="package")
def newer_rootfs(site: Site, newer: Any, place: Path) -> dict[str, Path]:
    """The same for arm64, unpacked."""
    site.commands.edgepack("package", "push", newer["tag"], f"oci:{place}/newer-layout:one")
    return {"arm64": unpack(f"{place}/newer-layout:one", place, "arm64", "newer-")}


def unpack(image: str, place: Path, architecture: str, prefix: str = "") -> Path:
    single, bundle = place / f"{prefix}single-{architecture}", place / f"{prefix}unpacked-{architecture}"
    run("skopeo", "copy", "--override-arch", architecture, f"oci:{image}", f"oci:{single}:one")
    run("umoci", "unpack", "--image", f"{single}:one", bundle)
    return bundle / "rootfs"


@pytest.fixture(scope="package")
def registry(place: Path) -> Iterator[int]:
    """The port of an open registry."""
    with docker_registry(place / "registry") as port:
        yield port


@pytest.fixture(scope="package")
def engine() -> Iterator[str]:
    """The address of a Docker engine of our own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp(prefix="edi-d-"))
    with docker_engine(folder) as address:
        yield address
    remove_tree(folder)


@pytest.fixture(scope="package")
def desk(site: Site) -> Desk:
    """The same workspace, where a command must fail and change nothing."""
    return Desk(site)
