"""A device and a broker: ``mosquitto_pub`` says what is desired, ``mosquitto_sub`` hears what came of it.

Nothing else judges but the service itself, which answers by HTTP.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.descriptor import Platform
from edgepack.signing.envelope import sign
from edgepack.signing.keys import create_key
from edgepack.state.desired import PAYLOAD_TYPE
from packager.fleet.acl import acl_lines
from packager.fleet.device import Device
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.edgepack.support.authority import Authority
from tests.support.broker import Mosquitto, running
from tests.support.http_client import ask
from tests.support.ports import free_port

pytestmark = pytest.mark.real("mosquitto", "mosquitto_pub")
DEVICE = "edgepack/v1/devices/dev1"
GROUP = "edgepack/v1/groups/line-2/desired"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    """TLS by an authority of its own, passwords, and the access list that the workstation writes for the device."""
    folder = Path(tempfile.mkdtemp(prefix="edp-m-"))
    users = {"manager": "of the manager", "dev1": "of the device"}
    device = Device("dev1", create_key().public, Platform.host(), ("line-2",), "")
    access = "\n".join([*acl_lines(device), "user manager", "topic readwrite edgepack/v1/#", ""])
    with running(Mosquitto(folder / "b", users, access, Authority(folder / "authority"))) as one:
        yield one
    shutil.rmtree(folder)


class Site:
    """A device at a broker, as whoever manages it sees them."""

    def __init__(self, agent: Resident, broker: Mosquitto, images: Images, seen: Path) -> None:
        self.agent = agent
        self.broker = broker
        self.images = images
        self.serial = 0
        self._seen = seen  # to which mosquitto_sub writes what is reported

    def document(self, *services: dict[str, Any], serial: int | None = None, **fields: Any) -> bytes:
        self.serial = self.serial + 1 if serial is None else serial
        value = {"schema": "edgepack.desired/v1", "serial": self.serial, "services": list(services), **fields}
        return json.dumps(value).encode()

    def desire(self, *services: dict[str, Any], topic: str = f"{DEVICE}/desired", **fields: Any) -> None:
        """Publish a signed document."""
        document = self.document(*services, **fields)
        self.broker.publish(topic, sign(document, PAYLOAD_TYPE, self.images.key))

    @property
    def reported(self) -> dict[str, Any]:
        lines = self._seen.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        found: dict[str, Any] = json.loads(whole[-1].partition(" ")[2]) if whole else {"services": [], "documents": []}
        return found

    def of(self, name: str = "churn") -> dict[str, Any]:
        return next((one for one in self.reported["services"] if one["name"] == name), {})

    def sees(self, name: str = "churn", **fields: Any) -> dict[str, Any]:
        """Wait until a service is reported so, by one report."""
        found: dict[str, Any] = {}

        def is_so() -> bool:
            nonlocal found
            found = self.of(name)
            return {field: found.get(field) for field in fields} == fields

        self.agent.wait(is_so)
        return found

    def refuses(self, status: int, reason: str, scope: str = "device") -> None:
        """Wait until the newest document is reported as refused, whatever else is so."""

        def is_so() -> bool:
            found = [one for one in self.reported["documents"] if one["scope"] == scope]
            return bool(found) and found[0]["status"] == status and reason in (found[0]["reason"] or "")

        self.agent.wait(is_so)

    def answers(self, text: str, port: int | None = None) -> None:
        assert ask(port or self.agent.device.port, "GET", "/").body.decode().split()[0] == text


@pytest.fixture
def site(images: Images, broker: Mosquitto, tmp_path: Path) -> Iterator[Site]:
    for topic in (f"{DEVICE}/desired", f"{DEVICE}/reported", f"{DEVICE}/status", GROUP):
        broker.publish(topic, "")
    device = Agent(tmp_path / "device", images, free_port())
    device.take_in("v1", "v2", "ill", "crash")
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("of the device\n")
    agent = Resident(device)
    assert broker.authority is not None
    agent.configure(
        allow_unsigned_documents=False,
        groups=["line-2"],
        broker={
            "url": f"mqtts://localhost:{broker.port}",
            "ca_file": str(broker.authority.file),
            "user": "dev1",
            "password_file": str(password),
            "keepalive_seconds": 10,
        },
    )
    with broker.watching(f"{DEVICE}/reported") as seen:
        yield Site(agent, broker, images, seen)
    if agent.process is not None:
        agent.end()  # which waits for what it has begun
    agent.close()


def test_what_is_published_runs_and_is_reported(site: Site) -> None:
    agent = site.agent
    site.desire(agent.service("v1"), device="dev1")
    agent.start()
    v1, v2 = (str(site.images.digests[name]) for name in ("v1", "v2"))

    # What the broker had kept.
    found = site.sees(state="Healthy", stage="Done", digest=v1)
    assert (found["status"], found["origin"], found["serial"], found["tag"]) == (200, "device", 1, "v1:1")
    assert site.reported["status"] == 200
    site.answers("v1")

    # A new version, and one more service by the group's document, which the device's own counts before.
    site.desire(agent.service("v2"))
    other = free_port()
    site.desire(agent.service("v1"), agent.service("v1", "other", other), topic=GROUP, group="line-2")
    site.sees(state="Healthy", digest=v2, last_good=v1)
    site.sees("other", state="Healthy", origin="group line-2", digest=v1)
    site.answers("v2")
    site.answers("v1", other)

    # One that does not become healthy: the last good one runs on.
    site.desire(agent.service("ill", health={"timeout_seconds": 1}))
    site.sees(stage="Failed", status=500, digest=v2)
    agent.wait(lambda: "503" in (site.of()["reason"] or ""))
    site.answers("v2")

    # What the device's own document does not name any more is the group's to say; one that is taken away says nothing.
    site.desire()
    site.sees(state="Healthy", digest=v1, origin="group line-2", status=200)
    site.broker.publish(f"{DEVICE}/desired", "")
    site.broker.publish(GROUP, "")
    site.desire({**agent.service("v1", "other", other), "status": "removed"})
    site.sees("other", state="Removed")
    site.answers("v1")

    # The broker loses all that it kept, and has it again.
    site.broker.stop(kill=True)
    site.broker.forget()
    site.broker.start()
    agent.wait(lambda: "connected to" in agent.log.rpartition("no connection to")[2])
    assert json.loads(site.broker.read(f"{DEVICE}/reported"))["services"][0]["digest"] == v1
    status = json.loads(site.broker.read(f"{DEVICE}/status"))
    assert (status["state"], status["session"]) == ("online", 1)
    assert "does not let this device" not in agent.log
    assert agent.end() == 0
    assert json.loads(site.broker.read(f"{DEVICE}/status"))["state"] == "offline"
    site.answers("v1")


def test_what_cannot_be_taken_is_reported_with_a_number_and_what_ran_runs_on(site: Site) -> None:
    agent, desired = site.agent, f"{DEVICE}/desired"
    agent.start()
    site.desire(agent.service("v1"), serial=5)
    site.sees(state="Healthy")
    good = sign(site.document(agent.service("v1"), serial=5), PAYLOAD_TYPE, site.images.key)

    foreign = sign(site.document(agent.service("v2"), serial=6), PAYLOAD_TYPE, create_key())
    for data, status, reason in (
        (site.document(agent.service("v2"), serial=6), 412, "not signed"),
        (foreign, 412, "key"),
        (b"{not json", 400, "JSON"),
        (b"x" * (5 << 20), 400, "longer than"),
        (sign(b'{"schema":"edgepack.desired/v1","serial":6,"services":[{"name":"UP"}]}', PAYLOAD_TYPE,
              site.images.key), 400, "services[0].name"),
        (sign(site.document(agent.service("v2"), serial=4), PAYLOAD_TYPE, site.images.key), 409, "older"),
        (sign(site.document(agent.service("v2"), serial=6, device="dev2"), PAYLOAD_TYPE, site.images.key), 412,
         "device dev2"),
        (good.replace(b'"sig":"', b'"sig":"AAAA', 1), 4, ""),
    ):  # fmt: skip
        site.broker.publish(desired, data)
        if status != 4:
            site.refuses(status, reason)
    site.refuses(412, "")
    site.answers("v1")

    # A good one is taken after all of them, and one for the group is judged beside it.
    site.broker.publish(GROUP, b"{}")
    site.refuses(412, "", "group line-2")
    site.desire(agent.service("v2"), serial=7)
    site.sees(state="Healthy", digest=str(site.images.digests["v2"]), serial=7)
    site.answers("v2")


def test_a_wrong_password_keeps_no_service_from_running(site: Site) -> None:
    agent = site.agent
    password = Path(agent.more["broker"]["password_file"])
    password.write_text("of nobody\n")
    agent.configure(allow_unsigned_documents=True)
    agent.put(agent.service("v1"), name="of-a-stick.json")
    agent.start()

    agent.wait_for("Healthy")
    site.answers("v1")
    agent.wait(lambda: "this device is not allowed to connect; check user, password" in agent.log)
    assert "of nobody" not in agent.log
    told = agent.device.run("status")
    broker = json.loads(told.out)["broker"]
    assert broker["state"] in ("waiting", "connecting")
    assert f"broker mqtts://localhost:{site.broker.port} ({broker['state']}): it refused the connection" in told.err
    password.write_text("of the device\n")
    site.sees(state="Healthy")
    agent.wait(lambda: json.loads(agent.device.run("status").out)["broker"]["state"] == "connected")
    assert site.reported["problems"] == []
