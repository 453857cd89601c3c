"""Bundles in parts on a device: in the folder of a source, and in an inbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.configuration import Configuration, FolderSource
from edge_agent.device import Device
from edge_agent.jobs import import_
from edge_agent.jobs.task import Task
from edgepack.bundle.media import beside
from edgepack.bundle.write_parts import write_to_folder
from edgepack.errors import MissingPartsError, NotFoundError
from tests.edge_agent.support.origins import Made, device, make, sources, whole


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture
def stick(made: Made, tmp_path: Path) -> Path:
    name = next(iter(made.store.tags()))
    report = write_to_folder(made.store, [name], tmp_path / "stick", key=made.key, part_size=250_000)
    assert len(report.parts) > 2
    return tmp_path / "stick"


def test_a_source_gives_an_image_from_parts(made: Made, stick: Path, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    sources(on, FolderSource(stick)).fetch(made.digest)
    assert whole(on, made)


def test_a_source_without_a_part_gives_what_it_has_and_names_the_part(made: Made, stick: Path, tmp_path: Path) -> None:
    gone = sorted(stick.iterdir())[1]
    data = gone.read_bytes()
    gone.unlink()
    on = device(tmp_path / "dev", made)
    with pytest.raises(NotFoundError, match="it lacks part 2"):
        sources(on, FolderSource(stick)).fetch(made.digest)
    gone.write_bytes(data)
    sources(on, FolderSource(stick)).fetch(made.digest)
    assert whole(on, made)


def test_an_inbox_takes_parts_as_they_come(made: Made, stick: Path, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    on.trust.add(made.key.public.to_pem())
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = sorted(stick.iterdir())
    for path in files[:-1]:
        (inbox / path.name).write_bytes(path.read_bytes())
        with pytest.raises(MissingPartsError):
            bring(on, inbox / path.name)
        assert on.store.tags() == {}
        if path == files[0]:
            (inbox / path.name).unlink()  # what came is kept, from another stick
    (inbox / files[-1].name).write_bytes(files[-1].read_bytes())
    assert beside(inbox / files[-1].name) == tuple(inbox / path.name for path in files[1:])
    bring(on, inbox / files[-1].name)
    assert whole(on, made)


def bring(on: Device, path: Path) -> None:
    import_.run(Task(Configuration(device="d", state_dir=on.root), (), {"path": str(path)}))
