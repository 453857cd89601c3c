"""The points at which an operation puts something on record, and its end by SIGKILL at one of them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.reconcile.progress import EVENT
from edge_agent.state.file import DatabaseFile
from edgepack.errors import EdgepackError


def in_fork(job: Callable[[], Any], prepare: Callable[[], None] | None = None) -> tuple[Any, str | None]:
    """What ``job`` returns in a process of its own, and the error that it raised, or ``killed``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if prepare is not None:
                prepare()
            answer: tuple[Any, str | None]
            try:
                answer = (job(), None)
            except (EdgepackError, OSError) as error:
                answer = (None, f"{type(error).__name__}: {error}")
            os.write(writing, json.dumps(answer).encode() if _plain(answer) else json.dumps([None, answer[1]]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        return None, "killed" if os.WIFSIGNALED(status) else f"ended with {status}"
    value, error = json.loads(data)
    return value, error


def _plain(answer: tuple[Any, str | None]) -> bool:
    return answer[0] is None or isinstance(answer[0], list)


class Points:
    """The points of an operation, counted; the process ends at the ``at``-th."""

    def __init__(self, root: Path, at: int, log: Path) -> None:
        self._root = str(root)
        self._at = at
        self._log = log
        self._count = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Watch this process, a fork that ends with the operation."""
        real = DatabaseFile._transaction

        @contextmanager
        def transaction(this: Any) -> Iterator[sqlite3.Connection]:
            with real(this) as db:
                yield db
            self.reach("transaction")

        DatabaseFile._transaction = transaction  # type: ignore[method-assign, assignment]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if event == EVENT:
            self.reach(words[1])
        elif event in ("os.rename", "os.remove"):
            path = os.fsdecode(words[1] if event == "os.rename" else words[0])
            if path.startswith(self._root):
                first, _, rest = path[len(self._root) + 1 :].partition("/")
                self.reach(f"{event[3:]} {f'agent {Path(rest).name}' if first == 'agent' else first}")

    def reach(self, name: str) -> None:
        with self._lock:  # layers are fetched by several threads
            self._count += 1
            fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(fd, f"{name}\n".encode())
            os.close(fd)
            if self._count == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def worth(names: list[str]) -> list[int]:
    """The points that leave different records: one of a stage and its transaction, no removal of what is passing."""
    removes = any(name in ("remove images", "remove inventories") for name in names) and "Staged" not in names
    found = []
    for at, name in enumerate(names, 1):
        following = names[at] if at < len(names) else ""
        if name == "transaction" and following[:1].isupper():
            continue
        if name.startswith("remove") and not removes and not name.startswith("remove agent"):
            continue
        found.append(at)
    return found
