"""Deadlines of a connection."""

from __future__ import annotations

import time

from edge_server.config.values import Limits

NEVER = float("inf")

# Who sends a body at this rate is never cut off for its length.
_BYTES_PER_SECOND = 64 * 1024
# After the last answer: for how long what still comes is dropped, since the last byte and altogether.
_LINGER_SECONDS = 2.0
_LONGEST_LINGER_SECONDS = 30.0
# Bytes at once of a client that is still sending a body, and does not only keep the connection alive.
_SENDING_BYTES = 4096


def body_deadline(limits: Limits, started: float, size: int) -> float:
    """Until when the next part of a body must come, of which ``size`` bytes are here."""
    return started + limits.request_seconds + size / _BYTES_PER_SECOND


class Linger:
    """The time after the last answer; ``deadline`` is its end, in the time of ``time.perf_counter``."""

    def __init__(self) -> None:
        now = time.perf_counter()
        self._latest = now + _LONGEST_LINGER_SECONDS
        self.deadline = now + _LINGER_SECONDS

    def note(self, size: int) -> None:
        """So many bytes came, and were dropped."""
        if size >= _SENDING_BYTES:
            self.deadline = min(time.perf_counter() + _LINGER_SECONDS, self._latest)
