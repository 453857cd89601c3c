"""The scripts of all commands are installed with every extra: one that lacks its packages says which extra has them."""

from __future__ import annotations

import sys

import pytest

from tests.support.running import Done, finish, python, run

RUN = """
import sys
sys.modules[{package!r}] = None
sys.argv[:] = {words!r}
from {room}.__main__ import command
command()
"""
# Packages that are needed by the time that a command is chosen, and by what it does.
LACKS = [
    ("click", "packager", "packager", ["edgepack", "model", "list"]),
    ("click", "edge_agent", "agent", ["edge-agent", "status"]),
    ("packaging", "packager", "packager", ["edgepack", "environment", "show", "python-minimal"]),
    ("orjson", "edge_server", "serve", ["edge-server", "--model", "model.onnx"]),
]


def lacking(package: str, room: str, words: list[str]) -> Done:
    """Run a command where ``package`` is not installed."""
    code = RUN.format(package=package, words=words, room=room)
    return finish(sys.executable, "-c", code)


@pytest.mark.parametrize(("package", "room", "extra", "words"), LACKS)
def test_a_command_without_its_packages_names_the_extra(package: str, room: str, extra: str, words: list[str]) -> None:
    done = lacking(package, room, words)
    wanted = f"{words[0]}: the Python package {package} is not installed; run: pip install 'edgepack[{extra}]'\n"
    assert (done.code, done.stderr) == (1, wanted)


def test_the_command_for_keys_without_its_packages_names_the_extra() -> None:
    code = (
        "import runpy, sys; sys.modules['orjson'] = None; sys.argv[:] = ['security', 'keys', 'new', 'keys.json']\n"
        "runpy.run_module('edge_server.security', run_name='__main__')"
    )
    done = finish(sys.executable, "-c", code)
    wanted = "edge_server.security: the Python package orjson is not installed; run: pip install 'edgepack[serve]'\n"
    assert (done.code, done.stderr) == (1, wanted)


def test_a_module_that_a_package_lacks_is_no_missing_package() -> None:
    words = ["edgepack", "environment", "show", "python-minimal"]
    done = lacking("packager.environments.requirements_text", "packager", words)
    assert done.code == 1
    assert "unexpected ModuleNotFoundError" in done.stderr


def test_importing_the_rooms_ends_nothing_where_click_is_missing() -> None:
    code = "import sys; sys.modules['click'] = None; import packager.__main__, packager.commands, edge_agent.__main__"
    python(code)


@pytest.mark.parametrize("room", ["packager", "edge_agent", "edge_server"])
def test_a_room_is_run_by_its_name(room: str) -> None:
    assert run(sys.executable, "-m", room, "--help").lower().startswith("usage: ")
