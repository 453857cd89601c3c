"""Deadlines of a connection."""

from __future__ import annotations

import time

from edge_server.config.values import Limits

NEVER = float("inf")

# A body that is sent at this rate is never cut off, however long it is.
_BYTES_PER_SECOND = 64 * 1024
# How long what a client still sends after the last answer is dropped: since the last byte, and in all.
_LINGER_SECONDS = 2.0
_LONGEST_LINGER_SECONDS = 30.0
# So many bytes at once show that a client is still sending a body, not only keeping the connection alive.
_SENDING_BYTES = 4096


def body_deadline(limits: Limits, started: float, size: int) -> float:
    """When the next part of a body must have arrived, after ``size`` bytes of it."""
    return started + limits.request_seconds + size / _BYTES_PER_SECOND


class Linger:
    """The time after the last answer; ``deadline`` is its end, in the time of ``time.perf_counter``."""

    def __init__(self) -> None:
        now = time.perf_counter()
        self._latest = now + _LONGEST_LINGER_SECONDS
        self.deadline = now + _LINGER_SECONDS

    def note(self, size: int) -> None:
        """Note that ``size`` bytes came and were dropped."""
        if size >= _SENDING_BYTES:
            self.deadline = min(time.perf_counter() + _LINGER_SECONDS, self._latest)
