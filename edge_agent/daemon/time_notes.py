"""The time is recorded now and then, for a start without a clock to go on from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from edge_agent.device import Device
from edgepack.errors import EdgepackError

# How seldom: flash wears out.
_SECONDS = 3600.0


class TimeNotes:
    """Records the time of ``device``, on a thread."""

    def __init__(self, device: Device, clock: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._at = clock() + _SECONDS

    def note(self) -> None:
        """Record it, if it is time."""
        now = self._clock()
        if now >= self._at:
            self._at = now + _SECONDS
            threading.Thread(target=self._write, name="time", daemon=True).start()

    def _write(self) -> None:
        with suppress(EdgepackError, OSError):
            self._device.state.time_floor(time.time())
