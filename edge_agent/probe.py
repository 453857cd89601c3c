"""Is a service healthy? One HTTP request to its loopback port, from outside of it."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass

_HEALTHY = range(200, 300)


@dataclass(frozen=True)
class Health:
    """``reason`` says what was seen when the service is not healthy."""

    healthy: bool
    reason: str = ""


def probe(address: str, port: int, path: str, timeout: float = 2.0) -> Health:
    """Ask ``GET path``; healthy is any 2xx answer within ``timeout`` seconds."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read(4096)
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"no answer on {address}:{port} ({error or type(error).__name__})")
    finally:
        connection.close()
    if answer.status not in _HEALTHY:
        return Health(False, f"GET {path} on {address}:{port} answered {answer.status}")
    return Health(True)


def wait_healthy(
    check: Callable[[], Health],
    alive: Callable[[], str | None],
    timeout: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    interval: float = 0.1,
) -> Health:
    """Repeat ``check`` until healthy, until ``alive`` gives a reason why it is not, or for ``timeout`` seconds.

    ``clock`` is monotonic: the wall clock of a device may jump.
    """
    end = clock() + timeout
    while True:
        if (dead := alive()) is not None:
            return Health(False, dead)
        health = check()
        if health.healthy:
            return health
        if clock() >= end:
            return Health(False, f"not healthy within {timeout:g} seconds: {health.reason}")
        sleep(interval)
