"""The commands and the resident agent over a real Docker engine and HAProxy: updates, rollbacks, and what is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.device import Device
from edge_agent.runtimes.haproxy.process import HaproxyProcess
from edge_agent.runtimes.processes import below, living
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edge_agent.support.agent import Agent, Images
from tests.edge_agent.support.callers import Callers
from tests.edge_agent.support.resident import ROOT, Resident
from tests.edge_agent.support.runtimes import build_image, copy_store
from tests.support.http_client import ask
from tests.support.parts import docker_engine
from tests.support.running import run
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.real("dockerd", "haproxy", "mmdebstrap", "ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def agent(base_store: tuple[Store, Layer], free_port: Callable[[], int]) -> Iterator[Resident]:
    """An agent over Docker, on a device that holds images."""
    # A socket's path may have 107 bytes, which pytest's folders exceed.
    folder = Path(tempfile.mkdtemp(prefix="edp-s-"))
    folder.chmod(0o755)
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "engine").mkdir()
        address = parts.enter_context(docker_engine(folder / "engine"))
        (folder / "device").mkdir(mode=0o711)
        store = copy_store(base_store[0], folder / "device" / "store")
        digests = {text: build_image(store, base_store[1], text) for text in ("v1", "v2")}
        digests["crash"] = build_image(store, base_store[1], "crash", env={"CRASH": "7"})
        device = Agent(folder / "device", Images(store, create_key(), folder, digests), free_port())
        made = Resident(device, "docker", {"allow_unsigned_images": True}, {"DOCKER_HOST": address})
        try:
            yield made
        finally:
            if made.process is not None:
                made.end(signal.SIGKILL)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DOCKER_HOST", address)
                runtime = Device(device.root, "docker").runtime_for(None)
                for name in ("churn", "fraud"):
                    runtime.stop(name, 0.0)
            made.close()


def command(agent: Resident, *words: str, code: int = 0) -> str:
    """What a command of the device answers, or its error."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "--state-dir", str(agent.device.root), "--runtime", "docker", *words],
        env=agent.device.environment(PYTHONPATH=str(ROOT), **agent.environment), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def apply(agent: Resident, image: str, code: int = 0, **more: Any) -> str:
    file = agent.folder / "desired.json"
    service = agent.service(image, health={"timeout_seconds": 20}, **more)
    file.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service]}))
    return command(agent, "apply", str(file), "--allow-unsigned", code=code)


def answer(port: int) -> str:
    body = ask(port, "GET", "/").body.decode()
    return "v2" if "'v2'" in body else "v1"


def containers(agent: Resident) -> list[str]:
    return run("docker", "--host", agent.environment["DOCKER_HOST"], "ps", "-a", "--format", "{{.Names}}").split()


def haproxy(agent: Resident) -> int | None:
    found = HaproxyProcess(agent.device.root / "router", "").running()
    return None if found is None else found.pid


def kill_with_jobs(agent: Resident) -> None:
    """SIGKILL for the agent and all its jobs, in the middle of whatever they do."""
    assert agent.process is not None
    pids = [agent.process.pid, *below([agent.process.pid], living())]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    agent.process.wait()
    agent.process = None


def test_updates_rollbacks_and_restarts_fail_no_request(agent: Resident) -> None:
    port = agent.device.port
    apply(agent, "v1")
    with Callers(lambda: answer(port), 0.06) as callers:
        apply(agent, "v2")
        command(agent, "rollback", "churn", "--allow-unsigned")
        assert "rolled back" in apply(agent, "crash", code=1)
        command(agent, "restart", "churn")
    assert ({*callers.answers}, answer(port)) == ({"v1", "v2"}, "v1")
    assert containers(agent) == ["edgepack-churn"]

    # Without an agent that runs, the next command starts the router again.
    apply(agent, "v1")
    router = haproxy(agent)
    assert router is not None
    os.kill(router, signal.SIGKILL)
    wait_until(lambda: haproxy(agent) is None)
    found = json.loads(command(agent, "status"))["services"][0]
    assert (found["state"], "the router that has its port does not run" in found["reason"]) == ("Unhealthy", True)
    apply(agent, "v1")
    assert answer(port) == "v1"
    command(agent, "remove", "churn")
    assert (haproxy(agent), containers(agent)) == (None, [])


@pytest.mark.whole
def test_whatever_is_killed_a_version_answers_and_the_agent_goes_on(
    agent: Resident, free_port: Callable[[], int]
) -> None:
    port, other = agent.device.port, free_port()
    fraud = agent.service("v2", "fraud", other)
    agent.start()
    agent.put(agent.service("v1"), fraud)
    agent.wait_for("Healthy")
    agent.wait_for("Healthy", "fraud")
    assert (answer(port), answer(other)) == ("v1", "v2")

    # HAProxy is killed: it is there again, and nothing was started anew for it.
    before = run("docker", "--host", agent.environment["DOCKER_HOST"], "ps", "-q")
    router = haproxy(agent)
    assert router is not None
    os.kill(router, signal.SIGKILL)
    agent.wait(lambda: haproxy(agent) not in (None, router))
    assert (answer(port), answer(other)) == ("v1", "v2")

    # The agent and its jobs are killed in a switch, at several moments of it.
    for number, delay in enumerate((0.0, 0.3, 0.8, 1.2)):
        wanted = ("v2", "v1")[number % 2]
        with Callers(lambda: answer(other), 0.06), Callers(lambda: answer(port), 0.06):
            agent.put(agent.service(wanted), fraud)
            agent.wait(lambda: "edgepack-churn.next" in containers(agent))
            time.sleep(delay)
            kill_with_jobs(agent)
            agent.start()
            agent.wait(lambda wanted=wanted: answer(port) == wanted)  # type: ignore[misc]
            agent.wait(lambda: sorted(containers(agent)) == ["edgepack-churn", "edgepack-fraud"])
            agent.wait_for("Healthy")
    after = run("docker", "--host", agent.environment["DOCKER_HOST"], "ps", "-q")
    assert {*before.split()} & {*after.split()}  # the other one was never touched

    # As after a boot: nothing runs any more.
    kill_with_jobs(agent)
    router = haproxy(agent)
    assert router is not None
    os.kill(router, signal.SIGKILL)
    run("docker", "--host", agent.environment["DOCKER_HOST"], "kill", "edgepack-churn", "edgepack-fraud")
    agent.start()
    agent.wait(lambda: haproxy(agent) is not None)
    agent.wait_for("Healthy")
    agent.wait_for("Healthy", "fraud")
    assert (answer(port), answer(other)) == ("v1", "v2")
