"""The time of day on a device whose clock may be wrong: never before what was seen or signed once.

Intervals are measured by the monotonic clock alone.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass

from edge_agent.runtimes.processes import boot_id

# The last time seen is written this seldom: flash wears out.
STEP_SECONDS = 600.0


@dataclass(frozen=True)
class Uptime:
    """A moment of one boot of the machine, whatever its clock shows: its ``seconds`` since then."""

    boot: str
    seconds: float

    @classmethod
    def now(cls) -> Uptime:
        """This moment; of no boot where the kernel does not tell which one it is."""
        with suppress(OSError):
            return cls(boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))
        return cls("", 0.0)

    def since(self, earlier: Uptime) -> float:
        """The seconds since ``earlier``; none when the machine was started anew meanwhile."""
        return max(self.seconds - earlier.seconds, 0.0) if self.boot and self.boot == earlier.boot else 0.0


@dataclass(frozen=True)
class KnownTime:
    """At ``uptime`` it was at least ``seconds`` since 1970."""

    seconds: float = 0.0
    uptime: Uptime = Uptime("", 0.0)

    def at(self, uptime: Uptime) -> float:
        """The least that it can be at ``uptime``."""
        return self.seconds + uptime.since(self.uptime)

    def with_clock(self, clock: float, uptime: Uptime) -> KnownTime:
        """What is known once the clock shows ``clock`` at ``uptime``."""
        return KnownTime(max(clock, self.at(uptime)), uptime)

    def to_text(self) -> str:
        """As a record."""
        return json.dumps([self.seconds, self.uptime.boot, self.uptime.seconds])

    @classmethod
    def from_text(cls, text: str | None) -> KnownTime:
        """Of a record; raises ``ValueError``."""
        if text is None:
            return cls()
        seconds, boot, uptime = json.loads(text)
        return cls(float(seconds), Uptime(str(boot), float(uptime)))


@dataclass
class WallTime:
    """The time of day for a process that goes on: the greatest of the clock and of what is known, which goes on too.

    ``floor`` is what ``StateFile.time_floor`` answered at ``since`` of the monotonic clock.
    """

    floor: float
    since: float

    def now(self, clock: float | None = None, monotonic: float | None = None) -> float:
        """Seconds since 1970; the arguments are for tests."""
        monotonic = time.monotonic() if monotonic is None else monotonic
        known = self.floor + max(monotonic - self.since, 0.0)
        self.floor, self.since = max(time.time() if clock is None else clock, known), monotonic
        return self.floor

    def learn(self, seconds: float) -> None:
        """It is at least ``seconds`` now: a document that was signed then has come."""
        self.floor = max(self.now(), seconds)
