"""Waiting for what another process or thread does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
# Only a failing test takes it, and a busy machine may need much of it.
SECONDS = 60.0


def wait_until(ask: Callable[[], Found], seconds: float = SECONDS) -> Found:
    """Ask until the answer is true, and return that answer."""
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(0.01)
    return found


async def happens(ask: Callable[[], Found], seconds: float = SECONDS) -> Found:
    """As ``wait_until``, while the event loop runs."""
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        await asyncio.sleep(0.01)
    return found
