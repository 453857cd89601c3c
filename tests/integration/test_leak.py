"""A real scoring server whose entry script leaks, at its memory limit, under the resident agent: replaced, and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.edge_agent.support.engines import podman_engine
from tests.integration.support.images import Commands
from tests.support.http_client import ask
from tests.support.parts import docker_engine, remove_tree
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs control groups")
RUNTIMES = [
    "process",
    pytest.param("crun", marks=pytest.mark.real("crun", "mmdebstrap")),
    pytest.param("docker", marks=[pytest.mark.real("dockerd", "ip"), pytest.mark.whole]),
    pytest.param("podman", marks=[pytest.mark.real("podman", "runc"), pytest.mark.whole]),
]
# Keeps what each request asks it to.
SCRIPT = """
import json
KEPT = []
def init():
    pass
def run(data):
    KEPT.append(b"x" * (json.loads(data)["mb"] << 20))
    return len(KEPT)
"""
LIMIT = 160 << 20


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that services may enter."""
    folder = Path(tempfile.mkdtemp(prefix="edl-"))
    folder.chmod(0o755)
    yield folder
    remove_tree(folder)


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    """The server with the script, signed."""
    commands = Commands(place, place / "workspace")
    (place / "code").mkdir()
    (place / "code/score.py").write_text(SCRIPT)
    (place / "nothing.bin").write_bytes(b"nothing")
    commands.register(place / "nothing.bin", "leaky")
    words = ("--entry-script", "score.py", "--source-directory", place / "code")
    commands.build("leaky:1", "leak:1", *words, platform="linux/amd64")
    commands.edgepack("key", "create", "-n", "test")
    commands.edgepack("key", "export", "test", "-o", place / "test.pub")
    commands.edgepack("bundle", "create", "leak:1", "-o", place / "leak.bundle", "--key", "test")
    return place / "leak.bundle"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_leak_to_the_limit_is_told_while_its_server_goes_on(runtime: str, bundle: Path, place: Path) -> None:
    with ExitStack() as parts:
        folder = Path(tempfile.mkdtemp(prefix=f"{runtime}-", dir=place))
        folder.chmod(0o755)
        env, kind = {}, runtime
        if runtime in ("docker", "podman"):
            engine = docker_engine if runtime == "docker" else podman_engine
            (folder / "engine").mkdir()
            env["DOCKER_HOST"], kind = parts.enter_context(engine(folder / "engine")), "docker"
        commands, port = Commands(folder, folder / "unused", env), free_port()

        def agent(*words: object, code: int = 0) -> Any:
            return commands.agent(kind, *words, code=code)

        def service(name: str = "leaky") -> Any:
            found = json.loads((commands.device / "state/reported.json").read_bytes())["services"]
            return next(one for one in found if one["name"] == name)

        agent("trust", place / "test.pub")
        agent("import", bundle)
        parts.callback(agent, "remove", "leaky")
        agent("deploy", "leak:1", "--name", "leaky", "--port", port, "--memory", LIMIT)
        parts.enter_context(running(commands, kind))
        leak(port)
        wait_until(lambda: service()["memory_kills"], 60)
        found = service()
        assert (found["state"], found["restarts"], found["status"]) == ("Healthy", 0, 200)
        assert found["reason"].startswith("it reached its memory limit of 160 MiB, and a process of it was killed,")
        assert "leak in its entry script" in found["reason"]
        assert "memory limit of 160 MiB" in (commands.folder / "agent.log").read_text()
        # Seen without the agent too, and not held against what is started anew.
        seen = agent("status").json["services"][0]
        assert (seen["state"], seen["memory_kills"]) == ("Healthy", found["memory_kills"])
        assert seen["reason"] == found["reason"]
        agent("restart", "leaky")
        assert agent("status").json["services"][0]["memory_kills"] == 0

        # Far too little to start with: back to what ran.
        done = agent("deploy", "leak:1", "--name", "leaky", "--memory", "12M", code=1)
        assert "it ran out of memory: it used all of 12 MiB, and was killed" in done.stderr
        assert ask(port, "GET", "/").status == 200


def leak(port: int) -> None:
    """Let it keep more than it may, until a worker of it is killed."""
    for _ in range(8):
        if ask(port, "POST", "/score", json.dumps({"mb": 40}), {"Content-Type": "application/json"}).status == 500:
            return
    pytest.fail("nothing was killed")


@contextmanager
def running(commands: Commands, kind: str) -> Iterator[None]:
    """``edge-agent run`` of the device."""
    log = commands.folder / "agent.log"
    words = ["-m", "edge_agent", "--state-dir", str(commands.device), "--runtime", kind, "run"]
    with (
        log.open("ab") as out,
        subprocess.Popen([sys.executable, *words], stderr=out, env=commands.environment()) as it,
    ):
        wait_until(lambda: "watching" in log.read_text(), 60)
        try:
            yield
        finally:
            it.terminate()
