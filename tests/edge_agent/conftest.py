"""A store with a small image, and the engines that run it, each started here and stopped by its process id."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from tests.edge_agent.support.engines import podman_engine
from tests.support.parts import docker_engine


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A temporary folder that every user may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="edgepack-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Layer]:
    """A store that holds a base layer: a Debian tree with nothing but Python's core."""
    folder = tmp_path_factory.mktemp("base")
    store = Store.create(folder / "store")
    raw = folder / "raw.tar"
    suite = ["mmdebstrap", "--quiet", "--variant=extract", "--include=python3.11-minimal", "bookworm", str(raw)]
    subprocess.run(suite, check=True, capture_output=True, timeout=300)
    with store.writer() as blob:
        with tarfile.open(raw) as source, tarfile.open(mode="w|", fileobj=blob, format=tarfile.PAX_FORMAT) as out:
            for member in source:
                if not member.ischr():
                    out.addfile(member, source.extractfile(member) if member.isreg() else None)
        digest, size = blob.commit()
    raw.unlink()
    notes = {mediatypes.LAYER_KIND: "base", mediatypes.LAYER_UNPACKED: str(size)}
    return store, Layer(Descriptor(mediatypes.LAYER, digest, size, notes), digest, size)


@pytest.fixture(scope="module")
def dockerd() -> Iterator[str]:
    """The address of a Docker engine of our own, with a network bridge of its own."""
    # A socket's path may have 107 bytes, which pytest's folders exceed.
    folder = Path(tempfile.mkdtemp(prefix="edp-d-"))
    try:
        with docker_engine(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def podman_service() -> Iterator[str]:
    """The address of Podman's Docker-compatible socket."""
    folder = Path(tempfile.mkdtemp(prefix="edp-p-"))
    try:
        with podman_engine(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)
