"""The resident agent over container runtimes: what ends, what an engine loses, and what outlives the agent."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent.device import Device
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edge_agent.support.agent import ROOT, Agent, Images
from tests.edge_agent.support.engines import podman_engine
from tests.edge_agent.support.resident import Resident
from tests.edge_agent.support.runtimes import build_image, copy_store
from tests.support.http_client import ask
from tests.support.parts import docker_engine
from tests.support.running import finish, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# What the service tells of its secret, of what it was given of the device, and of where it may write.
PROBE = "lambda: (read('/run/secrets/token'), read('/data/given'), writable('/data'), writable('/'))"
KINDS = [
    pytest.param("crun", marks=pytest.mark.real("crun", "mmdebstrap")),
    pytest.param("runc", marks=pytest.mark.real("runc", "mmdebstrap")),
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
        if request.param == "runc":
            environment["PATH"] = str(programs(folder / "programs", "runc", "mount", "umount"))
        elif request.param != "crun":
            engine = docker_engine if request.param == "docker" else podman_engine
            (folder / "engine").mkdir()
            environment["DOCKER_HOST"] = parts.enter_context(engine(folder / "engine"))
        (folder / "device").mkdir(mode=0o711)
        store = copy_store(base_store[0], folder / "device" / "store")
        env = {"PYTHONPATH": "/opt/edgepack/server", "PROBE": PROBE}
        digests = {name: build_image(store, base_store[1], name, env=env) for name in ("v1", "v2")}
        device = Agent(folder / "device", Images(store, create_key(), folder, digests), free_port())
        kind = "crun" if request.param in ("crun", "runc") else "docker"
        made = Resident(device, kind, {"allow_unsigned_images": True}, environment)
        try:
            yield made
        finally:
            made.close()
            with pytest.MonkeyPatch.context() as patch:
                for name, text in environment.items():
                    patch.setenv(name, text)
                Device(device.root, kind).runtime_for(None).stop("churn", 0.0)


def programs(folder: Path, *names: str) -> Path:
    """A folder with these programs alone, so that no other is found."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


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
        run(program(agent), "--root", agent.device.root / program(agent), "kill", "edgepack-churn", "KILL")
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
        finish(program(agent), "--root", agent.device.root / program(agent), "delete", "--force", "edgepack-churn")
    restarts(agent, 1)
    assert ask(agent.device.port, "GET", "/").status == 200


def program(agent: Resident) -> str:
    return next(one for one in ("crun", "runc") if (agent.device.root / one).is_dir())


def test_secrets_mounts_and_the_quota_of_a_log_hold_over_a_change_and_a_rollback(agent: Resident) -> None:
    (agent.folder / "data").mkdir()
    (agent.folder / "data" / "given").write_text("of the device")
    (agent.device.root / "secrets").mkdir(mode=0o700)
    (agent.device.root / "secrets" / "token").write_text("secret")
    (agent.device.root / "secrets" / "token").chmod(0o600)
    agent.start()
    given = {
        "secrets": ["token"], "mounts": [{"source": str(agent.folder / "data"), "target": "/data"}],
        "log_bytes": 65_536, "env": {"CHATTER": "20000"},
    }  # fmt: skip
    for image in ("v1", "v2"):
        agent.put(agent.service(image, **given))
        agent.wait(lambda image=image: serves(agent, image))
        told(agent, image)

    command = [sys.executable, "-m", "edge_agent", "--state-dir", agent.device.root, "--runtime", agent.runtime]
    env = agent.device.environment(PYTHONPATH=str(ROOT), **agent.environment)
    run(*command, "rollback", "churn", "--allow-unsigned", env=env)
    agent.wait(lambda: serves(agent, "v1"))
    told(agent, "v1")
    # The quota holds in whole parts: an engine keeps what it cuts off until it has written the next one.
    assert 0 < len(run(*command, "logs", "churn", "-n", "100000", env=env)) <= 2 * 65_536


def serves(agent: Resident, image: str) -> bool:
    return (agent.of()["state"], agent.of().get("digest")) == ("Healthy", agent.service(image)["image"])


def told(agent: Resident, image: str) -> None:
    answer = ast.literal_eval(ask(agent.device.port, "GET", "/").body.decode())
    assert (answer["text"], answer["probe"]) == (image, ("secret", "of the device", False, False))
