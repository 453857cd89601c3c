"""Services on a device of the fleet: by a real broker, a registry and the resident agent; and by a carried folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.images import Commands, Second, Site, assert_scores, rows
from tests.support.broker import Mosquitto, running
from tests.support.http_client import ask, listens
from tests.support.parts import remove_tree
from tests.support.ports import free_port
from tests.support.waiting import wait_until

JSON = {"Content-Type": "application/json"}
pytestmark = pytest.mark.real("mosquitto", "docker-registry")


@dataclass
class Fleet:
    """A workstation, a broker, a registry, and a device of one's own with a resident agent."""

    commands: Commands
    broker: Mosquitto
    registry: int
    device: Path
    port: int
    agent: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with (self.device / "log").open("ab") as log:
            self.agent = subprocess.Popen(
                self.commands.argv("edge-agent", "run", "--config", self.device / "agent.json"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ},
            )  # fmt: skip
        wait_until(lambda: "watching" in self.log)

    def end(self) -> None:
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            assert self.agent.wait(60) == 0
        self.agent = None

    @property
    def log(self) -> str:
        return (self.device / "log").read_text(errors="replace")

    def service(self, *words: object, code: int = 0) -> Any:
        done = self.commands.edgepack("service", *words, code=code)
        return json.loads(done.stdout) if done.stdout.strip() else done.stderr


@pytest.fixture(scope="module")
def fleet(site: Site, second: Second, registry: int, place: Path) -> Iterator[Fleet]:
    short = Path(tempfile.mkdtemp(prefix="edf-"))
    device = Path(tempfile.mkdtemp(prefix="dev-", dir=place))
    device.chmod(0o755)
    env = {"EDGEPACK_SERVICE_REGISTRY": f"127.0.0.1:{registry}/edge", "EDGEPACK_PLAIN_HTTP": f"127.0.0.1:{registry}"}
    commands = replace(site.commands, env={**site.commands.env, **env})
    with running(Mosquitto(short / "b")) as broker:
        made = Fleet(commands, broker, registry, device, free_port())
        state = device / "state"
        (device / "agent.json").write_text(json.dumps({
            "device": "press-7", "state_dir": str(state), "runtime": "process",
            "broker": {"url": f"mqtt://127.0.0.1:{broker.port}"},
            "sources": [{"registry": f"127.0.0.1:{registry}", "plain_http": True}],
        }))  # fmt: skip
        agent = replace(commands, folder=device)
        agent._run("edge-agent", ("--state-dir", state, "init", "--device", "press-7"), 0, {})
        agent._run("edge-agent", ("--state-dir", state, "trust", place / "test.pub"), 0, {})
        commands.edgepack("device", "add", "press-7", "--identity", state / "identity.json")
        (device / "dc.json").write_text(json.dumps({"computeType": "aci", "port": made.port,
            "containerResourceRequirements": {"cpu": 1, "memoryInGB": 0.5}}))  # fmt: skip
        try:
            made.start()
            yield made
        finally:
            made.end()
    commands.edgepack("device", "remove", "press-7")
    remove_tree(short)


