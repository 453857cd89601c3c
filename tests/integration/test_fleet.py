"""``edgepack device``, as it is typed: a device's identity, its broker's lines, and documents for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.descriptor import Platform
from edgepack.signing.envelope import verify
from edgepack.signing.keys import create_key
from edgepack.state.desired import PAYLOAD_TYPE, Desired
from edgepack.state.identity import Identity
from packager.fleet.acl import acl_lines
from packager.fleet.broker import BrokerAccess, publish
from packager.fleet.device import Device
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.authority import Authority
from tests.packager.support.workspaces import make_workspace
from tests.support import forked
from tests.support.broker import Mosquitto, running
from tests.support.ports import free_port
from tests.support.running import Done, finish, run
from tests.support.waiting import wait_until

ABSENT = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an image ``tiny:1`` for amd64 and arm64, and a key."""
    folder = tmp_path_factory.mktemp("fleet")
    workspace = make_workspace(folder, 0)
    workspace.keys.create("factory")
    for name, platform, groups in (
        ("press-7", "linux/amd64", ("line-2",)),
        ("mill-1", "linux/arm64", ("line-2",)),
        ("old-1", "linux/arm/v7", ("attic",)),
    ):
        key = create_key()
        identity = Identity(name, key.public, Platform.parse(platform), groups)
        (folder / f"{name}.json").write_bytes(identity.signed(key))
        workspace.devices.add(identity)
    desired(folder, "tiny:1")
    return folder


@pytest.fixture
def folder(stock: Path, tmp_path: Path) -> Path:
    run("cp", "-a", f"{stock}/.", tmp_path)
    return tmp_path


def typed(folder: Path, *words: object) -> Done:
    env = {**os.environ, "EDGEPACK_WORKSPACE": str(folder / "workspace"), "EDGEPACK_CACHE": str(folder / "cache")}
    return forked.finish("edgepack", "device", *words, cwd=folder, env=env)


def desired(folder: Path, *images: str, **more: Any) -> None:
    services = [{"name": f"churn-{at}", "image": image, "port": 6789 + at} for at, image in enumerate(images)]
    (folder / "desired.json").write_text(json.dumps({"schema": "edgepack.desired/v1", "services": services, **more}))


def opened(folder: Path, data: bytes) -> Desired:
    key = Workspace(folder / "workspace").keys.get("factory").public
    return Desired.from_bytes(verify(data, PAYLOAD_TYPE, [key]).payload)


