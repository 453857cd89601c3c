"""Waiting for a lock that another process holds: for how long, and who that is."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import EdgepackError, disk_errors
from edgepack.host.files import open_lock
from edgepack.text import printable

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.5
_COMMAND_CHARACTERS = 80


class LockedError(EdgepackError):
    """Another process has held the lock for longer than was to be waited."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock; ``command`` is empty where its command line cannot be read."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.command else f"process {self.pid}"


@contextmanager
def locked_within(
    path: Path, seconds: float, on_wait: Callable[[str], None], *, shared: bool = False
) -> Iterator[None]:
    """As ``locked``, but wait no longer than ``seconds``.

    ``on_wait`` is called once, with the name of the holder, when there is something to wait for. Raises
    ``LockedError`` that names the holder when the time is over.
    """
    with disk_errors(path):
        fd = open_lock(path)
    try:
        with disk_errors(path):
            _wait(path, fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, seconds, on_wait)
        yield
    finally:
        os.close(fd)


def _wait(path: Path, fd: int, kind: int, seconds: float, on_wait: Callable[[str], None]) -> None:
    end = time.monotonic() + seconds
    waiting = False
    while not _taken(fd, kind):
        if not waiting:
            on_wait(_named(path))
            waiting = True
        if time.monotonic() >= end:
            found = holders(path)
            raise LockedError(
                f"has been locked by {_named(path)} for {seconds:g} seconds and more", where=path,
                hint="wait for it" + (f", or end it with: kill {found[0].pid}" if found else "")
                + "; then run the same command again",
            )  # fmt: skip
        time.sleep(_POLL_SECONDS)


def _taken(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def taken_at_once(fd: int) -> bool:
    """Take the lock of the open file ``fd`` for this process alone; whether that went.

    A look at it (``is_locked``) holds it for a moment, which is waited for: who looks keeps nobody from a change.
    """
    end = time.monotonic() + _LOOK_SECONDS
    while not (taken := _taken(fd, fcntl.LOCK_EX)) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS / 100)
    return taken


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; writes nothing, and an absent file is not locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _named(path: Path) -> str:
    return " and ".join(str(one) for one in holders(path)) or "another process"


def holders(path: Path) -> tuple[Holder, ...]:
    """The processes that hold the lock, as far as the kernel shows them (proc_locks(5))."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return ()
    found = []
    for fields in (line.split() for line in lines):
        # A waiting one has "->" in its second field. The device's number is not the one of stat(2) everywhere (btrfs).
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            pid = int(fields[4])
            if pid > 0:  # else it is in another namespace
                found.append(Holder(pid, _command(pid)))
    return tuple(found)


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    return printable(" ".join(words).strip())[:_COMMAND_CHARACTERS]
