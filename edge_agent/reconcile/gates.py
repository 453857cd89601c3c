"""What must be so before a step is taken: declared on the step, judged on what is seen of the machine; pure.

A closed gate is no failure: the service waits, with the reason, and the version that runs goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from edge_agent.config.windows import Window, is_open, next_opening
from edgepack.text import human, human_memory

# A lock file in which nothing is said of that holds so long.
LOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class UpdateLock:
    """A lock file: who holds it, in which boot of the machine it was taken, how long ago, and for how long."""

    owner: str
    boot_id: str
    age_seconds: float
    ttl_seconds: float = LOCK_SECONDS


@dataclass(frozen=True)
class Outlook:
    """The machine as it is seen at one moment; ``moment`` is in local time. ``None`` is what cannot be seen here."""

    moment: datetime
    boot_id: str
    free_bytes: int
    available_bytes: int | None
    online: bool
    on_mains: bool
    lock: UpdateLock | None = None


class Gate(Protocol):
    """A condition of a step."""

    def closed(self, outlook: Outlook) -> str | None:
        """Why the step has to wait; ``None`` when it may be taken."""


@dataclass(frozen=True)
class DiskSpace:
    """Space for ``needed_bytes`` on the device's disk."""

    needed_bytes: int

    def closed(self, outlook: Outlook) -> str | None:
        """Whether there is too little."""
        if outlook.free_bytes >= self.needed_bytes:
            return None
        return f"{human(self.needed_bytes)} of disk space must be free, and {human(outlook.free_bytes)} are"


@dataclass(frozen=True)
class Memory:
    """``needed_bytes`` of memory that can be had."""

    needed_bytes: int

    def closed(self, outlook: Outlook) -> str | None:
        """Whether there is too little."""
        if outlook.available_bytes is None or outlook.available_bytes >= self.needed_bytes:
            return None
        needed, available = human_memory(self.needed_bytes), human_memory(outlook.available_bytes)
        return f"{needed} of memory must be available, and {available} are"


@dataclass(frozen=True)
class Network:
    """A network that leads out of this machine."""

    def closed(self, outlook: Outlook) -> str | None:
        """Whether there is none."""
        return None if outlook.online else "there is no network"


@dataclass(frozen=True)
class UpdateWindow:
    """One of ``windows`` is open; without windows any time will do."""

    windows: tuple[Window, ...]

    def closed(self, outlook: Outlook) -> str | None:
        """Whether all are closed."""
        opening = next_opening(self.windows, outlook.moment)
        if opening is None or is_open(self.windows, outlook.moment):
            return None
        return f"the next window for updates opens on {opening:%Y-%m-%d at %H:%M}"


@dataclass(frozen=True)
class Unlocked:
    """Nobody holds the lock file; one of an earlier boot, or held longer than its owner said, does not count."""

    def closed(self, outlook: Outlook) -> str | None:
        """Whether somebody holds it."""
        lock = outlook.lock
        if lock is None or lock.boot_id != outlook.boot_id or lock.age_seconds >= lock.ttl_seconds:
            return None
        left = max(1, round(lock.ttl_seconds - lock.age_seconds))
        return f"{lock.owner} holds the lock on updates, for {left} seconds more at most"


@dataclass(frozen=True)
class MainsPower:
    """The machine is not on battery."""

    def closed(self, outlook: Outlook) -> str | None:
        """Whether it is."""
        return None if outlook.on_mains else "the device runs on battery"


def first_closed(gates: Iterable[Gate], outlook: Outlook) -> str | None:
    """Why the first of ``gates`` that is closed is; ``None`` when all are open."""
    return next((reason for gate in gates if (reason := gate.closed(outlook)) is not None), None)