def test_a_service_is_deployed_updated_and_deleted_by_a_broker(site: Site, fleet: Fleet) -> None:
    told = fleet.service("deploy", "-n", "mlp", "-m", "mlp:1", "--dc", fleet.device / "dc.json", code=2)
    assert "it is not known how it is reached; say how: edgepack device reach press-7" in told
    by = f"mqtt://127.0.0.1:{fleet.broker.port}"
    fleet.commands.edgepack("device", "reach", "press-7", "--key", "test", "--broker", by)
    found = fleet.service("deploy", "-n", "mlp", "-m", "mlp:1", "--dc", fleet.device / "dc.json", "--overwrite")
    assert (found["state"], found["target"], found["reason"]) == ("Healthy", "press-7", None), fleet.log
    assert_scores(fleet.port, site.models[1])
    assert fleet.service("update", "mlp", "-m", "mlp:2")["state"] == "Healthy"
    assert_scores(fleet.port, site.models[2])
    written = fleet.commands.edgepack("service", "logs", "mlp", "-n", "50").stdout
    assert '"message":"ready"' in written
    assert len(written.splitlines()) <= 50
    assert "leave out --follow" in fleet.service("logs", "mlp", "-f", code=2)
    taken = fleet.service("deploy", "-n", "other", "-m", "mlp:1", "--dc", fleet.device / "dc.json", code=2)
    assert f"port {fleet.port} belongs to another service there" in taken

    script = fleet.device / "score.py"
    script.write_text("def init():\n    raise RuntimeError('no such feature')\n\n\ndef run(data):\n    return data\n")
    assert "no such feature" in fleet.service("update", "mlp", "--entry-script", script, code=1)
    shown = fleet.service("show", "mlp")
    assert shown["models"] == ["mlp:2"]
    assert_scores(fleet.port, site.models[2])

    keyed = json.loads((fleet.device / "dc.json").read_text()) | {"authEnabled": True}
    (fleet.device / "keyed.json").write_text(json.dumps(keyed))
    assert fleet.service("update", "mlp", "--dc", fleet.device / "keyed.json")["state"] == "Healthy"
    body = json.dumps({"data": rows()})
    assert ask(fleet.port, "POST", "/score", body, JSON).status == 401
    keys = fleet.service("keys", "mlp")
    for key in (keys["primary"], keys["secondary"]):
        assert ask(fleet.port, "POST", "/score", body, {**JSON, "Authorization": f"Bearer {key}"}).status == 200
    assert fleet.service("update", "mlp", "--dc", fleet.device / "dc.json")["state"] == "Healthy"

    fleet.end()
    assert "is not connected to its broker, so its logs cannot be asked for" in fleet.service("logs", "mlp", code=1)
    away = fleet.service("update", "mlp", "-m", "mlp:1", code=1)
    assert "device press-7: has not said yet how it goes: it is not connected" in away
    shown = fleet.service("show", "mlp")
    assert shown["state"] == "Transitioning"
    assert "not connected now, and this is what it told last, less than a minute ago" in shown["reason"]
    fleet.start()
    wait_until(lambda: fleet.service("show", "mlp")["state"] == "Healthy")
    assert_scores(fleet.port, site.models[1])
    assert_keys_work(fleet)
    fleet.service("delete", "mlp")
    assert fleet.service("list") == []


@pytest.mark.whole  # a sample is tests/integration/test_endpoint_commands.py, on this machine
@pytest.mark.real("haproxy")
def test_an_endpoint_shares_requests_out_on_a_device(fleet: Fleet) -> None:
    def endpoint(verb: str, *words: object, code: int = 0) -> Any:
        done = fleet.commands.edgepack("endpoint", verb, "mix", *words, code=code)
        return json.loads(done.stdout) if code == 0 else done.stderr

    by = f"mqtt://127.0.0.1:{fleet.broker.port}"
    fleet.commands.edgepack("device", "reach", "press-7", "--key", "test", "--broker", by)
    keyed = {"computeType": "aci", "authEnabled": True, "containerResourceRequirements": {"cpu": 1, "memoryInGB": 0.5}}
    (fleet.device / "keyed.json").write_text(json.dumps(keyed))
    dc = ("--dc", fleet.device / "keyed.json")
    with socket.create_server(("127.0.0.1", port := free_port())):
        failed = endpoint("create", "--version", "v1", "-m", "mlp:1", "--port", port, *dc, code=1)
    assert "its router does not start" in failed
    assert fleet.service("list") == []
    made = endpoint("create", "--version", "v1", "-m", "mlp:1", "--port", free_port(), *dc)
    assert (made["state"], made["target"]) == ("Healthy", "press-7"), fleet.log
    assert "asks its callers for something else" in endpoint(
        "create-version", "--version", "v2", "-m", "mlp:2", "--dc", fleet.device / "dc.json", code=2
    )
    shared = endpoint("create-version", "--version", "v2", "-m", "mlp:2", "--traffic", 50, *dc)
    assert [(one["traffic"], one["is_up"]) for one in shared["versions"]] == [(50, True), (50, True)], fleet.log
    # Who calls the endpoint shows one key, whichever version answers.
    keys = endpoint("keys", "--regenerate", "primary")
    assert fleet.service("keys", "mix-v2") == fleet.service("keys", "mix-v1") == keys
    time.sleep(2)  # until both servers have looked at their files again
    body = json.dumps({"data": rows()})
    answers = {
        (answer.status, answer.headers["x-edgepack-version"])
        for number in range(20)
        for answer in [ask(made["port"], "POST", "/score", body, {
            **JSON, "Authorization": f"Bearer {keys['primary']}", "X-Request-Id": str(number),
        })]
    }  # fmt: skip
    assert answers == {(200, "mix-v1"), (200, "mix-v2")}
    assert "still gets 50 percent" in endpoint("delete-version", "v2", code=2)
    endpoint("promote", "v2")
    endpoint("delete-version", "v1")
    wait_until(lambda: sum(one["requests"] or 0 for one in endpoint("show")["versions"]) > 0)
    endpoint("delete")
    wait_until(lambda: not (fleet.device / "state" / "endpoints" / "mix").exists())
    assert fleet.service("list") == []


