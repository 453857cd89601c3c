"""Whether a service was ended for lack of memory, as its control group tells (Linux, cgroup-v1/memory, cgroup-v2)."""

from __future__ import annotations

import os


class MemoryWatch:
    """Watches the group of the file ``path``, ``memory.events`` or version 1's ``memory.oom_control``.

    Version 1 counts only in the very group of what it kills, which may be gone when the service has ended: so it is
    also asked to signal a descriptor whenever the limit of this group, or of one below it, leaves no way out.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._before = self._count()
        self._event = -1
        if path is not None and path.endswith("memory.oom_control"):
            self._ask(path)

    def killed(self) -> bool:
        """Whether anything in the group was killed for lack of memory since this object was made."""
        if self._count() > self._before:
            return True
        if self._event < 0:
            return False
        try:
            return os.eventfd_read(self._event) > 0
        except BlockingIOError:
            return False

    def _ask(self, path: str) -> None:
        try:
            self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            group = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with open(f"{os.path.dirname(path)}/cgroup.event_control", "w", encoding="ascii") as control:  # noqa: PTH120
                    control.write(f"{self._event} {group}")
            finally:
                os.close(group)
        except OSError:
            pass  # a kernel without it: what the counter shows has to do

    def _count(self) -> int:
        """Kills so far; 0 where nothing can be read."""
        try:
            with open(self._path or "", encoding="ascii") as file:
                for line in file:
                    name, _, number = line.strip().partition(" ")
                    if name == "oom_kill":
                        return int(number)
        except (OSError, ValueError):
            pass
        return 0
