"""Services of a real Docker engine behind a real HAProxy: nobody's request fails while versions take over."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.runtimes.base import Alone, Fronted, holding
from edge_agent.runtimes.engine import fronting
from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.engine.runtime import BesideContainer, DockerRuntime
from edge_agent.runtimes.haproxy.front import Front
from edge_agent.runtimes.haproxy.process import HaproxyProcess
from edgepack.errors import RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.callers import Callers
from tests.edge_agent.support.runtimes import build_image, copy_store
from tests.support.http_client import ask, listens
from tests.support.running import run
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.real("dockerd", "haproxy", "mmdebstrap", "ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@dataclass
class Device:
    """A device on an engine, with images that say ``one`` and ``two``, and a service of the first."""

    root: Path
    engine: str
    store: Store
    base: Layer
    spec: DesiredService

    def runtime(self) -> DockerRuntime:
        return DockerRuntime(self.store, self.engine)

    def of(self, text: str, **more: object) -> DesiredService:
        image = build_image(self.store, self.base, text)
        self.runtime().prepare(image)
        return replace(self.spec, image=image, **more)  # type: ignore[arg-type]

    def answer(self, port: int | None = None) -> str:
        return "two" if b"'two'" in ask(port or self.spec.port, "GET", "/").body else "one"

    def run(self, spec: DesiredService) -> None:
        self.runtime().start(spec)
        wait_until(lambda: _answers(self, spec.port))

    def beside(self, spec: DesiredService, runtime: DockerRuntime | None = None) -> BesideContainer:
        """A version beside the one that runs, once it answers."""
        beside = (runtime or self.runtime()).start_beside(spec)
        wait_until(lambda: _healthy(beside))
        return beside

    def containers(self) -> list[str]:
        return sorted(run("docker", "--host", self.engine, "ps", "-a", "--format", "{{.Names}}").split())

    @property
    def front(self) -> Front:
        return Front(self.root)

    @property
    def haproxy(self) -> int | None:
        found = HaproxyProcess(self.root / "router", "").running()
        return None if found is None else found.pid

    def kill_haproxy(self) -> None:
        assert self.haproxy is not None
        os.kill(self.haproxy, signal.SIGKILL)
        wait_until(lambda: self.haproxy is None)


def _answers(device: Device, port: int) -> bool:
    try:
        return bool(device.answer(port))
    except (OSError, ValueError, EOFError):
        return False


def _healthy(beside: BesideContainer) -> bool:
    try:
        with beside.connect(2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.0 200")
    except OSError:
        return False


@pytest.fixture
def device(
    dockerd: str, base_store: tuple[Store, Layer], open_dir: Path, free_port: Callable[[], int]
) -> Iterator[Device]:
    store = copy_store(base_store[0], open_dir / "store")
    made = Device(open_dir, dockerd, store, base_store[1], DesiredService("churn", Digest.of(b""), free_port()))
    made.spec = made.of("one")
    yield made
    for name in ("churn", "fraud"):
        made.runtime().stop(name, 1)
    assert made.haproxy is None
    assert made.containers() == []


def test_versions_take_over_and_long_requests_finish_on_the_one_before(device: Device) -> None:
    slow = replace(device.spec, env={"PROBE": "lambda: __import__('time').sleep(2)"})
    runtime, two = device.runtime(), device.of("two")
    assert isinstance(runtime, Fronted)
    device.run(device.spec)
    assert (runtime.fronts(two), runtime.alone(two)) == (True, None)
    with Callers(device.answer, 0.02) as callers:
        for spec in (two, device.spec):
            beside = device.beside(spec, runtime)
            assert device.containers() == ["edgepack-churn", "edgepack-churn.next"]
            found = beside.inspect()
            assert found is not None
            assert (found.image, found.port) == (spec.image, spec.port)
            assert "starting" in beside.last_words()
            beside.take_over()
            now = runtime.inspect("churn")
            assert now is not None
            assert (now.image, now.state, device.containers()) == (spec.image, "running", ["edgepack-churn"])
    assert {"one", "two"} == {*callers.answers}

    device.runtime().stop("churn", 1)
    assert not listens(device.spec.port)
    device.run(slow)
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(device.answer()))
    beside = device.beside(two)
    caller.start()
    time.sleep(0.5)
    beside.take_over()
    assert device.answer() == "two"
    caller.join()
    assert answers == ["one"]


def test_who_asks_while_nothing_runs_waits_and_is_answered(device: Device) -> None:
    runtime, two = device.runtime(), device.of("two")
    device.run(device.spec)
    with Callers(device.answer, 0.02) as callers, holding(runtime, "churn"):
        runtime.stop("churn", 1)
        assert device.containers() == []
        device.beside(two, runtime).take_over()
        wait_until(lambda: "two" in callers.answers)
    with holding(runtime, "churn"):
        runtime.stop("churn", 1)
    assert not listens(device.spec.port)  # nothing is left that anybody could wait for


def test_whatever_ends_in_a_switch_one_version_answers(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    two = device.of("two")
    device.run(device.spec)
    device.beside(two)  # killed here
    with Callers(device.answer, 0.02) as callers:
        assert device.runtime().start(device.spec).image == device.spec.image
        assert device.containers() == ["edgepack-churn"]
    assert {*callers.answers} == {"one"}

    # HAProxy ends: another one takes over with the version.
    beside = device.beside(two)
    device.kill_haproxy()
    assert not device.front.is_as_wanted
    beside.take_over()
    assert device.answer() == "two"

    # Killed when it was on record who counts, and before HAProxy knew it.
    def end(*_: object) -> frozenset[str]:
        raise KeyboardInterrupt

    beside = device.beside(device.spec)
    with monkeypatch.context() as patched:
        patched.setattr(Front, "_lead_all", end)
        written = Front._write
        # Nobody puts the former record back, as nobody would.
        patched.setattr(Front, "_write", lambda self, routes: written(self, routes) if _fresh(routes, beside) else None)
        with pytest.raises(KeyboardInterrupt):
            beside.take_over()
    assert device.answer() == "two"
    with Callers(device.answer, 0.02):
        device.front.settle()
        assert device.answer() == "one"
        # The next change takes away what is left.
        device.runtime().start(device.spec)
        assert device.containers() == ["edgepack-churn"]

    # Killed before the version before was removed.
    beside = device.beside(two)
    with monkeypatch.context() as patched:
        patched.setattr(DockerRuntime, "_remove", end)
        with pytest.raises(KeyboardInterrupt):
            beside.take_over()
    found = device.runtime().inspect("churn")
    assert found is not None
    assert (device.answer(), found.image) == ("two", two.image)
    with Callers(device.answer, 0.02):
        device.beside(device.spec).take_over()
    assert (device.answer(), device.containers()) == ("one", ["edgepack-churn"])


def _fresh(routes: object, beside: BesideContainer) -> bool:
    return beside._route in list(routes.values())  # type: ignore[attr-defined]


def test_a_version_that_cannot_take_over_leaves_the_other_one(device: Device) -> None:
    device.run(device.spec)
    with socket.create_server(("127.0.0.1", 0)) as other, Callers(device.answer, 0.02) as callers:
        taken = replace(device.of("two"), port=other.getsockname()[1])
        with pytest.raises(RuntimeFailedError, match=f"port {taken.port} on 127.0.0.1 cannot be used"):
            device.runtime().start_beside(taken)
        crashing = replace(device.spec, env={"CRASH": "3"})
        beside = device.runtime().start_beside(crashing)
        wait_until(lambda: (found := beside.inspect()) is not None and found.state == "exited")
        assert "crashing" in beside.last_words()
        beside.discard()
    assert {*callers.answers} == {"one"}
    assert device.containers() == ["edgepack-churn"]


def test_one_router_has_the_ports_of_all_services_and_serves_those_that_it_can(
    device: Device, free_port: Callable[[], int]
) -> None:
    fraud = replace(device.of("two"), name="fraud", port=free_port())
    device.run(device.spec)
    first = device.haproxy
    with Callers(device.answer, 0.02):
        device.run(fraud)
    assert (device.answer(), device.answer(fraud.port)) == ("one", "two")
    assert device.haproxy not in (None, first)
    device.kill_haproxy()
    with socket.create_server(("127.0.0.1", device.spec.port)):
        with pytest.raises(RuntimeFailedError, match=rf"cannot have 127.0.0.1:{device.spec.port} of service churn"):
            device.front.settle()
        assert device.answer(fraud.port) == "two"
        assert not device.front.is_as_wanted
    device.front.settle()
    assert (device.answer(), device.front.is_as_wanted) == ("one", True)
    with Callers(device.answer, 0.02):
        device.runtime().stop("fraud", 1)
    assert not listens(fraud.port)


def test_a_service_moves_behind_the_router_and_back(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    two = device.of("two")
    with monkeypatch.context() as patched:
        patched.setattr(fronting, "program", lambda: None)
        device.run(device.spec)
        assert (device.haproxy, device.front.route("churn")) == (None, None)
        told = device.runtime().alone(two)
        assert isinstance(told, Alone)
        assert told.reason.startswith("haproxy is not installed")
        assert not device.runtime().fronts(two)
    # It is left as it is until it changes.
    device.runtime().start(device.spec)
    assert device.haproxy is None
    device.beside(two).take_over()
    assert (device.answer(), device.haproxy is None) == ("two", False)

    monkeypatch.setenv("EDGEPACK_ROUTER", "never")
    told = device.runtime().alone(device.spec)
    assert told is not None
    assert "EDGEPACK_ROUTER" in told.reason
    with holding(runtime := device.runtime(), "churn"):
        runtime.stop("churn", 1)
        device.run(device.spec)
    assert (device.answer(), device.haproxy) == ("one", None)


def test_what_is_told_of_a_container(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:9C40 0100007F:4E20 01 0\n   1: 0100007F:9C41 0100007F:4E20 06 0\n"
        "   2: 0100007F:4E20 00000000:0 0A\n"
    )
    assert (fronting.connections_to(20000, table), fronting.connections_to(1, table / "none")) == (1, 0)
    host = {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}], "Devices": [{"PathOnHost": "/dev/x"}]}
    found = fronting.holds("churn", Digest.of(b""), Container("id", {"HostConfig": host}))
    assert ([one.source for one in found.mounts], [one.path for one in found.devices]) == (["/a"], ["/dev/x"])
