"""Signals of the resident agent: noted when they come, and taken by its loop."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def taken(numbers: Sequence[int], seen: set[int], wake_fd: int) -> Iterator[None]:
    """Put those of ``numbers`` that come into ``seen``, and write to ``wake_fd``, until the end of the block."""

    def take(number: int, _: object) -> None:
        seen.add(number)

    before = {one: signal.signal(one, take) for one in numbers}
    wakeup = signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for one, handler in before.items():
            signal.signal(one, handler)
