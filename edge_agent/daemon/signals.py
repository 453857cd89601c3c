"""Signals of the resident agent: noted when they come, and taken by its loop.

Those that would end it in a moment in which it does not take them yet, or any more, wait until it does: from before its
configuration is read, over the start of its own program and that of a version that takes its place.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Not SIGTERM: a start that cannot go on, for a disk that hangs, is still to be ended by it.
_WAITING = frozenset({signal.SIGHUP, signal.SIGINT})


def let_wait() -> None:
    """Let the signals that tell a running agent something wait for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITING)


def let_come() -> None:
    """Let them come, those first that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITING)


@contextmanager
def taken(numbers: Sequence[int], seen: set[int], wake_fd: int) -> Iterator[None]:
    """Put those of ``numbers`` that come, or have waited, into ``seen``, and write to ``wake_fd``, until the end of the
    block; then those that can wait do.
    """

    def take(number: int, _: object) -> None:
        seen.add(number)

    before = {one: signal.signal(one, take) for one in numbers}
    wakeup = signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    let_come()
    try:
        yield
    finally:
        let_wait()
        signal.set_wakeup_fd(wakeup)
        for one, handler in before.items():
            signal.signal(one, handler)
