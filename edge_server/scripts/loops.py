"""How a worker receives calls and sends answers: on its main thread, or on several threads."""

from __future__ import annotations

import ctypes
import queue
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from edge_server.config.sizes import SIZES
from edge_server.scripts import frames
from edge_server.scripts.calls import Caller, OverdueError, failed_answer
from edge_server.scripts.frames import Frame, FrameReader
from edge_server.scripts.streams import Streamed, Window, send
from edge_server.scripts.worker_memory import WorkerMemory

RECEIVE = SIZES.received
_CALLS = (frames.CALL, frames.CALL_WHOLE)
# Answers of short calls are sent together, but the first of them waits no longer than this (seconds).
_HOLD = 0.0002


class Loop(Protocol):
    """Takes calls until the server closes the socket."""

    def run(self) -> None:
        """Return when the socket has ended."""


class DirectLoop:
    """One call after the other on the main thread: a hand-over between threads would double a small call's time."""

    def __init__(self, connection: socket.socket, memory: WorkerMemory, caller: Caller) -> None:
        self._connection = connection
        self._memory = memory
        self._caller = caller
        self._running = 0
        self._oldest = 0.0
        self._reader = FrameReader()
        self._later: list[Frame] = []  # came while an answer was streamed
        signal.signal(frames.OVERDUE_SIGNAL, self._on_overdue)

    def run(self) -> None:
        """Return when the socket has ended."""
        receive, feed = self._connection.recv, self._reader.feed
        while data := receive(RECEIVE):
            self._take(feed(data))
            while self._later:
                came, self._later = self._later, []
                self._take(came)
            self._flush()

    def _take(self, found: list[Frame]) -> None:
        begin = self._memory.begin
        for frame in found:
            if frame.kind not in _CALLS:
                continue  # the signal said it already, or its answer has ended
            if begin(0, frame.number):
                answer = self._answer(frame)
                if type(answer) is bytes:
                    self._put(answer)
                else:
                    self._stream(answer)  # type: ignore[arg-type]
            else:
                self._put(frames.encode(frames.SKIPPED, 0, frame.number, b""))

    def _answer(self, frame: Frame) -> bytes | Streamed:
        try:
            self._running = frame.number
            answer = self._caller.answer(frame)
            self._running = 0
        except BaseException:  # noqa: BLE001 - the signal came beside the script's code
            self._running = 0
            return failed_answer(frame)
        return answer

    def _stream(self, answer: Streamed) -> None:
        window = Window(answer.number)

        def wait() -> bool:
            while not window.left:
                ready = window.open <= 0 or select.select((self._connection,), (), (), 0)[0]
                if not ready:
                    return True
                data = self._connection.recv(RECEIVE)
                if not data:
                    return False  # the server has ended, and the next turn of the loop sees it too
                self._later += [frame for frame in self._reader.feed(data) if not window.note(frame)]
            return False

        def run(step: Callable[[], Any]) -> Any:
            try:
                self._running = answer.number
                if self._memory.overdue(0) == answer.number:
                    raise OverdueError
                return step()
            finally:
                self._running = 0

        self._flush()
        send(answer, window, self._connection.sendall, wait, run)

    def _put(self, answer: bytes) -> None:
        if self._memory.keep(answer):
            now = perf_counter()
            if not self._oldest:
                self._oldest = now
            elif now - self._oldest > _HOLD:
                self._flush()
        else:
            self._flush()
            self._connection.sendall(answer)

    def _flush(self) -> None:
        waiting = self._memory.waiting()
        if waiting:
            self._connection.sendall(waiting)
            self._memory.sent()
        self._oldest = 0.0

    def _on_overdue(self, number: int, at: Any) -> None:
        if self._running and self._memory.overdue(0) == self._running:
            raise OverdueError


class ThreadLoop:
    """Several slots of calls, a thread for each; the main thread only reads."""

    def __init__(self, connection: socket.socket, memory: WorkerMemory, caller: Caller, threads: int) -> None:
        self._connection = connection
        self._memory = memory
        self._caller = caller
        self._sending = threading.Lock()
        self._switching = threading.Lock()
        self._running = [0] * threads
        self._queues: list[queue.SimpleQueue[Frame]] = [queue.SimpleQueue() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"run-{slot}", daemon=True)
            for slot in range(threads)
        ]
        signal.signal(frames.OVERDUE_SIGNAL, signal.SIG_IGN)

    def run(self) -> None:
        """Return when the socket has ended."""
        for thread in self._threads:
            thread.start()
        reader = FrameReader()
        while data := self._connection.recv(RECEIVE):
            for frame in reader.feed(data):
                if frame.kind == frames.CANCEL:
                    self._interrupt(frame)
                else:
                    self._queues[frame.slot].put(frame)

    def _work(self, slot: int) -> None:
        later: deque[Frame] = deque()  # came while an answer was streamed
        while True:
            frame = later.popleft() if later else self._queues[slot].get()
            if frame.kind not in _CALLS:
                continue  # its answer has ended
            answer: bytes | Streamed = frames.encode(frames.SKIPPED, slot, frame.number, b"")
            if self._memory.begin(slot, frame.number):
                answer = failed_answer(frame)
                try:
                    self._running[slot] = frame.number
                    answer = self._caller.answer(frame)
                    with self._switching:
                        self._running[slot] = 0
                except BaseException:  # noqa: BLE001 - it came beside the script's code
                    self._running[slot] = 0
            if isinstance(answer, Streamed):
                self._stream(answer, later)
            else:
                self._send(answer)

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._connection.sendall(frame)

    def _stream(self, answer: Streamed, later: deque[Frame]) -> None:
        window, waiting = Window(answer.number), self._queues[answer.slot]

        def wait() -> bool:
            while not window.left and (window.open <= 0 or not waiting.empty()):
                frame = waiting.get()
                if not window.note(frame):
                    later.append(frame)
            return not window.left

        def run(step: Callable[[], Any]) -> Any:
            try:
                self._running[answer.slot] = answer.number
                if self._memory.overdue(answer.slot) == answer.number:
                    raise OverdueError
                return step()
            finally:
                with self._switching:
                    self._running[answer.slot] = 0

        send(answer, window, self._send, wait, run)

    def _interrupt(self, frame: Frame) -> None:
        with self._switching:
            if self._running[frame.slot] == frame.number:
                thread = ctypes.c_ulong(self._threads[frame.slot].ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(OverdueError))
        self._send(frames.encode(frames.HEARD, frame.slot, frame.number, b""))
