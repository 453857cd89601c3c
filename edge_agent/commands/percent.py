"""How much of an image is here, on one line of a terminal that goes away at the end; elsewhere nothing is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.sources.base import OnProgress
from edgepack.text import human

_EVERY_SECONDS = 0.2


@dataclass
class Moved:
    """What a fetch has told: bytes that were here before, and that are here."""

    present: int = 0
    here: int = 0
    told: bool = False

    @property
    def bytes(self) -> int:
        """What came."""
        return self.here - self.present


@contextmanager
def percent(title: str) -> Iterator[tuple[OnProgress, Moved]]:
    """What to give to a fetch, and what it has told by then."""
    moved, shows, last = Moved(), sys.stderr.isatty(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if not moved.told:
            moved.present, moved.told = done, True
        moved.here = done
        if shows and time.monotonic() - last >= _EVERY_SECONDS:
            last = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{title}: {done * 100 // max(1, total)} % of {human(total)}")
            sys.stderr.flush()

    try:
        yield tell, moved
    finally:
        if shows and last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
