"""Log lines queued for stderr: logging never waits for the reader."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from edge_server.config.sizes import SIZES

# How long lines are gathered, so that many are written at once.
GATHER_SECONDS = 0.02
# The most that may be queued, in bytes.
HELD_BYTES = SIZES.log_lines
# What a pipe takes in one piece (PIPE_BUF), so that lines of several processes on one pipe do not mix.
_PIECE_BYTES = 4096


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own, in the order in which they came.

    A reader that stalls (a full pipe) stalls that thread only: lines beyond ``held_bytes`` are dropped, and the line
    that ``tell_dropped`` makes of their number is written when there is room again. ``dropped`` counts all of them. The
    child of a fork starts with an empty queue and a thread of its own.
    """

    def __init__(self, descriptor: int, tell_dropped: Callable[[int], bytes], held_bytes: int = HELD_BYTES) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._tell_dropped = tell_dropped
        self._limit = held_bytes
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def write(self, line: bytes) -> None:
        """Queue one line, with its line end; any thread may call."""
        if self._taken - self._written > self._limit:
            self.dropped += 1
            return
        self._taken += len(line)
        self._queue.put(line)
        if self._thread is None:
            self._start()

    def flush(self, seconds: float) -> bool:
        """Wait until all lines so far are written, ``seconds`` at most; return whether they are."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def _begin(self) -> None:
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        # Each only grows and has one writer: the difference needs no lock.
        self._taken = 0
        self._written = 0
        self._reported = self.dropped
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            found = [self._queue.get()]
            if isinstance(found[0], bytes):
                time.sleep(GATHER_SECONDS)
            # No other thread takes from the queue.
            found += [self._queue.get() for _ in range(self._queue.qsize())]
            lines = [line for line in found if isinstance(line, bytes)]
            for piece in _pieces(lines):
                self._put(piece)
            self._written += sum(map(len, lines))
            if self._reported != self.dropped:
                number = self.dropped - self._reported
                self._reported += number
                self._put(self._tell_dropped(number))
            for event in found:
                if isinstance(event, threading.Event):
                    event.set()

    def _put(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # non-blocking: another user of the pipe has set that
                time.sleep(GATHER_SECONDS)
            except OSError:
                return  # the log is no longer read


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """The lines joined, as many as fit in one piece, and at least one."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)
