"""What the resident agent reports of what came and cannot be done, while everything else keeps running."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.configuration import Configuration
from edge_agent.config.document import to_json
from edge_agent.daemon.jobs import program
from edgepack.signing.envelope import sign
from edgepack.state.desired import PAYLOAD_TYPE
from edgepack.state.reported import ReportedDevice
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Resident]:
    device = Agent(tmp_path / "device", images, free_port())
    device.take_in("v1", "v2")
    made = Resident(device, more={"groups": ["site"]})
    yield made
    made.close()


def test_what_cannot_be_taken_or_done_is_reported_with_its_number(agent: Resident, images: Images) -> None:
    other = free_port()
    agent.more["allow_unsigned_documents"] = False
    agent.start()
    agent.inbox.mkdir()

    def put(name: str, data: bytes) -> None:
        (agent.inbox / f".{name}").write_bytes(data)
        (agent.inbox / f".{name}").rename(agent.inbox / name)

    def signed(serial: int, *services: dict[str, object], **fields: object) -> bytes:
        value = {"schema": "edgepack.desired/v1", "serial": serial, "services": list(services)} | fields
        return sign(json.dumps(value).encode(), PAYLOAD_TYPE, images.key)

    def told(scope: str) -> tuple[object, ...]:
        found = next((one for one in agent.reported["documents"] if one["scope"] == scope), {})
        return found.get("serial"), found.get("status"), found.get("refused_serial")

    put("one.json", signed(2, agent.service(), device="dev1", signed_at="2090-01-01T00:00:00Z"))
    agent.wait_for("Healthy")
    assert told("device") == (2, 200, None)
    assert (agent.of()["origin"], agent.of()["serial"], agent.of()["status"]) == ("device", 2, 200)
    agent.wait(lambda: agent.reported["time"] > "2090-01-01T00:00:00Z")
    pid = agent.pid_of()

    put("old.json", signed(1, device="dev1"))
    agent.wait(lambda: told("device") == (2, 409, 1))
    assert agent.reported["status"] == 409
    put("wrong.json", b"\xff")
    agent.wait(lambda: told("device") == (2, 400, None))
    status = agent.device.run("status")
    assert json.loads(status.out)["documents"] == agent.reported["documents"]
    assert "the last desired state of device was refused (400): not UTF-8" in status.err
    put("plain.json", json.dumps({"schema": "edgepack.desired/v1", "serial": 9, "services": []}).encode())
    agent.wait(lambda: told("device") == (2, 412, None))
    # What a stick has for others is not this device's affair.
    put("other.json", signed(9, device="dev2"))
    agent.wait(lambda: "it is for device dev2, and came to device dev1" in agent.log)
    put("again.json", signed(3, agent.service(), device="dev1"))
    agent.wait(lambda: told("device") == (3, 200, None))

    # Another service wants its port: an operator stops the first one, and the second comes up by itself.
    put("group.json", signed(1, agent.service("v2", "fraud"), agent.service("v2", "extra", other), group="site"))
    agent.wait_for("Healthy", "extra")
    fraud = agent.wait_for("Unschedulable", "fraud", "is that of service churn")
    assert (fraud["status"], fraud["origin"], fraud["serial"], told("group site")) == (
        409,
        "group site",
        1,
        (1, 200, None),
    )
    assert agent.pid_of() == pid
    agent.device.ok("stop", "churn")
    agent.wait_for("Healthy", "fraud")
    assert agent.device.answer() == "v2"

    # A bundle that nobody signed is named until a good one is in its place.
    put("new.bundle", images.bundle("unsigned").read_bytes())
    agent.wait(lambda: bool(agent.reported["problems"]))
    (problem,) = agent.reported["problems"]
    assert (problem["where"], problem["status"]) == (str(agent.inbox / "new.bundle"), 412)
    assert agent.reported["status"] == 412
    put("new.bundle", images.bundle("v1").read_bytes())
    agent.wait(lambda: not agent.reported["problems"])
    report = (agent.device.root / "state" / "reported.json").read_bytes()
    assert ReportedDevice.from_bytes(report).to_bytes() == report

    # The next start has no clock either.
    agent.end()
    agent.start()
    agent.wait(lambda: agent.reported["session"] == 2)
    assert agent.reported["time"] > "2090-01-01T00:00:00Z"


def test_who_judges_a_document_tells_in_one_line_which_service_it_goes_on_with(tmp_path: Path) -> None:
    """Two lines would let the agent start a second job for the service between them."""
    one = Configuration("dev1", state_dir=tmp_path / "device", runtime="process", allow_unsigned_documents=True)
    service = {"name": "churn", "image": f"sha256:{64 * '5'}", "port": free_port()}
    document = json.dumps({"schema": "edgepack.desired/v1", "serial": 1, "services": [service]}).encode()
    given = {"configuration": to_json(one), "scope": "device", "data": base64.b64encode(document).decode()}
    done = subprocess.run(
        [*program("edge_agent.jobs"), "accept"], input=json.dumps(given).encode(), capture_output=True, check=True
    )
    first, *more = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["status"], first["service"], first["stage"]) == (200, "churn", "Wanted")
    assert (more[-1]["service"], more[-1]["stage"]) == ("churn", "Failed")