def test_a_document_names_digests_whom_it_is_for_and_the_next_serial(folder: Path) -> None:
    image = Workspace(folder / "workspace").image("tiny:1").digest
    for serial in (1, 2):
        done = typed(folder, "deploy", "press-7", "desired.json", "--key", "factory", "-o", "out.json")
        assert done.code == 0, done.stderr
        found = opened(folder, (folder / "out.json").read_bytes())
        assert (found.serial, found.device, found.group) == (serial, "press-7", None)
        assert [one.image for one in found.services] == [image]
    assert "edge-agent apply out.json" in done.stderr

    done = typed(folder, "deploy", "--group", "line-2", "desired.json", "--key", "factory", "-o", "g.json", "--output",
                 "json")  # fmt: skip
    assert json.loads(done.stdout)["devices"] == ["mill-1", "press-7"]
    found = opened(folder, (folder / "g.json").read_bytes())
    assert (found.serial, found.device, found.group) == (1, None, "line-2")

    shown = json.loads(typed(folder, "show", "press-7", "--output", "json").stdout)
    assert [(one["target"], one["serial"]) for one in shown["deployments"]] == [("device", 2), ("group", 1)]
    assert shown["acl"][0] == "user press-7"
    assert "device press-7: serial 2" in typed(folder, "show", "press-7").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["press-7", "desired.json"], 2, "say where to; give --broker URL, or -o FILE for a stick"),
        (["press-7", "none.json", "-o", "x"], 3, "there is no such file"),
        (["pres-7", "desired.json", "-o", "x"], 3, "did you mean 'press-7'?"),
        (["press-7", "-o", "x"], 2, "give NAME and FILE"),
        (["--group", "line-2", "press-7", "desired.json", "-o", "x"], 2, "give FILE, beside --group"),
        (["--group", "line2", "desired.json", "-o", "x"], 3, "no device is in group 'line2'; did you mean 'line-2'?"),
        (
            ["press-7", "absent.json", "-o", "x"],
            2,
            "services[1].image: image 'tiny:2' not found; did you mean 'tiny:1'?",
        ),
        (["press-7", "mill-1.json", "-o", "x"], 2, "mill-1.json: it is a signed document, and no desired state"),
        (["press-7", "other.json", "-o", "x"], 2, "device press-7: says that it is for device mill-1"),
        (["old-1", "desired.json", "-o", "x"], 1, "service churn-0 on device old-1:"),
        (["press-7", "desired.json", "--broker", "b"], 2, "'b' is not the address of a broker"),
        (["press-7", "desired.json", "--broker", "mqtts://u:hunter2@b"], 2, "give --user and --password-file instead"),
        (["press-7", "desired.json", "--broker", "mqtt://b", "--ca-file", "desired.json"], 2, "has no TLS"),
        (["press-7", "desired.json", "--broker", "mqtts://b", "--ca-file", "desired.json"], 2, "cannot be used"),
        (["press-7", "desired.json", "--broker", "mqtts://b", "--password-file", "pw"], 2, "given without --user"),
    ],
)
def test_a_mistake_is_told_and_takes_no_serial(folder: Path, words: list[str], code: int, says: str) -> None:
    plain = json.loads((folder / "desired.json").read_text())
    absent = {"name": "other", "image": "tiny:2", "port": 1}
    (folder / "absent.json").write_text(json.dumps({**plain, "services": [*plain["services"], absent]}))
    (folder / "other.json").write_text(json.dumps({**plain, "device": "mill-1"}))
    (folder / "pw").write_text("hunter2\n")
    done = typed(folder, "deploy", *words, "--key", "factory")
    assert (done.code, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "hunter2" not in done.stderr
    assert not (folder / "x").exists()


def test_all_mistakes_of_a_document_are_told_at_once(folder: Path) -> None:
    desired(folder, "tiny:2", "UPPER:1", "sha256:12", servces=[])
    done = typed(folder, "deploy", "press-7", "desired.json", "--key", "factory", "-o", "x")
    assert done.code == 2
    for says in ("services[0].image: ", "services[1].image: ", "services[2].image: ", "did you mean 'services'?",
                 "an image is named by its tag, such as churn:1, or its digest: edgepack package list"):  # fmt: skip
        assert says in done.stderr
    assert "images are named by digest" not in done.stderr


def test_an_image_that_is_not_in_the_workspace_is_remarked_on(folder: Path) -> None:
    desired(folder, ABSENT)
    done = typed(folder, "deploy", "press-7", "desired.json", "--key", "factory", "-o", "x")
    assert done.code == 0
    assert f"image {ABSENT} of service churn-0 is not in this workspace, so it was not checked" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["press-8", "--identity", "press-7.json"], 2, "is the identity of 'press-7', not of 'press-8'"),
        (["press-7", "--identity", "none.json"], 3, "write one with: edge-agent init"),
        (["press-7", "--identity", "desired.json"], 4, "is not a DSSE envelope"),
        (["press-7", "--identity", "desired.json"], 4, "; give the identity.json that edge-agent init wrote"),
        (["press 7", "--identity", "press-7.json"], 2, "is not a device name"),
        (["press-7", "--identity", "press-7.json", "--group", "a/b"], 2, "is not a group name"),
        (["press-7", "--identity", "twin.json"], 2, "two devices must not have one name"),
    ],
)
def test_a_device_that_cannot_be_added(folder: Path, words: list[str], code: int, says: str) -> None:
    twin = create_key()
    (folder / "twin.json").write_bytes(Identity("press-7", twin.public, Platform.parse("linux/amd64")).signed(twin))
    done = typed(folder, "add", *words)
    assert (done.code, done.stdout) == (code, "")
    assert says in done.stderr


def test_a_group_that_the_device_does_not_know_of_is_remarked_on(folder: Path) -> None:
    done = typed(folder, "add", "press-7", "--identity", "press-7.json", "--group", "presses")
    assert done.stdout.endswith("topic write edgepack/v1/devices/press-7/events\n")
    assert "topic read edgepack/v1/groups/presses/desired\n" in done.stdout
    assert "listens to presses only when groups in its configuration has it too" in done.stderr


# ---- The broker -----------------------------------------------------------------------------------------------------

