"""The resident agent with a real broker: what is published is run, and what is run is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.signing.envelope import sign
from edgepack.state.desired import PAYLOAD_TYPE
from tests.edge_agent.support.agent import Agent, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.broker import Mosquitto, running
from tests.support.ports import free_port

pytestmark = pytest.mark.real("mosquitto", "mosquitto_pub")
DESIRED, REPORTED = "edgepack/v1/devices/dev1/desired", "edgepack/v1/devices/dev1/reported"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(Mosquitto(tmp_path / "broker")) as made:
        yield made


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto) -> Iterator[Resident]:
    images = make_images(tmp_path / "images")
    device = Agent(tmp_path / "device", images, free_port())
    device.take_in("v1", "v2")
    url = f"mqtt://127.0.0.1:{broker.port}"
    made = Resident(device, more={"broker": {"url": url}, "allow_unsigned_documents": False, "groups": ["g1"]})
    yield made
    made.close()


def document(agent: Resident, serial: int, *services: dict[str, Any], signed: bool = True) -> bytes:
    value = {"schema": "edgepack.desired/v1", "serial": serial, "services": services}
    data = json.dumps(value).encode()
    return sign(data, PAYLOAD_TYPE, agent.device.images.key) if signed else data


def reported(broker: Mosquitto) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(broker.read(REPORTED))
    return found


def test_what_is_published_is_run_and_reported_and_bad_documents_change_nothing(
    agent: Resident, broker: Mosquitto
) -> None:
    broker.publish(DESIRED, document(agent, 1, agent.service()))
    agent.start()
    agent.wait_for("Healthy")
    pid = agent.pid_of()

    # Retained, for whoever comes later.
    agent.wait(lambda: reported(broker)["services"][0]["state"] == "Healthy")
    found = reported(broker)
    assert (found["device"], found["status"], found["session"]) == ("dev1", 200, 1)
    assert [(one["scope"], one["serial"], one["status"]) for one in found["documents"]] == [("device", 1, 200)]

    for data, status in (
        (b"nonsense", 400),
        (document(agent, 2, agent.service("v2"), signed=False), 412),
        (document(agent, 0, agent.service("v2")), 409),
        (b" ", 417),
    ):
        broker.publish(DESIRED, data)
        agent.wait(lambda status=status: reported(broker)["documents"][0]["status"] == status)  # type: ignore[misc]
    assert agent.pid_of() == pid

    # What it keeps in memory, connected and with all that it has done by now.
    assert agent.process is not None
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    assert int(rollup.partition("Pss:")[2].split()[0]) < 30_000, "kB"

    # A group's document for another service, while the device's own stays in force.
    other = free_port()
    broker.publish("edgepack/v1/groups/g1/desired", document(agent, 7, agent.service("v2", "fraud", other)))
    agent.wait_for("Healthy", "fraud")
    assert agent.of("fraud")["origin"] == "group g1"
    assert agent.pid_of() == pid

    # The broker goes and comes back without what it had: the report is there again, and nothing was started anew.
    broker.stop(kill=True)
    broker.forget()
    broker.start()
    agent.wait(lambda: len(reported(broker)["services"]) == 2)
    assert agent.pid_of() == pid
