"""Health checks: one HTTP request to the port of a service, and waiting until it succeeds."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.reconcile.lack import used_up
from edge_agent.runtimes.base import Instance
from edgepack.limits import LIMITS

_HEALTHY = range(200, 300)
# How long an answer may go on after its first line, which is all that counts.
_DRAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Health:
    """Whether a service is healthy, and if not, the reason: what was seen, and whether that was an answer of its."""

    healthy: bool
    reason: str = ""
    answered: bool = False


def probe(
    address: str, port: int, path: str, timeout: float = 2.0, *, connect: Callable[[float], socket.socket] | None = None
) -> Health:
    """Ask ``GET path``; healthy is a 2xx status line within ``timeout`` seconds, however slowly its bytes come.

    With ``connect`` it is asked by the connection that this makes, within that time, to what will be at the address.
    """
    host = f"[{address}]" if ":" in address else address
    try:
        connect = connect or (lambda seconds: socket.create_connection((address, port), seconds))
        status = _status(connect, f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n", timeout)
    except OSError as error:
        return Health(False, f"no answer on {host}:{port} ({error.strerror or error or type(error).__name__})")
    except ValueError:
        return Health(False, f"the response on {host}:{port} is not HTTP", answered=True)
    if status not in _HEALTHY:
        return Health(False, f"GET {path} on {host}:{port} answered {status}", answered=True)
    return Health(True)


def _status(connect: Callable[[float], socket.socket], head: str, timeout: float) -> int:
    end = time.monotonic() + timeout
    with connect(timeout) as connection:
        connection.sendall(f"{head}User-Agent: edge-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while b"\n" not in answer and len(answer) < LIMITS.health_answer_bytes:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            if not (part := connection.recv(4096)):
                break
            answer += part
        if not answer:
            raise ConnectionError("connection closed before a response")
        # RFC 9112, section 4: version, status code of three digits, reason.
        version, status, *_ = answer.split(b"\n", 1)[0].split(None, 2)
        if not version.startswith(b"HTTP/1.") or len(status) != 3:
            raise ValueError(answer)
        _drain(connection, min(end, time.monotonic() + _DRAIN_SECONDS))
        return int(status)


def _drain(connection: socket.socket, end: float) -> None:
    """Read on for a moment: closing the connection in the middle of a response fills the server's log."""
    size = 0
    try:
        while size < LIMITS.health_answer_bytes and (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (part := connection.recv(4096)):
                return
            size += len(part)
    except OSError:
        return


def alive(instance: Instance | None, memory_bytes: int | None = None) -> Health:
    """Whether the service's process runs, which may use ``memory_bytes``; whether it answers is another question."""
    if instance is not None and instance.state == "running":
        return Health(True)
    if instance is None or instance.exit_code is None:
        return Health(False, "it is not running")
    if instance.out_of_memory:
        what = f"it ran out of memory: it used {used_up(memory_bytes)}, and was killed"
        return Health(False, f"{what} (exit code {instance.exit_code}); give it more memory or a smaller model")
    return Health(False, how_it_ended(instance.exit_code))


def how_it_ended(code: int) -> str:
    """How a service ended whose exit code is ``code``, 128 and more after a signal."""
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return f"it exited with code {code}"
    hint = ", as when the device has no memory left" if name == "SIGKILL" else ""
    return f"it was ended by the signal {name} (exit code {code}){hint}"


def wait_healthy(
    check: Callable[[], Health],
    alive: Callable[[], Health | None],
    timeout: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    interval: float = 0.1,
) -> Health:
    """Repeat ``check`` until healthy, until ``alive`` says that nothing runs, or for ``timeout`` seconds.

    Whether something runs may be unknown for a while: then ``alive`` gives ``None``. ``clock`` is monotonic: the wall
    clock of a device may jump.
    """
    end = clock() + timeout
    while True:
        health = check()
        # After the check: what has ended by now is not what answered, or will not answer again.
        living = alive()
        if living is not None and not living.healthy:
            return living
        if living is not None and health.healthy:
            return health
        if clock() >= end:
            reason = health.reason or "whether it runs cannot be said, for its runtime does not answer"
            return Health(False, f"not healthy within {timeout:g} seconds: {reason}")
        sleep(interval)
