"""Loopback ports for what a test starts, which nothing else takes between the choice and the start.

A port that the system chose and that was closed again could be given to another program at once, and to an outgoing
connection too. So ports come from below those that systems give by themselves, and every process that runs tests has a
block of them for itself, held by a lock on a file until it ends.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FIRST, LAST, BLOCK = 20_000, 32_000, 200


def free_port() -> int:
    """A loopback port that nobody listens on, and that leads to who does."""
    for port in itertools.islice(_own_ports(), BLOCK):
        if _is_ours(port):
            return port
    raise AssertionError("every port of this process is taken")


def _is_ours(port: int) -> bool:
    """Whether what listens on ``port`` is reached there.

    An engine that was killed leaves its rules in the kernel, which send the port's packets to a container that is gone.
    """
    with socket.socket() as probe:
        # Connections of the last user of the port may still be in their last state.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
            probe.settimeout(2)
            with socket.create_connection(("127.0.0.1", port), 2):
                probe.accept()[0].close()
        except OSError:
            return False
        return True


@cache
def _own_ports() -> Iterator[int]:
    block = hold_a_number("ports", (LAST - FIRST) // BLOCK)
    return itertools.cycle(range(FIRST + block * BLOCK, FIRST + (block + 1) * BLOCK))


def hold_a_number(purpose: str, count: int) -> int:
    """A number below ``count`` that no other process of this user has for that purpose, until this one ends."""
    folder = Path(tempfile.gettempdir()) / f"edgepack-tests-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(count):
        held = os.open(folder / f"{purpose}-{number}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            return number  # the descriptor stays open, and the lock with it
    raise AssertionError(f"all {count} {purpose} are held by other test runs")
