"""Whether a service was ended for lack of memory, as its control group tells (Linux, cgroup-v1/memory, cgroup-v2)."""

from __future__ import annotations

import os
import time

# How often it is to be looked, and how long before the end of a service a kill may be its cause.
LOOK_SECONDS = 30.0
_CAUSE_SECONDS = 60.0


class MemoryWatch:
    """Watches the group of the file ``path``, ``memory.events`` or version 1's ``memory.oom_control``.

    Version 1 counts only in the very group of what it kills, which may be gone when the service has ended: so it is
    also asked to signal a descriptor whenever the limit of this group, or of one below it, leaves no way out.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._seen = self._count()
        self._killed_at: float | None = None
        self._event = -1
        if path is not None and path.endswith("memory.oom_control"):
            self._ask(path)

    @property
    def watches(self) -> bool:
        """Whether there is anything to look at."""
        return self._path is not None

    def look(self, now: float | None = None) -> None:
        """See whether anything in the group was killed for lack of memory since the last look."""
        count = self._count()
        if count > self._seen or self._told():
            self._killed_at = time.monotonic() if now is None else now
        self._seen = max(self._seen, count)

    def killed(self, now: float | None = None) -> bool:
        """Whether anything in the group was killed so shortly before that the service may have ended with it.

        A server goes on without a worker that was killed; hours later it ends for another reason.
        """
        now = time.monotonic() if now is None else now
        self.look(now)
        return self._killed_at is not None and now - self._killed_at < _CAUSE_SECONDS

    def _told(self) -> bool:
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
