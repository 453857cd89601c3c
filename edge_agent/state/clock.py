"""The time of day on a device whose clock may be wrong: never before what was seen or signed once."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class WallTime:
    """Wall time in seconds since 1970, which goes on from ``floor`` when the clock shows less.

    ``floor`` is what ``StateFile.time_floor`` answered at ``since`` of the monotonic clock. Intervals are measured by
    the monotonic clock alone.
    """

    floor: float
    since: float

    def now(self, clock: float | None = None, monotonic: float | None = None) -> float:
        """The greatest of the clock and of ``floor`` with what has passed since; the arguments are for tests."""
        passed = (time.monotonic() if monotonic is None else monotonic) - self.since
        return max(time.time() if clock is None else clock, self.floor + max(passed, 0.0))
