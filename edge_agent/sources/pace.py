"""How fast blobs are downloaded: one limit for all processes of a device, which changes with the time of day.

What is taken is written as the moment until which the line is in use; whoever takes more waits until then. Killed
processes leave a moment that passes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from edge_agent.config.configuration import Bandwidth
from edge_agent.sources.base import PausedError

_MOMENT = struct.Struct("<d")
# Pieces of a quarter of a second keep a slow connection from looking idle.
_PIECE_SECONDS = 0.25
_LEAST_PIECE, _MOST_PIECE = 512, 1 << 18
# A moment further ahead than processes that share the line can take is of a clock that began again.
_MOST_AHEAD_SECONDS = 120.0


class Pace:
    """Keeps to ``bandwidth``; ``file`` is shared by the processes that are to keep to it together.

    ``now`` is the local time, by which windows open and close.
    """

    def __init__(
        self,
        bandwidth: Bandwidth,
        file: Path | None = None,
        *,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bandwidth = bandwidth
        self._file = file
        self._now, self._clock, self._sleep = now, clock, sleep
        self._lock = threading.Lock()
        self._used_until = 0.0

    @property
    def limited(self) -> bool:
        """Whether there is any limit, now or at another time."""
        return self._bandwidth.bytes_per_second is not None or bool(self._bandwidth.windows)

    def check(self) -> None:
        """Raise ``PausedError`` while nothing may be downloaded."""
        self._rate()

    def piece(self) -> int:
        """How many bytes are read at once, at most."""
        rate = self._bandwidth.at(self._now())
        return _MOST_PIECE if not rate else max(_LEAST_PIECE, min(_MOST_PIECE, int(rate * _PIECE_SECONDS)))

    def take(self, count: int) -> float:
        """Wait until ``count`` bytes, which have just come, fit into the limit; returns the seconds that it waited."""
        rate = self._rate()
        if rate is None:
            return 0.0
        waits = self._reserve(count / rate)
        if waits > 0:
            self._sleep(waits)
        return max(0.0, waits)

    def _rate(self) -> int | None:
        moment = self._now()
        rate = self._bandwidth.at(moment)
        if rate != 0:
            return rate
        until = opens(self._bandwidth, moment)
        when = "" if until is None else f" until {until:%A %H:%M}"
        raise PausedError(
            f"nothing may be downloaded{when}, by the configuration's bandwidth", until=until,
            hint="it goes on by itself then" if until is not None else "give bandwidth a window with a rate above 0",
        )  # fmt: skip

    def _reserve(self, seconds: float) -> float:
        """Take the line for ``seconds``; returns how long to wait until they are over."""
        with self._lock:
            if self._file is None:
                self._used_until = self._next(self._used_until, seconds)
                return self._used_until - self._clock()
            fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                data = os.pread(fd, _MOMENT.size, 0)
                used = _MOMENT.unpack(data)[0] if len(data) == _MOMENT.size else 0.0
                until = self._next(used, seconds)
                os.pwrite(fd, _MOMENT.pack(until), 0)
            finally:
                os.close(fd)
            return until - self._clock()

    def _next(self, used_until: float, seconds: float) -> float:
        now = self._clock()
        if not now <= used_until <= now + _MOST_AHEAD_SECONDS:
            used_until = now
        return used_until + seconds


def opens(bandwidth: Bandwidth, moment: datetime) -> datetime | None:
    """When something may be downloaded again, after ``moment`` at which nothing may; ``None`` for never."""
    from datetime import timedelta

    edges = set()
    for one in bandwidth.windows:
        start = moment - timedelta(days=1)
        for _ in range(16):  # the openings of eight days, and when each ends
            start = one.window.opens_after(start)
            edges |= {start, start + timedelta(minutes=one.window.minutes)}
            if start > moment + timedelta(days=8):
                break
    return next((edge for edge in sorted(edges) if edge > moment and bandwidth.at(edge) != 0), None)
