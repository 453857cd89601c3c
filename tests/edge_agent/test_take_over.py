"""One version of a service takes over from another, by real processes and containers: nobody's request fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.runtimes import instances, room, sockets
from edge_agent.runtimes.base import Alone, Relieving, holding
from edge_agent.runtimes.processes import living
from edge_agent.runtimes.unpacked import runtime as unpacked
from edgepack.errors import RuntimeFailedError
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from tests.edge_agent.support.callers import Callers
from tests.edge_agent.support.runtimes import build_image, copy_store, make_runtime
from tests.support.http_client import ask, listens
from tests.support.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
KINDS = [
    "process",
    pytest.param("crun", marks=[as_root, pytest.mark.real("crun", "mmdebstrap")]),
    pytest.param("runc", marks=[as_root, pytest.mark.real("runc", "mmdebstrap"), pytest.mark.whole]),
]
# As our server where it counts: takes the sockets that it is handed, and ends when what it has taken is answered.
SERVER = """
import os, selectors, signal, socket, sys, time
text, slow = %r, float(os.environ.get("SLOW", "0"))
signal.signal(signal.SIGTERM, lambda *_: ends.append(time.monotonic() + 0.2))
ends = []
count = int(os.environ["LISTEN_FDS"]) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
listeners = [socket.socket(fileno=3 + number) for number in range(count)]
listeners = listeners or [socket.create_server((os.environ["EDGEPACK_HOST"], int(os.environ["EDGEPACK_PORT"])))]
print("starting", text, "with", count, flush=True)
if os.environ.get("DEAF"):
    time.sleep(60)
ready = selectors.DefaultSelector()
for one in listeners:
    one.setblocking(False)
    ready.register(one, selectors.EVENT_READ)
while not ends or time.monotonic() < ends[0]:
    for key, _ in ready.select(0.05):
        if key.fileobj not in listeners:
            connection = key.fileobj
            ready.unregister(connection)
            connection.setblocking(True)
            if b"slow" in connection.recv(4096):
                time.sleep(slow)
            connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %%d\\r\\n\\r\\n" %% len(text) + text.encode())
            connection.close()
            continue
        try:
            connection, _ = key.fileobj.accept()
        except BlockingIOError:
            continue
        connection.setblocking(False)
        ready.register(connection, selectors.EVENT_READ)
    if ends:
        for one in listeners:
            if one.fileno() >= 0:
                ready.unregister(one)
                one.close()
