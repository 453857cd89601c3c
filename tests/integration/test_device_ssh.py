"""Services on a device that is reached by ssh: a real sshd, the system's own ssh, and edge-agent on the far side."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import EdgepackError
from packager.fleet.reach import Reach
from packager.fleet.ssh import Ssh, UnreachedError
from packager.services.remote_agent import RemoteAgent
from tests.integration.support.images import Commands, Second, Site, assert_scores, rows
from tests.support.http_client import ask, listens
from tests.support.ports import free_port
from tests.support.ssh import Sshd, sshd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("sshd", "ssh")


@dataclass(frozen=True)
class Far:
    """A workstation, and a device that it reaches by ssh."""

    commands: Commands
    server: Sshd
    device: Path
    port: int

    def service(self, *words: object, code: int = 0) -> Any:
        done = self.commands.edgepack("service", *words, code=code)
        return json.loads(done.stdout) if code == 0 and words[0] != "logs" else (done.stdout or done.stderr)

    def deploy(self, *words: object, code: int = 0) -> Any:
        return self.service("deploy", "-n", "far", "-m", "mlp:1", "--dc", self.device / "dc.json", *words, code=code)

    def reach(self, *words: object, config: str = "host", **given: object) -> None:
        options = {
            "--key": "test", "--ssh": self.server.destination, "--identity-file": self.server.identity,
            "--ssh-config": self.server.config(config), "--state-dir": self.device / "state",
        } | {f"--{name.replace('_', '-')}": value for name, value in given.items()}  # fmt: skip
        flat = [one for option in options.items() for one in option]
        self.commands.edgepack("device", "reach", "press-9", *flat, *words)


@pytest.fixture(scope="module")
def far(site: Site, second: Second, place: Path) -> Iterator[Far]:
    device = Path(tempfile.mkdtemp(prefix="far-", dir=place))
    device.chmod(0o755)
    commands = replace(site.commands, folder=device)
    state = ("--state-dir", device / "state", "--runtime", "process")
    commands._run("edge-agent", (*state, "init", "--device", "press-9"), 0, {})
    commands._run("edge-agent", (*state, "trust", place / "test.pub"), 0, {})
    commands.edgepack("key", "create", "-n", "unknown-by-ssh")
    commands.edgepack("device", "add", "press-9", "--identity", device / "state/identity.json")
    port = free_port()
    (device / "dc.json").write_text(json.dumps({"computeType": "aci", "port": port,
        "containerResourceRequirements": {"cpu": 1, "memoryInGB": 0.5}}))  # fmt: skip
    # On its shell's path, as an installed one, with the runtime that its tests have.
    (device / "bin").mkdir()
    program = device / "bin/edge-agent"
    agent = Path(sys.executable).with_name("edge-agent")
    program.write_text(f'#!/bin/sh\nEDGEPACK_RUNTIME=process exec {agent} "$@"\n')
    program.chmod(0o755)
    with sshd(device / "ssh", f"{program.parent}:{os.defpath}") as server:
        yield Far(commands, server, device, port)
    commands.edgepack("device", "remove", "press-9")


def test_what_cannot_be_reached_is_one_sentence_and_changes_nothing(far: Far) -> None:
    def refused(*words: object, code: int = 1, config: str = "host", **given: object) -> str:
        far.reach(*words, config=config, **given)
        said: str = far.deploy(code=code)
        assert len(said.strip().splitlines()) == 1, said
        return said

    # Before anything is built: there is no model of that name.
    said = far.service("deploy", "-n", "far", "-m", "none:1", "--dc", far.device / "dc.json", code=2)
    assert "it is not known how it is reached" in said
    unknown = refused(config="")
    assert "cannot be reached: Host key verification failed; nothing is asked here" in unknown
    assert f"by hand: ssh -F {far.server.config('')}" in unknown
    untrusted = refused(key="unknown-by-ssh", code=4)
    assert "if you know the owner of that key, run: edge-agent trust KEY.pub" in untrusted
    far.commands.edgepack("device", "reach", "press-9", "--key", "test", "--ssh", "-oProxyCommand=touch x", code=2)
    assert far.service("list") == []
    # No serial was used, and what was refused is in no document.
    assert far.commands.edgepack("device", "show", "press-9").json["deployments"] == []


def test_each_fault_of_ssh_or_of_the_far_side_is_told(far: Far) -> None:
    def told(config: str = "host", **changed: Any) -> str:
        reach = Reach(
            "test", ssh=far.server.destination, identity_file=far.server.identity, ssh_config=far.server.config(config)
        )  # fmt: skip
        with pytest.raises(EdgepackError) as failed:
            RemoteAgent.of("press-9", replace(reach, **changed)).json("status", seconds=20)
        return str(failed.value)

    assert "cannot be reached: Host key verification failed" in told("other")
    assert "Permission denied (publickey)" in told(identity_file=far.server.folder / "other")
    nobody = told(ssh=f"127.0.0.1:{free_port()}")
    assert "Connection refused" in nobody
    assert "Could not resolve hostname" in told(ssh="edge@no-such-host.invalid")
    absent = told(agent="/opt/edgepack/bin/edge-agent")
    assert "device press-9: has no /opt/edgepack/bin/edge-agent that a login without a terminal finds (" in absent
    assert "--agent of edgepack device reach" in absent
    assert "answers something else than edge-agent does: status --output json" in told(agent="/bin/echo")
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        mute = replace(Ssh.of(Reach("test", ssh=f"127.0.0.1:{silent.getsockname()[1]}")), config=far.server.config())
        with pytest.raises(UnreachedError, match="has not answered within 1 seconds"):
            mute.run("true", 1)


def test_a_transfer_that_is_cut_leaves_what_came_and_is_gone_on_with(site: Site, far: Far) -> None:
    far.reach()
    far.server.line.sent, far.server.line.cut_after = 0, 20_000_000
    said = far.deploy(code=1)
    assert "before it had the image of service far; what came is kept there" in said
    assert len(said.strip().splitlines()) == 1
    assert not listens(far.port)
    assert far.service("list") == []
    far.server.line.sent, far.server.line.cut_after = 0, None

    found = far.deploy()
    assert (found["state"], found["target"], found["reason"]) == ("Healthy", "press-9", None)
    assert_scores(far.port, site.models[1])
    held = sum(one.stat().st_size for one in (far.device / "state/store/blobs/sha256").iterdir())
    assert far.server.line.sent < held - 5_000_000, "what had come was sent again"


def test_a_service_lives_on_a_device_by_ssh(site: Site, far: Far) -> None:
    far.server.line.sent = 0
    assert far.service("update", "far", "-m", "mlp:2")["state"] == "Healthy"
    assert_scores(far.port, site.models[2])
    assert far.server.line.sent < 3_000_000, "more than the new model went there"

    keyed = json.loads((far.device / "dc.json").read_text()) | {"authEnabled": True}
    (far.device / "keyed.json").write_text(json.dumps(keyed))
    assert far.service("update", "far", "--dc", far.device / "keyed.json")["state"] == "Healthy"
    body, kind = json.dumps({"data": rows()}), {"Content-Type": "application/json"}

    def status(key: str) -> int:
        return ask(far.port, "POST", "/score", body, {**kind, "Authorization": f"Bearer {key}"}).status

    before = far.service("keys", "far")
    after = far.service("keys", "far", "--regenerate", "primary")
    wait_until(lambda: status(after["primary"]) == 200)
    assert [status(key) for key in before.values()] == [401, 200]

    assert '"message":"ready"' in far.service("logs", "far", "-n", "100")
    shown = far.service("list")
    assert [(one["name"], one["state"], one["models"]) for one in shown] == [("far", "Healthy", ["mlp:2"])]
    far.service("delete", "far")
    assert far.service("list") == []
    assert not listens(far.port)


@pytest.mark.real("haproxy")
def test_an_endpoint_lives_on_a_device_by_ssh(far: Far) -> None:
    def endpoint(verb: str, *words: object, code: int = 0) -> Any:
        done = far.commands.edgepack("endpoint", verb, "split", *words, code=code)
        return json.loads(done.stdout) if code == 0 else done.stderr

    keyed = json.loads((far.device / "dc.json").read_text()) | {"authEnabled": True, "dnsNameLabel": "localhost"}
    (far.device / "keyed.json").write_text(json.dumps(keyed))
    dc = ("--dc", far.device / "keyed.json")
    made = endpoint("create", "--version", "v1", "-m", "mlp:1", "--port", port := free_port(), *dc)
    assert (made["state"], made["target"]) == ("Healthy", "press-9")
    assert made["scoring_uri"] == f"http://localhost:{port}/score"
    key = endpoint("keys", "--regenerate", "primary")["primary"]
    body, kind = json.dumps({"data": rows()}), {"Content-Type": "application/json"}
    headers = {**kind, "Authorization": f"Bearer {key}"}
    wait_until(lambda: ask(port, "POST", "/score", body, headers).status == 200)
    assert ask(port, "POST", "/score", body, headers).headers["x-edgepack-version"] == "split-v1"
    (version,) = endpoint("show")["versions"]
    assert version["requests"] > 0
    endpoint("delete")
    assert far.service("list") == []
    assert not listens(port)


def test_what_is_not_waited_for_goes_on_by_itself(site: Site, far: Far) -> None:
    assert far.deploy("--no-wait")["state"] == "Transitioning"
    wait_until(lambda: far.service("show", "far")["state"] == "Healthy")
    assert_scores(far.port, site.models[1])


def test_a_device_that_is_away_is_told_of_with_its_last_state(far: Far) -> None:
    assert far.service("show", "far")["state"] == "Healthy"
    far.reach(ssh=f"127.0.0.1:{free_port()}")
    (shown,) = far.service("list")
    assert shown["state"] == "Unknown"
    assert shown["reason"].startswith("it was Healthy less than a minute ago; ssh 127.0.0.1:")
    assert "Connection refused" in shown["reason"]
    assert "cannot be reached" in far.service("delete", "far", code=1)
    assert listens(far.port)
    far.reach()
    assert far.service("show", "far")["state"] == "Healthy"
    far.service("delete", "far")
