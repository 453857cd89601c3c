"""The caps of one fetch, on time and bytes, and its pace."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.sources.pace import Pace
from edgepack.errors import RegistryError


@dataclass(frozen=True)
class Caps:
    """When a fetch ends although a source might still give what is missing.

    ``seconds`` is for all of it, ``stalled_seconds`` for the time in which no byte comes. Of ``times`` what is missing,
    and ``spare_bytes``, no source sends more. A source that gives less than ``slow_bytes`` a second is left for
    another one where there is one. ``attempts``, ``backoff`` and ``read_timeout`` are of one connection.
    """

    seconds: float = 12 * 3600.0
    stalled_seconds: float = 60.0
    times: int = 2
    spare_bytes: int = 64 << 20
    slow_bytes: int = 1024
    slow_seconds: float = 60.0
    first_wait: float = 2.0
    longest_wait: float = 30.0
    attempts: int = 5
    backoff: float = 0.5
    read_timeout: float = 60.0


class Meter:
    """Counts what comes over the wire in one fetch, from each source, and says when it is enough."""

    def __init__(
        self,
        caps: Caps,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.caps, self.clock = caps, clock
        self._pace, self._sleep = pace, sleep
        self._lock = threading.Lock()
        self._began = self._progress = clock()
        self.most_bytes = caps.spare_bytes
        self.several = False
        """Whether there is another source for what one is slow to give."""
        self.waited = 0.0
        """Seconds that the pace has cost."""
        self._tries = 0

    def expect(self, missing: int) -> None:
        """From here on ``missing`` bytes are wanted."""
        self.most_bytes = missing * self.caps.times + self.caps.spare_bytes

    def of(self, name: str) -> PlaceMeter:
        """The meter of one source."""
        return PlaceMeter(self, name)

    def piece(self) -> int:
        """How many bytes are read at once, at most."""
        return self._pace.piece()

    def took(self, count: int) -> None:
        """Wait as the pace asks. Raises ``OverTimeError`` when the time is over."""
        self._check_time()
        waited = self._pace.take(count)
        with self._lock:
            self.waited += waited

    def advanced(self) -> None:
        """More of the image is here than ever before."""
        with self._lock:
            self._progress = self.clock()
            self._tries = 0

    def _check_time(self) -> None:
        spent = self.clock() - self._began
        if spent > self.caps.seconds:
            raise OverTimeError(
                f"has taken longer than {self.caps.seconds:g} seconds", hint="the next try goes on where this one ended"
            )

    def wait(self, error: Exception) -> None:
        """Wait before all is tried once more, longer from time to time; raise ``error`` when it was tried enough."""
        now = self.clock()
        left = min(self._began + self.caps.seconds, self._progress + self.caps.stalled_seconds) - now
        if left <= 0:
            raise error
        self._tries += 1
        # Devices that failed together must not come back together.
        wait = self.caps.first_wait * 2 ** min(self._tries - 1, 20) * random.uniform(0.5, 1.0)  # noqa: S311
        self._sleep(min(wait, self.caps.longest_wait, left))


class PlaceMeter:
    """What one source sends."""

    def __init__(self, meter: Meter, name: str) -> None:
        self._meter, self._name = meter, name
        self.caps = meter.caps
        self._lock = threading.Lock()
        self._bytes = 0

    def piece(self) -> int:
        """How many bytes are read at once, at most."""
        return self._meter.piece()

    def took(self, count: int) -> None:
        """Hear of bytes; raises ``RegistryError`` for too many."""
        with self._lock:
            self._bytes += count
            if self._bytes > self._meter.most_bytes:
                raise RegistryError(
                    f"has sent {self._bytes} bytes, more than twice what is missing", where=self._name,
                    hint="look at what is between here and there: it keeps breaking, or sends what was not asked for",
                )  # fmt: skip
        self._meter.took(count)


class OverTimeError(RegistryError):
    """A fetch that took longer than it may."""
