"""Callers of a service who never stop asking, so that what a change of its version costs them is seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.support.waiting import wait_until


class Callers:
    """Two who ask all the time, on a new connection each time; what was answered, and what failed."""

    def __init__(self, ask: Callable[[], str], pause_seconds: float) -> None:
        self.answers: list[str] = []
        self.failed: list[BaseException] = []
        self._question = ask
        self._pause_seconds = pause_seconds
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        while not self._end.is_set():
            try:
                self.answers.append(self._question())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told below
                self.failed.append(error)
            time.sleep(self._pause_seconds)

    def __enter__(self) -> Callers:
        for one in self._threads:
            one.start()
        wait_until(lambda: len(self.answers) > 10 or self.failed)
        return self

    def __exit__(self, *_: object) -> None:
        seen = len(self.answers)
        wait_until(lambda: len(self.answers) > seen + 10 or self.failed)
        self._end.set()
        for one in self._threads:
            one.join()
        assert self.failed == []