DEVICES = [
    Device(name, create_key().public, Platform.parse("linux/amd64"), groups, "2026-01-01T00:00:00Z")
    for name, groups in (("press-7", ("line-2",)), ("mill-1", ()))
]
MANAGER = ("user manager", "topic readwrite edgepack/v1/#")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker with the lines of two devices and of who manages them."""
    folder = tmp_path_factory.mktemp("broker")
    lines = [line for device in DEVICES for line in acl_lines(device)]
    users = {"press-7": "word 7", "mill-1": "word 1", "manager": "word 0"}
    authority = Authority(folder / "authority")
    with running(Mosquitto(folder / "b", users, "\n".join([*lines, *MANAGER, ""]), authority)) as found:
        yield found


@pytest.mark.real("mosquitto")
def test_the_lines_let_a_device_at_its_own_topics_and_at_no_others(broker: Mosquitto) -> None:
    own, other, group = "edgepack/v1/devices/press-7", "edgepack/v1/devices/mill-1", "edgepack/v1/groups"
    client = ["--unix", str(broker.socket), "-u", "press-7", "-P", "word 7", "-V", "5", "-q", "1"]

    def may_write(topic: str) -> bool:
        done = finish("mosquitto_pub", *client, "-t", topic, "-m", "x", "-d")
        return "Not authorized" not in done.stdout + done.stderr

    writes = {f"{own}/{last}" for last in ("reported", "status", "events")}
    reads = {f"{own}/{last}" for last in ("desired", "command", "status")} | {f"{group}/line-2/desired"}
    topics = {
        f"{place}/{last}"
        for place in (own, other)
        for last in ("desired", "reported", "status", "events", "telemetry", "command")
    } | {f"{group}/line-2/desired", f"{group}/line-3/desired", "edgepack/v1/devices/press-77/reported", "else"}
    assert {topic for topic in topics if may_write(topic)} == writes

    # One subscription to all, and each topic as itself: what arrives is what the broker lets the device read.
    words = [*client, "-v", "-W", "10", *(word for topic in ("#", *sorted(topics)) for word in ("-t", topic))]
    before = broker.log.count("SUBSCRIBE")
    with subprocess.Popen(["mosquitto_sub", *words], stdout=subprocess.PIPE, text=True) as watcher:
        wait_until(lambda: broker.log.count("SUBSCRIBE") > before)
        for topic in sorted(topics - {"else"}):
            broker.publish(topic, "seen", retain=False)
        broker.publish(f"{group}/line-2/desired", "last", retain=False)
        assert watcher.stdout is not None
        seen = set()
        for line in watcher.stdout:
            seen.add(line.split()[0])
            if line.endswith("last\n"):
                watcher.terminate()
    assert seen == reads


@pytest.mark.real("mosquitto")
def test_a_document_is_published_retained(folder: Path, broker: Mosquitto) -> None:
    (folder / "pw").write_text("word 0\n")
    (folder / "wrong").write_text("hunter2\n")
    at = ["--broker", f"mqtts://localhost:{broker.port}", "--ca-file", broker.authority.file, "--user"]  # type: ignore[union-attr]
    words = ["deploy", "press-7", "desired.json", "--key", "factory", *at]
    done = typed(folder, *words, "manager", "--password-file", "pw", "--output", "json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["topic"] == "edgepack/v1/devices/press-7/desired"
    found = opened(folder, broker.read(said["topic"]).encode())
    assert (found.serial, found.device) == (1, "press-7")

    for user, file, says in (("manager", "wrong", "refuses the login"), ("press-7", "pw", "refuses the login")):
        done = typed(folder, *words, user, "--password-file", file)
        assert (done.code, done.stdout) == (1, "")
        assert says in done.stderr
    (folder / "pw").write_text("word 7\n")
    done = typed(folder, *words, "press-7", "--password-file", "pw")
    assert done.code == 1
    assert "refuses to publish to edgepack/v1/devices/press-7/desired" in done.stderr

    # Nothing of that took a serial, and of many at the same time the last one is kept by the broker.
    (folder / "pw").write_text("word 0\n")
    typists = [
        threading.Thread(target=typed, args=(folder, *words, "manager", "--password-file", "pw", "-o", "x"))
        for _ in range(4)
    ]
    for typist in typists:
        typist.start()
    for typist in typists:
        typist.join()
    assert opened(folder, broker.read(said["topic"]).encode()).serial == 5
    assert opened(folder, (folder / "x").read_bytes()).serial == 5


@pytest.mark.real("mosquitto")
def test_a_broker_that_is_not_what_it_should_be(folder: Path, broker: Mosquitto) -> None:
    words = ["deploy", "press-7", "desired.json", "--key", "factory", "-o", "x", "--broker"]
    for url, says in (
        (f"mqtt://127.0.0.1:{free_port()}", "cannot be reached (Connection refused)"),
        (f"mqtts://127.0.0.1:{broker.port}", "cannot be reached"),  # its authority is not known
        (f"unix://{folder}/none", "cannot be reached (No such file or directory)"),
        (f"mqtt://127.0.0.1:{broker.port}", "ended the connection before it had the message"),
        (f"mqtt://127.0.0.1:{broker.port}", "whose address begins with mqtts://"),
    ):
        done = typed(folder, *words, url)
        assert (done.code, done.stdout) == (1, "")
        assert says in done.stderr
        assert not (folder / "x").exists()
    with running(Mosquitto(folder / "plain")) as plain:
        done = typed(folder, *words, f"mqtts://127.0.0.1:{plain.port}")
        assert done.code == 1
        assert "check its address, which begins with mqtt:// where the broker has no TLS" in done.stderr
        assert not (folder / "x").exists()
    assert typed(folder, *words[:-1]).code == 0
    assert opened(folder, (folder / "x").read_bytes()).serial == 1


def test_a_broker_that_knows_only_the_earlier_protocol_gets_the_document_too() -> None:
    versions, published = [], b""

    def serve(listener: socket.socket) -> None:
        nonlocal published
        for answer in (b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x00"):  # CONNACK: another version (5), welcome (3.1.1)
            client, _ = listener.accept()
            with client:
                versions.append(client.recv(1 << 16)[8])
                client.sendall(answer)
                while answer[-2:] == b"\x00\x00" and b"sha256" not in published:
                    published += client.recv(1 << 16)
                if published:
                    at = published.index(b"desired") + len(b"desired")
                    client.sendall(b"\x40\x02" + published[at : at + 2])  # PUBACK with its number
                    client.recv(16)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        access = BrokerAccess(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        publish(access, "edgepack/v1/devices/press-7/desired", b"sha256")
        server.join(30)
    assert versions == [5, 4]
    assert published[0] == 0x33  # PUBLISH, QoS 1, retained


@pytest.mark.real("mosquitto")
def test_an_agent_with_these_rights_takes_what_is_deployed_and_reports(folder: Path, broker: Mosquitto) -> None:
    """From ``edge-agent init`` to the reported state, with nothing but what the commands print and write."""
    (folder / "p7").write_text("word 7\n")
    (folder / "p7").chmod(0o600)
    (folder / "p0").write_text("word 0\n")
    url = f"mqtts://localhost:{broker.port}"
    assert broker.authority is not None
    at = ("--broker", url, "--ca-file", broker.authority.file)
    agent = ("edge-agent", "--state-dir", "dev")
    words = ("init", "--device", "press-7", "--group", "line-2", *at, "--user", "press-7", "--password-file", "p7")
    assert forked.finish(*agent, *words, cwd=folder).code == 0
    key = folder / "workspace" / "keys" / "factory.pub"
    assert forked.finish(*agent, "trust", key, cwd=folder).code == 0
    assert typed(folder, "add", "press-7", "--identity", "dev/identity.json", "--replace").code == 0
    desired(folder)
    argv = [sys.executable, "-m", "edge_agent", *agent[1:], "run"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for target in (["press-7"], ["--group", "line-2"]):
            words = ("deploy", *target, "desired.json", "--key", "factory", *at, "--user", "manager")
            done = typed(folder, *words, "--password-file", "p0", "--serial", "50")
            assert done.code == 0, done.stderr
        wait_until(lambda: "group line-2 accepted with serial 50" in (folder / "log").read_text())

        def reported() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(broker.read("edgepack/v1/devices/press-7/reported"))
            return found

        wait_until(lambda: [one["serial"] for one in reported()["documents"]] == [50, 50])
        assert [one["status"] for one in reported()["documents"]] == [200, 200]
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert json.loads(broker.read("edgepack/v1/devices/press-7/status"))["state"] == "offline"
    assert "enied" not in broker.log.split("Client press-7")[-1]
