"""Work in threads for which the end of the process does not wait: a load may hang on its file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run ``work`` in a thread of its own, for which the end of the process does not wait; return its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[T]] = loop.create_future()

    def deliver(error: Exception | None, outcome: list[T]) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(outcome)
        else:
            future.set_exception(error)

    def run() -> None:
        outcome: list[T] = []
        failed: Exception | None = None
        try:
            outcome.append(work(*arguments))
        except Exception as error:  # noqa: BLE001 - raised again where the outcome is awaited
            failed = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver, failed, outcome)

    threading.Thread(target=run, name="load", daemon=True).start()
    # Removed, since the thread, which may end later, would keep an unused model alive.
    return (await future).pop()
