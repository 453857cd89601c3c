"""The resident agent over container runtimes: what ends, what an engine loses, and what outlives the agent."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent.device import Device
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edge_agent.support.agent import Agent, Images
from tests.edge_agent.support.engines import podman_engine
from tests.edge_agent.support.resident import Resident
from tests.edge_agent.support.runtimes import build_image, copy_store
from tests.support.http_client import ask
from tests.support.parts import docker_engine
from tests.support.running import finish, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
KINDS = [
    pytest.param("crun", marks=pytest.mark.real("crun", "mmdebstrap")),
    pytest.param("docker", marks=[pytest.mark.real("dockerd", "mmdebstrap", "ip"), pytest.mark.whole]),
    pytest.param("podman", marks=[pytest.mark.real("podman", "runc", "mmdebstrap"), pytest.mark.whole]),
]


@pytest.fixture(params=KINDS)
def agent(
    request: pytest.FixtureRequest, base_store: tuple[Store, Layer], free_port: Callable[[], int]
) -> Iterator[Resident]:
    """An agent over the runtime, on a device that holds an image."""
    # A socket's path may have 107 bytes, which pytest's folders exceed.
    folder = Path(tempfile.mkdtemp(prefix="edp-a-"))
    folder.chmod(0o755)
    with ExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = {}
        if request.param != "crun":
            engine = docker_engine if request.param == "docker" else podman_engine
            (folder / "engine").mkdir()
            environment["DOCKER_HOST"] = parts.enter_context(engine(folder / "engine"))
        (folder / "device").mkdir(mode=0o711)
        store = copy_store(base_store[0], folder / "device" / "store")
        digests = {"v1": build_image(store, base_store[1], "v1")}
        device = Agent(folder / "device", Images(store, create_key(), folder, digests), free_port())
        kind = "crun" if request.param == "crun" else "docker"
        made = Resident(device, kind, {"allow_unsigned_images": True}, environment)
        try:
            yield made
        finally:
            made.close()
            with pytest.MonkeyPatch.context() as patch:
                for name, text in environment.items():
                    patch.setenv(name, text)
                Device(device.root, kind).runtime_for(None).stop("churn", 0.0)


def restarts(agent: Resident, count: int) -> None:
    agent.wait(lambda: agent.of()["restarts"] == count and agent.of()["state"] == "Healthy")


def test_a_container_is_started_again_and_outlives_the_agent(agent: Resident) -> None:
    agent.start()
    agent.put(agent.service(restart="on-failure"))
    agent.wait_for("Healthy")

    # It is ended, by whoever may: by the engine's own command, or by its process.
    if agent.runtime == "docker":
        engine = agent.environment["DOCKER_HOST"]
        run("docker", "--host", engine, "kill", "edgepack-churn")
    else:
        run("crun", "--root", agent.device.root / "crun", "kill", "edgepack-churn", "KILL")
    restarts(agent, 1)

    # The agent is killed, and finds the container running.
    agent.end(signal.SIGKILL)
    assert ask(agent.device.port, "GET", "/").status == 200
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 2 and agent.of()["state"] == "Healthy")
    assert agent.of()["restarts"] == 0

    # The container is gone, which it had not asked for.
    if agent.runtime == "docker":
        run("docker", "--host", engine, "rm", "--force", "edgepack-churn")
    else:
        # The agent may be clearing it away at the same time, so that there is nothing left to delete.
        finish("crun", "--root", agent.device.root / "crun", "delete", "--force", "edgepack-churn")
    restarts(agent, 1)
    assert ask(agent.device.port, "GET", "/").status == 200
