"""Where a call runs: short ones in the event loop, long ones in a thread so that the loop goes on answering."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# A thread hop costs about what a small model's whole call does; a loop held for this long harms nobody.
INLINE_SECONDS = 0.003
_NEWEST_WEIGHT = 0.2


class Dispatcher:
    """Runs `work(body)` by what calls have cost so far, in seconds for each byte of body."""

    def __init__(self, work: Callable[[bytes | bytearray], bytes], threads: int) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="score")
        self._seconds_per_byte: float | None = None

    async def call(self, body: bytes | bytearray) -> bytes:
        """Return `work(body)`; what it raises passes through."""
        cost = self._seconds_per_byte
        if cost is not None and cost * len(body) <= INLINE_SECONDS:
            return self._measured(body)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._measured, body)

    def _measured(self, body: bytes | bytearray) -> bytes:
        start = time.perf_counter()
        answer = self._work(body)
        # Only calls that ran to their end count: a refused body says nothing about the model's cost.
        cost = (time.perf_counter() - start) / max(1, len(body))
        known = self._seconds_per_byte
        self._seconds_per_byte = cost if known is None else known + (cost - known) * _NEWEST_WEIGHT
        return answer
