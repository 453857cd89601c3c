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
    """A loopback port that nobody listens on."""
    for port in itertools.islice(_own_ports(), BLOCK):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port of this process is taken")


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
