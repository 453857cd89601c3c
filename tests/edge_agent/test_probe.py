"""The probe against real sockets that answer well, badly, slowly, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edge_agent.reconcile.probe import Health, alive, probe, wait_healthy
from edge_agent.runtimes.base import Instance
from edgepack.oci.digest import Digest


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection is handed to ``answer``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(4096)
                    answer(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)


@pytest.mark.parametrize(
    ("data", "healthy", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nHealthy", True, ""),
        (b"HTTP/1.0 204\r\n\r\n", True, ""),
        (b"HTTP/1.1 200 OK\n", True, ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", False, "answered 302"),
        (b"HTTP/1.1 503 no\r\n\r\n", False, "answered 503"),
        (b"SSH-2.0-OpenSSH\r\n", False, "is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n", False, "is not HTTP"),
        (b"\xff\xfe" * 100_000, False, "is not HTTP"),
        (b"\r\n", False, "is not HTTP"),
        (b"", False, "no answer"),
    ],
)
def test_an_answer_is_judged_by_its_first_line(data: bytes, healthy: bool, reason: str) -> None:
    with server(lambda connection: connection.sendall(data)) as port:
        found = probe("127.0.0.1", port, "/")

    assert found.healthy is healthy
    assert reason in found.reason


def test_nobody_listening_is_no_answer(free_port: Callable[[], int]) -> None:
    assert "Connection refused" in probe("127.0.0.1", free_port(), "/").reason


def test_a_server_that_trickles_is_not_waited_for() -> None:
    def trickle(connection: socket.socket) -> None:
        for _ in range(1200):
            connection.sendall(b"H")
            time.sleep(0.05)

    with server(trickle) as port:
        started = time.monotonic()
        assert not probe("127.0.0.1", port, "/", timeout=0.4).healthy
        assert time.monotonic() - started < 50  # of the 60 s that it takes


def test_a_server_that_keeps_the_connection_open_is_healthy_without_a_long_wait() -> None:
    def linger(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.recv(1)

    with server(linger) as port:
        started = time.monotonic()
        assert probe("127.0.0.1", port, "/", timeout=60).healthy
        assert time.monotonic() - started < 50


def wait(answers: list[bool], lives: int = 1000) -> tuple[Health, float]:
    """Wait for a service that gives these answers and lives through so many looks."""
    now = [0.0]
    looks = [0]

    def alive() -> Health:
        looks[0] += 1
        return Health(True) if looks[0] <= lives else Health(False, "it exited with code 1")

    def sleep(seconds: float) -> None:
        now[0] += seconds

    replies = iter(answers)
    found = wait_healthy(
        lambda: Health(next(replies, False), "no answer"), alive, 5.0, clock=lambda: now[0], sleep=sleep
    )
    return found, now[0]


def test_waiting_ends_with_health_with_death_or_with_time() -> None:
    assert wait([False, False, True]) == (Health(True, "no answer"), pytest.approx(0.2))
    assert wait([False] * 9, lives=2)[0] == Health(False, "it exited with code 1")
    assert wait([True], lives=0)[0] == Health(False, "it exited with code 1")
    found, spent = wait([])
    assert (found.healthy, found.reason) == (False, "not healthy within 5 seconds: no answer")
    assert 5.0 <= spent < 5.2


LACKING = "it ran out of memory: it used all of the device's memory, and was killed"


@pytest.mark.parametrize(
    ("code", "out_of_memory", "said"),
    [
        (None, False, "it is not running"),
        (0, False, "it exited with code 0"),
        (7, False, "it exited with code 7"),
        (128, False, "it exited with code 128"),
        (255, False, "it exited with code 255"),
        (137, True, f"{LACKING} (exit code 137); give it more memory or a smaller model"),
        (1, True, f"{LACKING} (exit code 1); give it more memory or a smaller model"),
        (137, False, "it was ended by the signal SIGKILL (exit code 137), as when the device has no memory left"),
        (139, False, "it was ended by the signal SIGSEGV (exit code 139)"),
        (132, False, "it was ended by the signal SIGILL (exit code 132)"),
    ],
)
def test_how_a_service_ended_is_told_as_what_it_is(code: int | None, out_of_memory: bool, said: str) -> None:
    ended = Instance("churn", Digest("0" * 64), "exited", 1, code, out_of_memory)
    assert alive(ended) == Health(False, said)
    limited = said.replace("the device's memory", "61 MiB")
    assert alive(ended, 64_000_000) == Health(False, limited)
    assert alive(None) == Health(False, "it is not running")
