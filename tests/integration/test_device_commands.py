"""``edgepack device command``, a real broker and the resident agent: what is typed here is done there, or refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.state.database import StateFile
from edgepack import __version__
from edgepack.oci.descriptor import Platform
from edgepack.signing.envelope import sign
from edgepack.signing.keys import PrivateKey, create_key
from edgepack.state import commands, desired
from edgepack.state.commands import Command
from edgepack.state.identity import Identity
from packager.fleet.acl import acl_lines
from packager.fleet.device import Device
from packager.workspaces.workspace import Workspace
from tests.edge_agent.support.agent import Agent, make_images
from tests.edge_agent.support.resident import Resident
from tests.support import forked
from tests.support.broker import Mosquitto, running
from tests.support.ports import free_port
from tests.support.running import Done
from tests.support.sampling import WHOLE

pytestmark = pytest.mark.real("mosquitto", "mosquitto_pub")
TOPIC = "edgepack/v1/devices/dev1"


@dataclass
class Site:
    """A device at a broker, and the workstation from which it is told what to do."""

    folder: Path
    broker: Mosquitto
    agent: Resident
    key: PrivateKey
    seen: Path

    def typed(self, *words: object, by_broker: bool = True, output: str = "json") -> Done:
        env = {**os.environ, "EDGEPACK_WORKSPACE": str(self.folder / "w"), "EDGEPACK_CACHE": str(self.folder / "c")}
        at = ["--broker", f"unix://{self.broker.socket}", "--user", "manager", "--password-file", self.folder / "pw"]
        return forked.finish(
            "edgepack", "device", "command", "dev1", *words, "--key", "factory", *(at if by_broker else []), "--output",
            output, cwd=self.folder, env=env,
        )  # fmt: skip

    def done(self, *words: object) -> dict[str, Any]:
        done = self.typed(*words)
        assert done.code == 0, (done.stderr, self.agent.log[-3000:])
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["status"] == 200
        return found

    @property
    def serial(self) -> int:
        """The last one that the workstation gave."""
        from packager.fleet.registry import Target

        found = Workspace(self.folder / "w").devices.deployment(Target("command", "dev1"))
        return 0 if found is None else found.serial

    def command(self, **fields: Any) -> Command:
        now = int(time.time())
        id_ = f"by-hand-{time.monotonic_ns()}"
        return replace(Command("dev1", id_, self.serial + 1, "ping", None, now, now + 600), **fields)

    def signed(self, command: Command) -> bytes:
        return sign(command.to_bytes(), commands.PAYLOAD_TYPE, self.key)

    def answers(self, id_: str | None) -> list[dict[str, Any]]:
        lines = [line for line in self.seen.read_text().splitlines(keepends=True) if line.endswith("\n")]
        found = [json.loads(line.partition(" ")[2]) for line in lines]
        return [one for one in found if one["id"] == id_]

    def sends(self, data: bytes, id_: str | None, *, retain: bool = False, more: int = 1) -> dict[str, Any]:
        """Publish, and wait for the answer."""
        before = len(self.answers(id_))
        self.broker.publish(f"{TOPIC}/command", data, retain=retain)
        self.agent.wait(lambda: len(self.answers(id_)) >= before + more)
        return self.answers(id_)[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    short = Path(tempfile.mkdtemp(prefix="edp-c-"))
    folder = tmp_path_factory.mktemp("commands")
    workspace, identity = Workspace(folder / "w"), create_key()
    workspace.keys.create("factory")
    workspace.devices.add(Identity("dev1", identity.public, Platform.host(), ()))
    (folder / "pw").write_text("of the manager\n")
    password = folder / "dev1"
    password.touch(0o600)
    password.write_text("of the device\n")
    users = {"manager": "of the manager", "dev1": "of the device"}
    device = Device("dev1", identity.public, Platform.host(), (), "")
    access = "\n".join([*acl_lines(device), "user manager", "topic readwrite edgepack/v1/#", ""])
    with running(Mosquitto(short / "b", users, access)) as broker:
        made = Agent(folder / "device", make_images(folder / "images"), free_port())
        made.take_in("v1", "v2")
        made.ok("trust", str(folder / "w" / "keys" / "factory.pub"))
        agent = Resident(made)
        agent.configure(
            broker={"url": f"mqtt://127.0.0.1:{broker.port}", "user": "dev1", "password_file": str(password)}
        )
        agent.start()
        if WHOLE:
            agent.put(agent.service("v1"))
            agent.wait_for("Healthy")
        agent.put(agent.service("v2"))
        agent.wait(
            lambda: (agent.of().get("digest"), agent.of().get("stage")) == (str(made.images.digests["v2"]), "Done")
        )
        with broker.watching(f"{TOPIC}/events") as seen:
            yield Site(folder, broker, agent, workspace.keys.get("factory"), seen)
        if agent.process is not None:
            agent.end()
        agent.close()
    shutil.rmtree(short)


def test_every_verb_is_done_and_answered(site: Site) -> None:
    agent, images = site.agent, site.agent.device.images.digests
    before = agent.pid_of()
    assert site.done("ping")["payload"] == {"agent": __version__}
    with site.broker.watching(f"{TOPIC}/reported") as reported:
        agent.wait(lambda: reported.read_text().count("\n") > 0)  # what the broker had kept
        known = reported.read_text().count("\n")
        site.done("report")
        agent.wait(lambda: reported.read_text().count("\n") > known)

    found = site.done("restart", "churn")
    assert found["payload"] == {"state": "Healthy", "image": str(images["v2"])}
    after = agent.pid_of()
    assert after != before

    # Nobody has started it once more, since it had ended.
    site.done("ping")
    assert agent.pid_of() == after
    assert agent.of()["restarts"] == 0
    assert "starting it again" not in agent.log

    assert site.typed("logs", "churn", "--lines", "1", output="table").stdout == "starting v2\n"
    assert site.done("stop", "churn")["payload"]["state"] == "Stopped"
    assert agent.device.status()["state"] == "Stopped"
    if not WHOLE:
        assert site.done("start", "churn")["payload"]["state"] == "Healthy"
        return
    assert site.typed("restart", "churn").code == 2
    assert site.done("start", "churn")["payload"]["state"] == "Healthy"
    assert site.done("rollback", "churn")["payload"] == {"state": "Healthy", "image": str(images["v1"])}
    assert agent.device.answer() == "v1"
    assert site.done("gc")["payload"]["freed_bytes"] >= 0
    assert site.done("logs", "churn", "-n", "2")["payload"] == {
        "lines": ["starting v2", "starting v1"],
        "is_cut": False,
    }
    assert "Healthy" in site.typed("restart", "churn", output="table").stdout


def test_what_is_wrong_is_told_with_the_code_that_it_has_on_the_device(site: Site) -> None:
    serial = site.serial
    for words, code, says in (
        (["restart"], 2, "restart is for a service, and none is given"),
        (["ping", "churn"], 2, "ping is not for a service"),
        (["reboot"], 2, "'reboot'"),
        (["restart", "UP"], 2, "UP"),
        (["ping", "--lines", "3"], 2, "--lines is for logs"),
        (["ping", "--serial", str(serial)], 2, "is not above"),
    ):
        done = site.typed(*words)
        assert (done.code, done.stdout) == (code, ""), done.stderr
        assert says in done.stderr
    assert "say where to; give --broker URL, or -o FILE" in site.typed("ping", by_broker=False).stderr
    assert site.serial == serial

    done = site.typed("restart", "curn")
    assert done.code == 3
    assert "device dev1: " in done.stderr
    assert "service 'curn' not found" in done.stderr
    assert "did you mean 'churn'?" in done.stderr
    assert json.loads(done.stdout)["status"] == 412


def test_no_command_is_done_twice_or_by_whom_it_is_not_for(site: Site) -> None:
    """By a real broker, of each kind of refusal one; ``test_commanding.py`` has the others."""
    agent = site.agent
    agent.wait_for("Healthy")
    good = site.command(verb="restart" if WHOLE else "logs", service="churn")
    sent = site.signed(good)
    assert site.sends(sent, good.id)["status"] == 200
    pid = agent.pid_of()

    def refused(data: bytes, id_: str | None, status: int, reason: str, *, retain: bool = False) -> None:
        found = site.sends(data, id_, retain=retain)
        assert (found["status"], found["device"]) == (status, "dev1"), found
        assert reason in found["reason"], found

    def more(**fields: Any) -> Command:
        return site.command(**{"verb": "restart", "service": "churn", "serial": good.serial + 1, **fields})

    refused(sent, good.id, 409, f"has taken serial {good.serial} before")
    refused(b"x" * (5 << 20), None, 400, "longer than")
    if WHOLE:
        one = more(device="dev2")
        refused(site.signed(one), one.id, 412, "it is for device dev2, and came to device dev1")
        one = more()
        refused(sign(one.to_bytes(), commands.PAYLOAD_TYPE, create_key()), one.id, 412, "no such key is trusted here")
        document = json.dumps({"schema": desired.SCHEMA, "serial": 99, "services": []}).encode()
        refused(sign(document, desired.PAYLOAD_TYPE, site.key), None, 412, "payload type")
        site.broker.publish(f"{TOPIC}/desired", site.signed(one))  # and no desired state either
        agent.wait(lambda: any("payload type" in (each["reason"] or "") for each in agent.reported["documents"]))
        site.broker.publish(f"{TOPIC}/desired", "")

    # One that is sent to be kept is refused when it comes, and once more by the agent that finds it there.
    kept = more()
    refused(site.signed(kept), kept.id, 412, "a command is never retained", retain=True)
    assert agent.end() == 0
    begun = more(serial=good.serial + 1)  # in the middle of which the agent was killed
    StateFile(agent.device.root / "state" / "agent.db").take_command(lambda _: begun)
    agent.start()
    agent.wait(lambda: len(site.answers(kept.id)) == 2)
    assert {one["status"] for one in site.answers(kept.id)} == {412}
    assert [(one["status"], one["serial"]) for one in site.answers(begun.id)] == [(500, begun.serial)]
    site.broker.publish(f"{TOPIC}/command", "")

    # Nothing of that was done, the serials go on after the agent's start, and what is good is taken.
    refused(sent, good.id, 409, "is older than serial")
    assert agent.pid_of() == pid
    assert site.typed("ping", "--serial", str(begun.serial + 1)).code == 0


@pytest.mark.skipif(not WHOLE, reason="its parts are in test_commanding.py; runs with EDGEPACK_WHOLE=1")
def test_a_command_comes_on_a_stick(site: Site) -> None:
    agent = site.agent
    done = site.typed("stop", "churn", "-o", "stop.json", by_broker=False)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["path"] == "stop.json"
    assert "into the inbox of the device" in done.stderr
    id_ = json.loads(done.stdout)["id"]
    foreign = site.command(device="dev2", serial=1)
    (agent.inbox / "other.json").write_bytes(site.signed(foreign))
    shutil.copy(site.folder / "stop.json", agent.inbox / "stop.json")
    agent.wait(lambda: bool(site.answers(id_)))
    assert site.answers(id_)[0]["payload"]["state"] == "Stopped"
    agent.wait(lambda: "it is for device dev2" in agent.log)

    # The stick is taken out and put in again: that is told in the log, and nothing is done again.
    assert site.done("start", "churn")["payload"]["state"] == "Healthy"
    stick = agent.inbox / "stop.json"
    stick.write_bytes(stick.read_bytes() + b"\n")
    agent.wait(lambda: f"command {id_} refused (409)" in agent.log)
    assert agent.of()["state"] == "Healthy"
    assert len(site.answers(id_)) == 1
    assert not site.answers(foreign.id)