def assert_keys_work(fleet: Fleet) -> None:
    """Let the service ``mlp`` ask for keys, call it, and replace one of them."""
    body = json.dumps({"data": rows()})

    def status(key: str | None) -> int:
        headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        return ask(fleet.port, "POST", "/score", body, headers).status

    configuration = json.loads((fleet.device / "dc.json").read_text()) | {"authEnabled": True}
    (fleet.device / "keyed.json").write_text(json.dumps(configuration))
    assert fleet.service("update", "mlp", "--dc", fleet.device / "keyed.json")["state"] == "Healthy"
    before = fleet.service("keys", "mlp")
    assert [status(key) for key in (None, *before.values())] == [401, 200, 200]
    after = fleet.service("keys", "mlp", "--regenerate", "primary")
    wait_until(lambda: status(after["primary"]) == 200)
    assert [status(key) for key in before.values()] == [401, 200]


def carry(stick: Path, inbox: Path) -> None:
    """Put what is on the stick into the inbox, bundles first."""
    for one in sorted(stick.iterdir(), key=lambda one: one.suffix):
        (inbox / f".{one.name}").write_bytes(one.read_bytes())
        (inbox / f".{one.name}").rename(inbox / one.name)


def assert_an_endpoint_is_carried(fleet: Fleet, stick: Path, inbox: Path) -> None:
    """Let an endpoint of one version go to the device by its stick, and be removed by it."""
    if shutil.which("haproxy") is None:
        return
    (fleet.device / "open.json").write_text(json.dumps({"computeType": "aci", "port": free_port()}))
    words = ("endpoint", "create", "borne", "--version", "v1", "-m", "mlp:1", "--dc", fleet.device / "open.json")
    found = fleet.commands.edgepack(*words, "--port", port := free_port()).json
    assert (found["state"], found["port"]) == (None, port)
    carry(stick, inbox)
    wait_until(lambda: listens(port))
    wait_until(lambda: ask(port, "POST", "/score", json.dumps({"data": rows()}), JSON).status == 200)
    fleet.commands.edgepack("endpoint", "delete", "borne")
    carry(stick, inbox)
    wait_until(lambda: not listens(port))


def test_a_service_is_carried_by_a_folder(site: Site, fleet: Fleet, place: Path) -> None:
    stick = place / "stick"
    stick.mkdir()
    fleet.commands.edgepack("device", "reach", "press-7", "--key", "test", "--folder", stick)
    found = fleet.service("deploy", "-n", "carried", "-m", "mlp:1", "--dc", fleet.device / "dc.json")
    assert found["state"] == "Unknown"
    assert f"is in {stick}" in found["reason"]
    inbox = fleet.device / "state" / "inbox"
    inbox.mkdir(exist_ok=True)
    carry(stick, inbox)
    status = [
        sys.executable,
        "-m",
        "edge_agent",
        "--state-dir",
        str(fleet.device / "state"),
        "status",
        "--output",
        "json",
    ]

    def healthy() -> bool:
        services = json.loads(subprocess.run(status, stdout=subprocess.PIPE, check=True).stdout)["services"]
        return [(one["name"], one["state"]) for one in services if one["state"] != "Removed"] == [
            ("carried", "Healthy")
        ]

    wait_until(healthy)
    assert_scores(fleet.port, site.models[1])
    assert_an_endpoint_is_carried(fleet, stick, inbox)
    fleet.service("delete", "carried")
    carry(stick, inbox)
    wait_until(lambda: not healthy())
