"""What the demo prints at its end can be typed as it stands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from edge_agent.commands.main import cli as agent
from packager.commands.main import build_cli
from packager.next_steps import next_steps
from tests.support.typed import typist


@pytest.mark.parametrize("kept", [False, True])
def test_every_command_that_comes_next_is_one(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    lines = next_steps(tmp_path / "with space" if kept else None)
    assert lines[0] == "Next:"
    commands = {"edgepack": build_cli, "edge-agent": lambda: agent}
    for line in lines[1:]:
        name, *words = shlex.split(line, comments=True)
        ended = typist(commands[name], name, monkeypatch, capfd)(*words, "--help")
        assert (ended.code, ended.err) == (0, ""), line
    assert ("--folder" in "".join(lines)) is not kept


def test_the_commands_are_put_on_the_path_where_they_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    own = tmp_path / "an environment" / "bin"
    own.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    assert next_steps(None)[1].startswith(f"  export PATH='{own}':")
    (own / "activate").touch()
    assert next_steps(None)[1].startswith(f"  . '{own / 'activate'}' ")
