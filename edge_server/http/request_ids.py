"""Ids of requests: generated, or the client's."""

from __future__ import annotations

import os
from itertools import count

# A longer one is refused, as by the specification's server.
LONGEST = 100


class RequestIds:
    """UUIDs in the form of version 4: the first half is random for each process, the rest is a counter with a random
    start.

    They are unique and not secret: the next one can be guessed.
    """

    def __init__(self) -> None:
        raw = os.urandom(16).hex()
        self._prefix = f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-"
        self._next = count(int(raw[20:31], 16)).__next__

    def make(self) -> str:
        """A new id."""
        return f"{self._prefix}{self._next():012x}"
