"""A device that shares its store, and others of its site that ask it before they ask anybody else."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_agent.config.configuration import NeighbourSource
from edgepack.errors import NotFoundError, VerificationError
from edgepack.oci.serve import serve
from edgepack.oci.store import Store
from tests.edge_agent.support.origins import Made, device, make, registry, sources, whole
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.http_client import ask, listens
from tests.support.waiting import wait_until

NAMES = ["churn"]
SHARE = "import sys; from pathlib import Path; from edge_agent.config.configuration import Share;"
SHARE += "from edge_agent.sources.share import share; share(Path(sys.argv[1]), Share('127.0.0.1', int(sys.argv[2])))"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store")


@contextmanager
def sharing(root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that shares the store of the device in ``root``."""
    process = subprocess.Popen([sys.executable, "-c", SHARE, str(root), str(port)])
    try:
        wait_until(lambda: listens(port))
        yield process
    finally:
        process.terminate()
        process.wait()


def neighbour(port: int) -> NeighbourSource:
    return NeighbourSource(f"http://127.0.0.1:{port}")


def test_an_image_goes_from_device_to_device_and_only_the_first_asks_the_registry(
    made: Made, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    first, second = device(tmp_path / "first", made), device(tmp_path / "second", made)
    port = free_port()
    with running(Simulator()) as simulator, sharing(first.root, port) as process:
        made.into(simulator)
        with pytest.raises(NotFoundError, match=f"http://127.0.0.1:{port}: does not have {made.digest}"):
            sources(second, neighbour(port)).fetch(made.digest)
        sources(first, registry(simulator)).fetch(made.digest, names=NAMES)
        simulator.seen.clear()
        sources(second, neighbour(port), registry(simulator)).fetch(made.digest, names=NAMES)
        assert simulator.seen == []
        assert whole(second, made)
        second.check_signed(made.digest, allow_unsigned=False)
        for method in ("PUT", "POST", "DELETE"):
            assert ask(port, method, "/v2/churn/blobs/uploads/").status == 405
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_devices_that_ask_each_other_go_round_in_no_circle(made: Made, tmp_path: Path) -> None:
    devices = [device(tmp_path / f"dev{number}", made) for number in range(3)]
    with running(Simulator()) as simulator, ExitStack() as stack:
        made.into(simulator)
        everybody = [
            neighbour(stack.enter_context(serve(Store.create(on.root / "store"), most_connections=9))) for on in devices
        ]
        for on in devices:
            with pytest.raises(NotFoundError):
                sources(on, *everybody).fetch(made.digest)
        assert simulator.seen == []
        for on in devices:
            sources(on, *everybody, registry(simulator)).fetch(made.digest, names=NAMES)
            assert whole(on, made)
        assert simulator.count("GET", str(made.layers[0].digest)) == 1


def test_what_a_neighbour_has_half_is_taken_and_the_rest_comes_from_elsewhere(made: Made, tmp_path: Path) -> None:
    first, second = device(tmp_path / "first", made), device(tmp_path / "second", made)
    with running(Simulator()) as simulator:
        made.into(simulator)
        del simulator.blobs[str(made.layers[1].digest)]
        with pytest.raises(NotFoundError):
            sources(first, registry(simulator)).fetch(made.digest, names=NAMES)
        made.into(simulator)
        simulator.sent = 0
        with serve(first.store) as port:
            sources(second, neighbour(port), registry(simulator)).fetch(made.digest, names=NAMES)
        assert whole(second, made)
        assert simulator.sent == made.layers[1].size


def test_a_neighbour_with_damaged_blobs_is_named_and_does_no_harm(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = device(tmp_path / "first", made), device(tmp_path / "second", made)
    with running(Simulator()) as simulator:
        made.into(simulator)
        sources(first, registry(simulator)).fetch(made.digest, names=NAMES)
        first.store.path(made.layers[0].digest).write_bytes(b"\0" * made.layers[0].size)
        with serve(first.store) as port:
            with pytest.raises(VerificationError):
                sources(second, neighbour(port)).fetch(made.digest)
            sources(second, neighbour(port), registry(simulator)).fetch(made.digest, names=NAMES)
            assert f"http://127.0.0.1:{port} gave wrong bytes for {made.layers[0].digest}" in caplog.text
    assert whole(second, made)


def test_a_device_shares_with_so_many_at_once_and_tells_others_to_come_again(made: Made) -> None:
    with serve(made.store, most_connections=2) as port, ExitStack() as stack:
        for _ in range(2):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            held.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert held.recv(100).startswith(b"HTTP/1.1 200")
        third = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert third.recv(1000).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
        stack.close()
        wait_until(lambda: ask(port, "GET", "/v2/").status == 200)


def test_a_port_that_is_taken_is_told(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", SHARE, str(tmp_path / "dev"), str(port)], capture_output=True, text=True, check=False
        )
    assert f"port {port} is taken" in done.stderr
