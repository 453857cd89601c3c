"""Pieces of work side by side, in a few threads, with an end that is clear: all done, or the first error raised."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

Task = Callable[[], None]


class Lanes:
    """Runs what is submitted in at most ``count`` threads; with one, at once, in the thread of the caller.

    As a context manager: when it ends no task runs any more, unless the user has interrupted the program, which then
    does not wait for a connection. Tasks that take long look at ``stopped`` now and then.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._tasks: SimpleQueue[tuple[int, Task] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._submitted = 0
        self._left = 0
        self._failed: dict[int, BaseException] = {}
        self.stopped = threading.Event()

    def submit(self, task: Task) -> None:
        """Run ``task``, soon or now."""
        if self._count < 2:
            task()
            return
        with self._changed:
            self._left += 1
            self._submitted += 1
            self._tasks.put((self._submitted, task))
            if len(self._threads) < min(self._count, self._left):
                thread = threading.Thread(target=self._run, daemon=True)
                self._threads.append(thread)
                thread.start()

    def wait(self) -> None:
        """Return when all is done; raise the error of the task that was submitted first among those that failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._left == 0)
            if self._failed:
                raise self._failed[min(self._failed)]

    def _run(self) -> None:
        while (found := self._tasks.get()) is not None:
            number, task = found
            error: BaseException | None = None
            try:
                if not self.stopped.is_set():
                    task()
            except BaseException as raised:  # noqa: BLE001 - raised again by ``wait``, in the thread of the caller
                error = raised
            with self._changed:
                if error is not None:
                    if not self.stopped.is_set():  # else it failed because another had
                        self._failed[number] = error
                    self.stopped.set()
                self._left -= 1
                self._changed.notify_all()
            del error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.stopped.set()
        for _ in self._threads:
            self._tasks.put(None)
        if error is None or isinstance(error, Exception):
            for thread in self._threads:
                thread.join()
