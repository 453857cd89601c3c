"""A store with a small image, and the engines that run it, each started here and stopped by its process id."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.runtimes import interpreter
from edgepack.host.files import locked
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from tests.edge_agent.support.engines import podman_engine
from tests.edge_agent.support.runtimes import debian_base
from tests.support.parts import docker_engine
from tests.support.sampling import WHOLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what came of each case of the crash matrix, where all of it was run."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, [])]
    rows = [str(value) for one in reports for name, value in one.user_properties if name == "row"]
    if rows and WHOLE:
        from tests.edge_agent.support.crash_matrix import table

        terminalreporter.section("crash matrix")
        for line in table(rows):
            terminalreporter.write_line(line)


_asked: dict[tuple[str, tuple[int, int] | None, int], int] = {}
_ask = interpreter._minor_of


@pytest.fixture(autouse=True)
def pythons_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Pythons of this machine are asked for their version once, since a fork of all that is here does so."""

    def minor_of(python: str, user: tuple[int, int] | None) -> int | None:
        if python.startswith(tempfile.gettempdir()) or not Path(python).exists():
            return _ask(python, user)
        key = (python, user, Path(python).stat().st_ctime_ns)
        if key not in _asked and (found := _ask(python, user)) is not None:
            _asked[key] = found
        return _asked.get(key)

    monkeypatch.setattr(interpreter, "_minor_of", minor_of)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A temporary folder that every user may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="edgepack-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Layer]:
    """A store that holds a base layer: a Debian tree with nothing but Python's core.

    All processes of a run have the same, which takes seconds to make: nothing is added to it or removed.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "debian-base"
    with locked(folder.with_suffix(".lock")):
        made = folder / "made.json"
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _, layer = debian_base(folder)
            made.write_text(json.dumps(layer.to_json()))
        return Store.open_existing(folder / "store"), Layer.from_json(json.loads(made.read_text()))


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
