"""Every example does what its README says, by the commands that stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_client import listens
from tests.support.parts import started
from tests.support.running import run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = "127.0.0.1:5001"


def blocks(name: str) -> list[tuple[str, str]]:
    """The blocks of code of an example's README: language and text, without the installation."""
    found = _BLOCK.findall((EXAMPLES / name / "README.md").read_text("utf-8"))
    return [(language, text) for language, text in found if not text.startswith("pip install ")]


def environment(folder: Path, port: int) -> dict[str, str]:
    """What the commands of an example see: this environment's programs, folders of their own, a free port, no proxy."""
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(("EDGEPACK_", "AML_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    own = {"EDGEPACK_WORKSPACE": str(folder / "workspace"), "EDGEPACK_CACHE": str(folder / "cache")}
    return {**kept, **own, "PATH": path, "EDGEPACK_PORT": str(port), "EDGEPACK_HOST": "127.0.0.1", "no_proxy": "*"}


def shell(text: str, folder: Path, env: Mapping[str, str]) -> str:
    """Run a block as a user would paste it; it must succeed."""
    text = text.replace(_PORT, f"127.0.0.1:{env['EDGEPACK_PORT']}")
    return run("bash", "-euo", "pipefail", "-c", text, cwd=folder, env=env)


@contextmanager
def server(text: str, folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    """The server that a block starts, from when it is ready to the end of the block; stopped by its process id."""
    log = folder / "server.log"
    argv = ["bash", "-c", f"exec {text}"]
    with started(argv, log, lambda: listens(int(env["EDGEPACK_PORT"])), env, folder) as daemon:
        yield
        daemon.terminate()
        assert daemon.wait(60) == 0, log.read_text()


@pytest.mark.real("bash", "curl")
@pytest.mark.parametrize("name", NAMES)
def test_an_example_answers_what_its_readme_says(name: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    folder = tmp_path / "with a space" / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    env = environment(tmp_path, free_port())
    told = blocks(name)
    starts = [at for at, (_, text) in enumerate(told) if text.startswith("edge-server ")]
    assert len(starts) == 1
    for language, text in told[: starts[0]]:
        assert language == "sh"
        shell(text, folder, env)
    asked: list[str] = []  # the block before, whose variables the next one has in the same terminal
    answers: list[tuple[Any, Any]] = []
    with server(told[starts[0]][1], folder, env):
        for language, text in told[starts[0] + 1 :]:
            if language == "sh":
                asked.append(text)
            else:
                printed = shell("\n".join(asked), folder, env)
                answers.append((json.loads(printed.strip().splitlines()[-1]), json.loads(text)))
    assert answers
    for found, expected in answers:
        assert found == (expected if not _has_fractions(expected) else pytest.approx(expected, rel=1e-3))


def _has_fractions(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, float) for one in value)


def test_the_index_lists_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text("utf-8")
    assert re.findall(r"\| \[.+?\]\((.+?)/README\.md\) \|", index) == NAMES
