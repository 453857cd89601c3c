"""``edge-agent run`` with real processes: what it starts, starts again and leaves alone, and how it is told to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import ROOT, Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Resident]:
    """A device that holds the images, and its agent, not started yet."""
    device = Agent(tmp_path / "device", images, free_port())
    device.take_in("v1", "v2", "ill", "crash")
    made = Resident(device)
    yield made
    made.close()


def test_a_service_is_brought_up_and_started_again_and_outlives_the_agent(agent: Resident) -> None:
    agent.start()
    agent.put(agent.service(health={"interval_seconds": 0.5}))
    agent.wait_for("Healthy")
    first = agent.pid_of()

    # It ends: started again at once.
    os.kill(first, signal.SIGKILL)
    agent.wait(lambda: agent.of()["restarts"] == 1 and agent.of()["state"] == "Healthy")
    second = agent.pid_of()
    assert second != first
    assert "was ended by the signal SIGKILL" in agent.of()["reason"]

    # The agent is killed, and started again: the service did not notice.
    agent.end(signal.SIGKILL)
    assert agent.pid_of() == second
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 2 and agent.of()["state"] == "Healthy")
    assert agent.pid_of() == second

    # So it is by SIGTERM.
    assert agent.end() == 0
    assert agent.pid_of() == second

    # What ended while there was no agent runs as soon as there is one.
    os.kill(second, signal.SIGKILL)
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 3 and agent.of()["state"] == "Healthy")
    assert agent.pid_of() != second


def test_after_everything_was_killed_everything_runs_again(agent: Resident) -> None:
    ports = [free_port() for _ in range(4)]
    agent.start()
    agent.put(*(agent.service(name=f"churn{number}", port=port) for number, port in enumerate(ports)))
    for number in range(4):
        agent.wait_for("Healthy", f"churn{number}")
    before = [agent.pid_of(port) for port in ports]

    agent.kill_everything()
    agent.start()

    agent.wait(lambda: agent.reported["session"] == 2)
    for number in range(4):
        agent.wait_for("Healthy", f"churn{number}")
    assert not {*before} & {agent.pid_of(port) for port in ports}


def test_a_hang_is_told_as_one_and_ended(agent: Resident) -> None:
    agent.start()
    agent.put(agent.service(health={"interval_seconds": 0.2, "failures": 2, "timeout_seconds": 30}))
    agent.wait_for("Healthy")
    hanging = agent.pid_of()

    os.kill(hanging, signal.SIGSTOP)

    agent.wait(lambda: agent.of()["restarts"] == 1 and agent.of()["state"] == "Healthy")
    assert "it hangs: it runs, and did not answer 2 health checks in a row" in agent.of()["reason"]
    assert agent.pid_of() != hanging


def test_a_crash_loop_is_told_as_one_and_other_services_go_on(agent: Resident) -> None:
    """The service ends as soon as it is started again, for which it waits longer and longer."""
    port = free_port()
    agent.start()
    agent.put(agent.service(), agent.service("v2", "fraud", port, restart="never"))
    agent.wait_for("Healthy")
    agent.wait_for("Healthy", "fraud")
    other = agent.pid_of(port)

    for count in range(2):
        os.kill(agent.pid_of(), signal.SIGTERM)
        if count == 0:
            agent.wait(lambda: agent.of()["restarts"] == 1 and agent.of()["state"] == "Healthy")
    assert "it starts again 10 seconds later" in agent.wait_for("Transitioning")["reason"]

    # And one that nothing is to start again stays ended, with the reason.
    os.kill(other, signal.SIGSEGV)
    assert "SIGSEGV" in agent.wait_for("Failed", "fraud")["reason"]


def test_a_second_agent_is_refused_and_names_the_first(agent: Resident) -> None:
    first = agent.start()

    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "run", "--config", str(agent.file)],
        capture_output=True, text=True, check=False, env=agent.device.environment(PYTHONPATH=str(ROOT)), timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert f"an agent runs for this folder already: process {first.pid} (" in done.stderr
    assert "edge_agent.daemon --configuration" in done.stderr
    assert first.poll() is None


def test_a_wrong_configuration_is_refused_with_everything_that_is_wrong(agent: Resident) -> None:
    agent.file.write_text(json.dumps({"devise": "x", "runtime": "magic", "groups": 7}))

    done = agent.device.run("run", "--config", str(agent.file))

    assert done.code == 2
    for word in ("devise", "runtime", "groups"):
        assert word in done.err


def test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing(agent: Resident) -> None:
    agent.start()
    agent.file.write_text(json.dumps({"devise": "x"}))
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    agent.wait(lambda: "the configuration is left as it was" in agent.log)
    assert "devise" in agent.log

    agent.configure(device="dev2")
    agent.process.send_signal(signal.SIGHUP)
    agent.wait(lambda: agent.reported["device"] == "dev2")


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


def test_what_a_service_wrote_is_shown_and_followed(agent: Resident) -> None:
    agent.start()
    agent.put(agent.service())
    agent.wait_for("Healthy")

    assert agent.device.run("logs", "churn").out == "starting v1\n"
    assert agent.device.run("logs", "churn", "--lines", "0").out == ""
    unknown = agent.device.run("logs", "chrun")
    assert (unknown.code, "churn" in unknown.err) == (3, True)

    following = agent.device.start("logs", "churn", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "starting v1\n"
    os.kill(agent.pid_of(), signal.SIGKILL)
    assert following.stdout.readline() == "starting v1\n", "of the next run"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) in (0, 130)
    following.communicate()


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
    finally:
        agent.close()
