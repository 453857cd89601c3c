"""Whether the kernel has ended something in a container for lack of memory, where the engine does not tell.

Podman looks for it in a place where its monitor does not always write it. The kernel's own log names the control group,
and so the container (Linux, ``/dev/kmsg``); only root may read it on most devices.
"""

from __future__ import annotations

import os

_LINE_BYTES = 8192
_KILLED = b"oom-kill:"


def killed_for_memory(container_id: str, log: str = "/dev/kmsg") -> bool:
    """Whether the kernel's log says so of the container; false where it cannot be read or has been overwritten."""
    try:
        fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    wanted = container_id.encode()
    try:
        while line := _next(fd):
            if _KILLED in line and wanted in line:
                return True
    finally:
        os.close(fd)
    return False


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
