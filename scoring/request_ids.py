"""Ids of requests: made here, or taken from the client."""

from __future__ import annotations

import os

# As the specification's server: a longer one is refused.
LONGEST = 100
_POOL = 256


class RequestIds:
    """Random UUIDs (version 4), drawn from the system's randomness many at a time."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def make(self) -> str:
        """A new id."""
        if not self._ids:
            raw = os.urandom(16 * _POOL).hex()
            for start in range(0, len(raw), 32):
                a, b, c = raw[start : start + 8], raw[start + 8 : start + 12], raw[start + 13 : start + 16]
                d, e = raw[start + 17 : start + 20], raw[start + 20 : start + 32]
                self._ids.append(f"{a}-{b}-4{c}-a{d}-{e}")
        return self._ids.pop()
