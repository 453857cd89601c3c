"""One agent for each device's folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepack.errors import EdgepackError, disk_errors
from edgepack.host.files import open_lock
from edgepack.host.locks import holders

_LOCK = ".agent.lock"


@contextmanager
def only_agent(root: Path) -> Iterator[None]:
    """Be the agent of the device in ``root``, which exists; raises ``EdgepackError`` that names the one that is."""
    path = root / _LOCK
    with disk_errors(path):
        fd = open_lock(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = holders(path)
            who = " and ".join(str(one) for one in found) or "a process that cannot be seen from here"
            raise EdgepackError(
                f"an agent runs for this folder already: {who}", where=root,
                hint=f"end it{f' with: kill {found[0].pid}' if found else ''}, or give this one another state_dir",
            ) from None  # fmt: skip
        yield
    finally:
        os.close(fd)


def runs(root: Path) -> bool:
    """Whether an agent runs for the device in ``root``; writes nothing."""
    from edgepack.host.locks import is_locked

    return is_locked(root / _LOCK)
