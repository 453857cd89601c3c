"""A read-only stick with bundles: a real file system, also one that is pulled out while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config.configuration import FolderSource
from edge_agent.sources.base import SourceGoneError
from tests.edge_agent.support.origins import SOON, Made, device, make, registry, sources, whole
from tests.edgepack.support.bundles import snapshot
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.running import run

pytestmark = pytest.mark.real("mkfs.ext4", "mount")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store", (12_000_000, 1000))


@pytest.fixture
def stick(made: Made, tmp_path: Path) -> Path:
    """The image of a stick with a bundle, and with what lies on sticks."""
    content = tmp_path / "content"
    content.mkdir()
    made.bundle(content / "churn 1.bundle")
    (content / "System Volume Information").mkdir()
    (content / "photo.jpg").write_bytes(b"\xff\xd8" * 1000)
    path = tmp_path / "stick.img"
    with path.open("wb") as file:
        file.truncate(24 << 20)
    run("mkfs.ext4", "-q", "-d", content, path)
    return path


@contextmanager
def mounted(stick: Path) -> Iterator[Path]:
    folder = stick.parent / "media"
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop,ro", stick, folder)
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)


def test_a_read_only_stick_gives_its_image_and_is_left_as_it_was(made: Made, stick: Path, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    with mounted(stick) as folder:
        before = snapshot(folder / "System Volume Information")
        sources(on, FolderSource(folder)).fetch(made.digest)
        assert snapshot(folder / "System Volume Information") == before
    assert whole(on, made)


def test_a_stick_that_is_pulled_out_half_way_is_named_and_the_rest_comes_from_elsewhere(
    made: Made, stick: Path, tmp_path: Path
) -> None:
    on = device(tmp_path / "dev", made)
    data = stick.read_bytes()

    def pull_out(done: int, total: int) -> None:
        if total // 4 < done < total:
            with stick.open("r+b") as file:  # what is read from here on is an error of the device
                file.truncate(1 << 20)

    with mounted(stick) as folder, running(Simulator()) as simulator:
        made.into(simulator)
        with pytest.raises(SourceGoneError, match=r"cannot be read \(Input/output error\); put it in again"):
            sources(on, FolderSource(folder)).fetch(made.digest, pull_out)
        there = sum(path.stat().st_size for path in on.store.unfinished())
        assert there > 2_000_000
        sources(on, FolderSource(folder), registry(simulator)).fetch(made.digest, names=["churn"])
        assert simulator.sent <= sum(layer.size for layer in made.layers) - there + 5000
    assert whole(on, made)

    # Put in again, it gives the rest itself.
    again = device(tmp_path / "again", made)
    stick.write_bytes(data)
    with mounted(stick) as folder, pytest.raises(SourceGoneError):
        sources(again, FolderSource(folder)).fetch(made.digest, pull_out)
    stick.write_bytes(data)
    with mounted(stick) as folder:
        sources(again, FolderSource(folder), caps=replace(SOON, stalled_seconds=5)).fetch(made.digest)
    assert whole(again, made)
