"""Sockets that the server is handed: taken by the rules of sd_listen_fds(3), shared, and left to the next server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_server.config.values import ServiceConfig
from edge_server.errors import ConfigurationError
from edge_server.listening import Listeners, inherited, listen
from edge_server.processes import _shared
from tests.support.http_client import ask
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
# Puts its descriptors where they are expected, and becomes the server.
HAND_OVER = """
import fcntl, os, sys
above = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 50) for fd in sys.argv[1].split(",")]
for number, fd in enumerate(above):
    os.dup2(fd, 3 + number)
os.environ.update(LISTEN_FDS=str(len(above)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
os.execv(sys.executable, [sys.executable, "-m", "edge_server", *sys.argv[2:]])
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as made:
        yield made


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts servers that inherit sockets."""
    with ExitStack() as held:

        def begin(words: list[object], *sockets: socket.socket) -> subprocess.Popen[bytes]:
            descriptors = [one.fileno() for one in sockets]
            text = ",".join(map(str, descriptors))
            process = subprocess.Popen(
                [sys.executable, "-c", HAND_OVER, text, *map(str, words)], pass_fds=descriptors, cwd=ROOT,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            held.callback(process.wait)
            held.callback(process.kill)
            return process

        yield begin


def test_a_server_that_is_relieved_answers_what_it_has_and_lets_kept_connections_go(
    start: Callable[..., Any], listener: socket.socket, iris_file: Path, tmp_path: Path
) -> None:
    port = listener.getsockname()[1]
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(tmp_path / "s"))
        private.listen()
        first = start(["--model", iris_file, "--port", "1"], listener, private)  # the port is the socket's
    assert ask(port, "GET", "/").body == b"Healthy"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    second = start(["--model", iris_file, "--port", "1"], listener)
    with socket.create_connection(("127.0.0.1", port)) as kept:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        kept.sendall(request)
        assert b"connection: close" not in kept.recv(4096)
        owner = first if _has(first.pid, kept) else second
        owner.terminate()
        other = second if owner is first else first
        if owner is second:  # it may not have listened yet
            wait_until(lambda: ask(port, "GET", "/").body == b"Healthy")
        answer = b"."
        while b"connection: close" not in answer:  # until it has taken notice of the signal it goes on as before
            assert answer
            kept.sendall(request)
            answer = kept.recv(4096)
        assert kept.recv(4096) == b""
    assert owner.wait(30) == 0
    for _ in range(5):
        assert ask(port, "GET", "/").body == b"Healthy"
    # Whoever comes while nobody runs waits for the next server.
    other.terminate()
    assert other.wait(30) == 0
    with socket.create_connection(("127.0.0.1", port)) as early:
        early.sendall(request)
        start(["--model", iris_file, "--port", "1"], listener)
        assert early.recv(4096).startswith(b"HTTP/1.1 200 ")


def _has(pid: int, client: socket.socket) -> bool:
    """Whether the process has the other end of a connection."""
    ours, theirs = (f"{one[1]:04X}" for one in (client.getsockname(), client.getpeername()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(words[9] for words in lines if words[1].endswith(f":{theirs}") and words[2].endswith(f":{ours}"))
    return f"socket:[{inode}]" in [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]


def test_several_processes_share_what_was_handed_over(
    start: Callable[..., Any], listener: socket.socket, iris_file: Path
) -> None:
    os.environ["EDGEPACK_PROCESSES"] = "2"
    try:
        process = start(["--model", iris_file], listener)
    finally:
        del os.environ["EDGEPACK_PROCESSES"]
    port = listener.getsockname()[1]
    assert [ask(port, "GET", "/").body for _ in range(10)] == [b"Healthy"] * 10
    process.terminate()
    assert process.wait(60) == 0
    with socket.create_connection(("127.0.0.1", port), 2):
        pass  # it listens still


def test_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "PATH": "/bin"}
    assert inherited(environment, 2) == ()
    assert environment == {"PATH": "/bin"}
    assert inherited({"LISTEN_FDS": "0", "LISTEN_PID": "2"}, 2) == ()
    found = listen(ServiceConfig((), "127.0.0.1", 0), {"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert not found.inherited
    found.close()


@pytest.mark.parametrize("count", ["x", "-1", "17", "٣"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigurationError, match="LISTEN_FDS"):
        inherited({"LISTEN_FDS": count, "LISTEN_PID": "2"}, 2)


@pytest.mark.parametrize("make", [lambda path: path.open("wb"), lambda _: socket.socket()])
def test_what_does_not_listen_is_refused(make: Callable[[Path], Any], tmp_path: Path, iris_file: Path) -> None:
    with make(tmp_path / "x") as other:
        done = subprocess.run(
            [sys.executable, "-c", HAND_OVER, str(other.fileno()), "--model", str(iris_file)],
            pass_fds=[other.fileno()], cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "descriptor 3 is not a listening stream socket" in done.stderr


def test_no_copy_makes_the_shared_socket_block(listener: socket.socket) -> None:
    listener.setblocking(False)
    copies = _shared(Listeners((listener,), inherited=True), 2)
    assert [os.get_blocking(one.first.fileno()) for one in copies] == [False, False]
    for one in copies:
        one.close()


def test_the_log_names_where_it_listens(start: Callable[..., Any], listener: socket.socket, iris_file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(listener.fileno()), "--model", str(iris_file)],
        pass_fds=[listener.fileno()], cwd=ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        said = next(found for line in process.stderr if (found := json.loads(line))["message"] == "ready")
        process.terminate()
    assert (said["host"], said["port"]) == listener.getsockname()
