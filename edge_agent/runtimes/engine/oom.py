"""Whether the kernel has ended something in a container for lack of memory, where the engine does not tell.

Podman looks for it in a place where its monitor does not always write it. The kernel's own log names the control group,
and so the container (Linux, ``/dev/kmsg``); only root may read it on most devices.
"""

from __future__ import annotations

import os
import time
from datetime import datetime

# The exit code of what was ended by SIGKILL.
KILLED = 137
# How long before the end of a container a kill may be its cause.
_CAUSE_SECONDS = 60.0
_LINE_BYTES = 8192
_KILLED = b"oom-kill:"


def killed_at(container_id: str, log: str = "/dev/kmsg") -> float | None:
    """When the kernel's log says so of the container for the last time, in seconds since the start of the device.

    ``None`` where it does not say so, cannot be read or has been overwritten.
    """
    try:
        fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    wanted, found = container_id.encode(), None
    try:
        while line := _next(fd):
            if _KILLED in line and wanted in line:
                # A number of its kind, one of the line, microseconds.
                found = int(line.split(b",", 3)[2]) / 1e6
    finally:
        os.close(fd)
    return found


def ended_for_memory(
    container_id: str, *, code: int | None, told: bool, limited: bool, finished: str, log: str = "/dev/kmsg"
) -> bool:
    """Whether a container that ended at ``finished``, a time as engines write them, did so for lack of memory.

    An engine's own word (``told``) is of any of its processes, at any time since its start: where the kernel tells when
    that was, only one shortly before the end counts, and else only the end by SIGKILL.
    """
    if not code or not (told or (limited and code == KILLED)):
        return False
    at, ended = killed_at(container_id, log), _uptime_at(finished)
    if at is None or ended is None:
        return told and code == KILLED
    return ended - at < _CAUSE_SECONDS


def _uptime_at(text: str) -> float | None:
    """The seconds since the start of the device at a wall time; ``None`` where that cannot be, as on another clock."""
    try:
        found = datetime.fromisoformat(text)
        age = time.time() - found.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    up = time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - age  # which nobody sets, as that of the kernel's log
    return up if found.tzinfo is not None and age > -_CAUSE_SECONDS and up > 0 else None


def _next(fd: int) -> bytes:
    """The next line of the kernel's log; empty at its end."""
    while True:
        try:
            return os.read(fd, _LINE_BYTES)
        except BlockingIOError:
            return b""
        except BrokenPipeError:  # it was overwritten while it was read: what follows is there
            continue
        except OSError:
            return b""
