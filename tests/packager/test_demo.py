"""The demo looks at what it needs, its port too, before it works for half a minute."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import MissingPartError, UsageError
from packager import demo
from tests.support.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_another_port_is_taken_and_said_when_the_usual_one_is_in_use(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(demo, "PORT", taken)
    other = demo.usable_port(None, said.append)
    assert other != taken
    assert said == [f"port {taken} cannot be used (Address already in use); the service gets port {other}"]
    socket.create_server(("127.0.0.1", other)).close()


def test_a_port_that_was_asked_for_is_refused_at_once_when_it_is_in_use(taken: int, tmp_path: Path) -> None:
    from packager.commands.main import build_cli

    with pytest.raises(UsageError, match=rf"--port: port {taken} cannot be used .*; stop what listens there, or give"):
        build_cli().main(["demo", "--port", str(taken), "--folder", str(tmp_path / "work")], standalone_mode=False)
    assert not (tmp_path / "work").exists()


def test_a_free_port_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    wanted = free_port()
    assert demo.usable_port(wanted, said.append) == wanted
    monkeypatch.setattr(demo, "PORT", wanted)
    assert demo.usable_port(None, said.append) == wanted
    assert said == []


@pytest.mark.parametrize("package", ["sklearn", "docker", "uv"])
def test_the_extra_is_named_before_anything_is_done(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from packager.commands.main import build_cli

    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == package else name)
    wanted = rf"the Python package {package} is not installed; run: pip install 'edgepack\[all\]'"
    with pytest.raises(MissingPartError, match=wanted):
        build_cli().main(["demo", "--folder", str(tmp_path / "work")], standalone_mode=False)
    assert not (tmp_path / "work").exists()


def test_every_python_saves_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 writes pickles by another protocol than those before it, and so another image was made."""
    saved = set()
    for protocol in (4, 5):
        folder = tmp_path / str(protocol)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(pickle, "DEFAULT_PROTOCOL", protocol)
        monkeypatch.setattr(sys, "argv", ["train.py", "1", "1"])
        exec(compile(demo.TRAIN, "train.py", "exec"), {})  # noqa: S102
        saved.add((folder / "cancer-1.joblib").read_bytes())
    assert len(saved) == 1