"""


@dataclass
class Device:
    """A runtime, and images of a service on it."""

    kind: str
    store: Store
    base: Layer | None
    state: Path
    spec: DesiredService

    def runtime(self) -> Relieving:
        made = make_runtime(self.kind, self.store, self.state, None)
        assert isinstance(made, Relieving)
        return made

    def image(self, text: str) -> Digest:
        # In a network of its own any server will do: its connections are led to it.
        found = self._ours(text) if self.base is None else build_image(self.store, self.base, text)
        self.runtime().prepare(found)
        return found

    def _ours(self, text: str) -> Digest:
        place = "opt/edgepack/server/edge_server"
        files = {"__main__": SERVER % text, "__init__": "", "listening": ""}
        entries = [LayerEntry.of_bytes(f"{place}/{name}.py", code.encode()) for name, code in files.items()]
        app = write_layer(entries, self.store, NoCompression(), kind="code")
        config = ImageConfig(
            platform=Platform.host(), diff_ids=(app.diff_id,), env={"PYTHONPATH": "/opt/edgepack/server"},
            entrypoint=(f"/usr/bin/python3.{sys.version_info.minor}", "-m", "edge_server"), user="10001:10001",
        )  # fmt: skip
        manifest = Manifest(self.store.put_bytes(config.to_bytes(), mediatypes.CONFIG), (app.descriptor,))
        return self.store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST).digest

    def answer(self, path: str = "/") -> str:
        return "two" if b"two" in ask(self.spec.port, "GET", path).body else "one"

    def instances(self) -> int:
        """How many supervisors run."""
        words = [Path(f"/proc/{pid}/cmdline") for pid in living()]
        return sum(str(self.state).encode() in _read(one) and b"edgepack-service" in _read(one) for one in words)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def device(request: pytest.FixtureRequest, open_dir: Path, free_port: Callable[[], int]) -> Iterator[Device]:
    kind = request.node.callspec.params["kind"] if hasattr(request.node, "callspec") else "process"
    source = None if kind == "process" else request.getfixturevalue("base_store")
    store = copy_store(source[0], open_dir / "store") if source else Store.create(open_dir / "store")
    spec = DesiredService("churn", Digest.of(b""), free_port())
    made = Device(kind, store, source[1] if source else None, open_dir / "state", spec)
    made.spec = replace(spec, image=made.image("one"))
    yield made
    made.runtime().stop("churn", 1)
    assert made.instances() == 0
    assert str(open_dir) not in Path("/proc/self/mounts").read_text()


def health(device: Device, connect: Callable[[float], socket.socket]) -> bytes:
    def asked() -> bytes:
        try:
            with connect(2) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                connection.settimeout(2)
                return connection.recv(4096)
        except OSError:
            return b""

    return wait_until(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_takes_over_and_the_one_before_answers_until_then(device: Device, kind: str) -> None:
    runtime, two = device.runtime(), device.image("two")
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    new = replace(device.spec, image=two)
    assert runtime.alone(new) is None
    with Callers(device.answer, 0.005) as callers:
        for spec in (new, device.spec):
            beside = runtime.start_beside(spec)
            assert health(device, beside.connect).startswith(b"HTTP/1.0 200")
            found = beside.inspect()
            assert found is not None
            assert (found.service, found.image, found.state) == ("churn", spec.image, "running")
            assert "starting" in beside.last_words()
            beside.take_over()
            now = runtime.inspect("churn")
            assert now is not None
            assert (now.image, now.fault) == (spec.image, None)
            assert device.instances() == 1
    assert {"one", "two"} == {*callers.answers}


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_while_nothing_runs_waits_and_is_answered(device: Device, kind: str) -> None:
    runtime, two = device.runtime(), device.image("two")
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    with Callers(device.answer, 0.005) as callers, holding(runtime, "churn"):
        runtime.stop("churn")
        time.sleep(0.1)
        runtime.start(replace(device.spec, image=two))
        wait_until(lambda: "two" in callers.answers)
        runtime.stop("churn")  # and it is there for what is returned to, too
        runtime.start(device.spec)
    runtime.stop("churn")
    with pytest.raises(OSError):
        device.answer()


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_that_is_not_healthy_is_discarded_and_the_other_was_not_touched(device: Device, kind: str) -> None:
    runtime = device.runtime()
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    new = replace(device.spec, image=device.image("two"), env={"CRASH": "3", "DEAF": "1"})
    with Callers(device.answer, 0.005) as callers:
        beside = runtime.start_beside(new)
        if kind != "process":
            wait_until(lambda: (found := beside.inspect()) is not None and found.state == "exited")
            assert "crashing" in beside.last_words()
        beside.discard()
        assert beside.inspect() is None
    assert {*callers.answers} == {"one"}
    assert device.instances() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_that_was_killed_in_a_switch_leaves_one_version_that_counts(
    device: Device, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    runtime, new = device.runtime(), replace(device.spec, image=device.image("two"))
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    beside = runtime.start_beside(new)
    health(device, beside.connect)  # killed here: the new one was started
    again = device.runtime()
    assert (device.instances(), device.answer()) == (2, "one") if kind == "crun" else (2, device.answer())
    assert again.inspect("churn") == again.start(device.spec)  # what runs is left alone, and what was left is ended
    assert (device.instances(), device.answer()) == (1, "one")

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    beside = again.start_beside(new)
    health(device, beside.connect)
    with monkeypatch.context() as patched:
        patched.setattr(unpacked.UnpackedRuntime, "_leave", killed)  # after the new one counts
        with pytest.raises(KilledError):
            beside.take_over()
    found = device.runtime().inspect("churn")
    assert found is not None
    assert found.image == new.image
    assert device.instances() == 2
    device.runtime().start(new)
    assert (device.instances(), device.answer()) == (1, "two")
    third = device.runtime()
    health(device, third.start_beside(device.spec).connect)
    third.stop("churn")
    assert device.instances() == 0


def test_a_long_request_ends_on_the_version_that_it_began_on(device: Device) -> None:
    runtime = device.runtime()
    runtime.start(replace(device.spec, env={"SLOW": "1"}))
    wait_until(lambda: device.answer() == "one")
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(device.answer("/slow")))
    caller.start()
    time.sleep(0.3)
    beside = runtime.start_beside(replace(device.spec, image=device.image("two")))
    health(device, beside.connect)
    beside.take_over()
    caller.join()
    assert answers == ["one"]
    assert device.answer() == "two"


def test_a_service_keeps_its_socket_when_the_agent_dies(device: Device) -> None:
    code = (
        "import sys\nfrom tests.edge_agent.support.runtimes import make_runtime\n"
        "from edgepack.oci.store import Store\nfrom edgepack.oci.digest import Digest\nfrom pathlib import Path\n"
        "from edgepack.state.desired import DesiredService\nimport os, signal\n"
        "store, state, image, port = sys.argv[1:]\n"
        "runtime = make_runtime('process', Store(Path(store)), Path(state), None)\n"
        "spec = DesiredService('churn', Digest.parse(image), int(port))\n"
        "with runtime.holding('churn'):\n    runtime.start(spec)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    words = [str(device.store.root), str(device.state), str(device.spec.image), str(device.spec.port)]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: device.answer() == "one")
    runtime, new = device.runtime(), replace(device.spec, image=device.image("two"))
    with Callers(device.answer, 0.005):
        assert runtime.alone(new) is None
        beside = runtime.start_beside(new)
        health(device, beside.connect)
        beside.take_over()


def test_the_socket_of_a_service_does_not_begin_to_block_for_who_holds_it(device: Device) -> None:
    runtime = device.runtime()
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    with runtime.holding("churn"):
        held = runtime._held["churn"]  # type: ignore[attr-defined]
        copy = held.dup()
        assert not os.get_blocking(held.fileno())
        copy.close()
    listener = sockets.listener_of(device.state / "run/process/churn")
    assert listener is not None
    with listener:
        assert not os.get_blocking(listener.fileno())


def test_any_other_server_is_stopped_before_the_next_one_starts(device: Device) -> None:
    image = build_image(
        device.store, None, "two", entrypoint=(f"/usr/bin/python3.{sys.version_info.minor}", "-m", "app")
    )
    runtime = device.runtime()
    runtime.prepare(image)
    foreign = replace(device.spec, image=image)
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    assert runtime.alone(foreign) == Alone("its image's server takes no listening socket from another version")
    with holding(runtime, "churn"):
        runtime.start(foreign)
    wait_until(lambda: listens(device.spec.port))
    assert device.answer() == "two"
    assert runtime.alone(device.spec) == Alone("what runs has no listening socket that it could take over")
    with holding(runtime, "churn"):
        runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")


def test_a_service_gets_its_port_at_another_address_though_its_socket_is_held(device: Device) -> None:
    runtime, wide = device.runtime(), replace(device.spec, address="0.0.0.0")  # noqa: S104 - in the test's own machine
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    assert runtime.alone(wide) == Alone("what runs has no listening socket that it could take over")
    for spec in (wide, device.spec):
        with holding(runtime, "churn"):
            runtime.start(spec)
        wait_until(lambda: device.answer() == "one")


def test_where_a_port_leads_is_looked_at_when_its_socket_is_opened_and_not_when_it_is_held(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, new = device.runtime(), replace(device.spec, image=device.image("two"))
    runtime.start(device.spec)
    wait_until(lambda: device.answer() == "one")
    monkeypatch.setattr(instances, "_RULE_SECONDS", 0.0)
    monkeypatch.setattr(instances, "_is_reached", lambda _: False)
    with holding(runtime, "churn"):  # a connection of the agent's own would be taken by what listens there
        beside = runtime.start_beside(new)
        health(device, beside.connect)
        beside.take_over()
        runtime.stop("churn")
        runtime.start(device.spec)
        wait_until(lambda: device.answer() == "one")
    runtime.stop("churn")
    with pytest.raises(RuntimeFailedError, match="do not arrive there"):
        runtime.start(device.spec)
    assert runtime.inspect("churn") is None


def test_two_versions_are_not_at_once_where_they_would_be_in_each_other_s_way(tmp_path: Path) -> None:
    plain = DesiredService("churn", Digest.of(b""), 6789)
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:  512000 kB\nMemAvailable:   204800 kB\n")  # 200 MiB
    camera = replace(plain, devices=(DeviceNode("/dev/video0"),))
    writes = replace(plain, mounts=(Mount("/srv/data", "/data", read_only=False),))
    reads = replace(plain, mounts=(Mount("/srv/data", "/data"),))

    def reason(spec: DesiredService, now: DesiredService, used: int = 50 << 20) -> str | None:
        found = room.why_alone(spec, now, used, memory)
        return None if found is None else found.reason

    assert reason(plain, plain) is reason(camera, plain) is reason(writes, reads) is reason(reads, reads) is None
    assert reason(camera, camera) == "both use device /dev/video0"
    assert reason(writes, writes) == "both write to /srv/data"
    assert reason(replace(plain, memory_bytes=160 << 20), plain) is None
    short = room.why_alone(replace(plain, memory_bytes=300 << 20), plain, 0, memory)
    assert short == Alone(
        "the device has 200 MiB of memory left, and two versions at once need 332 MiB", short_of_memory=True
    )
    assert reason(plain, plain, used=150 << 20) is not None
    assert room.why_alone(plain, plain, 1 << 40, tmp_path / "none") is None
