"""``edge-agent run`` with real processes: what it starts, starts again and leaves alone, and how it is told to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Resident]:
    """A device that holds the images, and its agent, not started yet."""
    yield from resident(images, tmp_path)


@pytest.fixture(scope="module")
def home(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    """An agent that runs, with a service that is always started again, and one that never is."""
    for made in resident(images, tmp_path_factory.mktemp("home")):
        made.start()
        health = {"interval_seconds": 0.2, "failures": 2, "timeout_seconds": 30}
        made.put(
            made.service(health=health), made.service("v2", "fraud", free_port(), restart="never"),
        )  # fmt: skip
        made.wait_for("Healthy")
        made.wait_for("Healthy", "fraud")
        yield made


def resident(images: Images, folder: Path) -> Iterator[Resident]:
    device = Agent(folder / "device", images, free_port())
    device.take_in("v1", "v2")
    made = Resident(device)
    yield made
    made.close()


def test_services_are_started_again_and_outlive_the_agent(agent: Resident) -> None:
    port = free_port()
    agent.start()
    agent.put(agent.service(), agent.service("v2", "fraud", port))
    agent.wait_for("Healthy")
    agent.wait_for("Healthy", "fraud")
    first, other = agent.pid_of(), agent.pid_of(port)

    # One ends: it is started again at once, and the other is left alone.
    os.kill(first, signal.SIGKILL)
    agent.wait(lambda: agent.of()["restarts"] == 1 and agent.of()["state"] == "Healthy")
    second = agent.pid_of()
    assert second != first
    assert "was ended by the signal SIGKILL" in agent.of()["reason"]

    # The agent is killed, and started again: the services did not notice.
    agent.end(signal.SIGKILL)
    assert agent.pid_of() == second
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 2 and agent.of()["state"] == "Healthy")
    assert (agent.pid_of(), agent.pid_of(port)) == (second, other)

    # So it is by SIGTERM. What ended while there was no agent runs as soon as there is one.
    assert agent.end() == 0
    assert agent.pid_of() == second
    os.kill(second, signal.SIGKILL)
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 3 and agent.of()["state"] == "Healthy")
    assert agent.pid_of() != second

    # As after a loss of power everything is gone, and everything is there again.
    before = {agent.pid_of(), agent.pid_of(port)}
    agent.kill_everything()
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 4)
    agent.wait_for("Healthy")
    agent.wait_for("Healthy", "fraud")
    assert not before & {agent.pid_of(), agent.pid_of(port)}


def test_a_second_agent_is_refused_and_names_the_first(home: Resident) -> None:
    assert home.process is not None

    done = home.device.start("run", "--config", str(home.file))
    _, said = done.communicate(timeout=60)

    assert done.returncode == 1
    assert f"an agent runs for this folder already: process {home.process.pid} (" in said
    assert "edge_agent.daemon --configuration" in said
    assert home.process.poll() is None


def test_what_a_service_wrote_is_shown_and_followed(home: Resident) -> None:
    assert home.device.run("logs", "churn").out == "starting v1\n"
    assert home.device.run("logs", "churn", "--lines", "0").out == ""
    unknown = home.device.run("logs", "chrun")
    assert (unknown.code, "churn" in unknown.err) == (3, True)

    following = home.device.start("logs", "churn", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "starting v1\n"
    restarts = home.of()["restarts"]
    os.kill(home.pid_of(), signal.SIGKILL)
    assert following.stdout.readline() == "starting v1\n", "of the next run"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) in (0, 130)
    following.communicate()
    home.wait(lambda: home.of()["restarts"] == restarts + 1 and home.of()["state"] == "Healthy")


def test_a_hang_and_a_pause_are_told_as_such_and_others_go_on(home: Resident) -> None:
    hanging, restarts = home.pid_of(), home.of()["restarts"]

    os.kill(hanging, signal.SIGSTOP)

    home.wait(lambda: "it hangs: it runs, and did not answer 2 health checks in a row" in (home.of()["reason"] or ""))
    pauses = {0: "", 1: "; it starts again 10 seconds later", 2: "; it starts again 20 seconds later"}
    assert pauses[min(restarts, 2)] in home.of()["reason"]
    assert home.of("fraud")["state"] == "Healthy"
    shown = home.device.run("status")
    assert [one["reason"] for one in shown.services if one["name"] == "churn"] == [home.of()["reason"]]


def test_what_is_never_to_be_started_again_stays_ended_with_the_reason(home: Resident) -> None:
    os.kill(home.pid_of(next(one["port"] for one in home.reported["services"] if one["name"] == "fraud")), 11)

    reason = home.wait_for("Failed", "fraud")["reason"]

    assert reason == (
        "it was ended by the signal SIGSEGV (exit code 139); by its policy, never, it is not started again"
    )
    assert home.of("fraud")["status"] == 500


def test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing(home: Resident) -> None:
    home.file.write_text(json.dumps({"devise": "x", "runtime": "magic", "groups": 7}))
    refused = home.device.run("run", "--config", str(home.file))
    assert refused.code == 2
    assert all(word in refused.err for word in ("devise", "runtime", "groups"))

    assert home.process is not None
    home.process.send_signal(signal.SIGHUP)
    home.wait(lambda: "the configuration is left as it was" in home.log)
    assert "devise" in home.log

    home.configure(device="dev2")
    home.process.send_signal(signal.SIGHUP)
    home.wait(lambda: home.reported["device"] == "dev2")


def test_systemd_is_told_when_the_agent_is_ready_alive_and_ends(agent: Resident, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(30)
        agent.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "500000"}
        agent.start()
        assert agent.process is not None
        heard = {told.recv(1000) for _ in range(8)}
        agent.process.send_signal(signal.SIGHUP)
        while not any(one.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for one in heard):
            heard.add(told.recv(1000))
        while told.recv(1000) != b"READY=1":
            continue
        agent.end()
        told.setblocking(False)
        while b"STOPPING=1" not in heard:
            heard.add(told.recv(1000))

    assert {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"} <= heard
    assert any(one.startswith(b"STATUS=0 of 0 services run") for one in heard)


def test_bundles_and_documents_of_a_stick_are_taken_and_half_a_bundle_does_no_harm(
    images: Images, tmp_path: Path
) -> None:
    device = Agent(tmp_path / "device", images, free_port())
    device.ok("trust", str(images.folder / "key.pub"))
    agent = Resident(device)
    try:
        agent.start()
        agent.inbox.mkdir()
        whole = images.bundle("v1").read_bytes()
        (agent.inbox / "churn-1.bundle").write_bytes(whole[: len(whole) // 2])
        agent.wait(lambda: "churn-1.bundle" in agent.log and "the job import ended" in agent.log)
        agent.put(agent.service())
        agent.wait_for("Failed")

        # It is put in again, whole.
        (agent.inbox / "churn-1.bundle").unlink()
        time.sleep(0.1)
        (agent.inbox / "churn-1.bundle").write_bytes(whole)
        agent.wait_for("Healthy")

        # What is for another device is no fault, and nothing is taken again by the next start.
        foreign = {"schema": "edgepack.desired/v1", "serial": 3, "device": "dev2", "services": []}
        (agent.inbox / "dev2.json").write_text(json.dumps(foreign))
        agent.wait(lambda: "dev2.json is passed over: it is for device dev2" in agent.log)
        agent.wait(lambda: len(json.loads((device.root / "state/inbox.json").read_bytes())["taken"]) == 3)
        said = agent.log
        assert agent.reported["problems"] == []
        agent.end()
        agent.start()
        agent.put(agent.service(), name="newer.json")  # asks for nothing new: nothing is exchanged at the end
        agent.wait(lambda: "accepted with serial 2" in agent.log)
        later = agent.log[len(said) :]
        assert not any(word in later for word in ("passed over", "imported", "refused", "already")), later
    finally:
        agent.close()
