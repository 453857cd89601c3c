"""How a worker receives calls and sends answers: on its main thread, or on several threads."""

from __future__ import annotations

import ctypes
import queue
import signal
import socket
import threading
from time import perf_counter
from typing import Any, Protocol

from edge_server.config.sizes import SIZES
from edge_server.scripts import frames
from edge_server.scripts.calls import Caller, OverdueError, failed_answer
from edge_server.scripts.frames import Frame, FrameReader
from edge_server.scripts.worker_memory import WorkerMemory

RECEIVE = SIZES.received
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
        signal.signal(frames.OVERDUE_SIGNAL, self._on_overdue)

    def run(self) -> None:
        """Return when the socket has ended."""
        reader = FrameReader()
        receive, feed, begin = self._connection.recv, reader.feed, self._memory.begin
        while data := receive(RECEIVE):
            for frame in feed(data):
                if frame.kind == frames.CANCEL:
                    continue  # the signal said it already
                if begin(0, frame.number):
                    self._put(self._answer(frame))
                else:
                    self._put(frames.encode(frames.SKIPPED, 0, frame.number, b""))
            self._flush()

    def _answer(self, frame: Frame) -> bytes:
        try:
            self._running = frame.number
            answer = self._caller.answer(frame)
            self._running = 0
        except BaseException:  # noqa: BLE001 - the signal came beside the script's code
            self._running = 0
            return failed_answer(frame)
        return answer

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
        while True:
            frame = self._queues[slot].get()
            answer = frames.encode(frames.SKIPPED, slot, frame.number, b"")
            if self._memory.begin(slot, frame.number):
                answer = failed_answer(frame)
                try:
                    self._running[slot] = frame.number
                    answer = self._caller.answer(frame)
                    with self._switching:
                        self._running[slot] = 0
                except BaseException:  # noqa: BLE001 - it came beside the script's code
                    self._running[slot] = 0
            with self._sending:
                self._connection.sendall(answer)

    def _interrupt(self, frame: Frame) -> None:
        with self._switching:
            if self._running[frame.slot] == frame.number:
                thread = ctypes.c_ulong(self._threads[frame.slot].ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(OverdueError))
        with self._sending:
            self._connection.sendall(frames.encode(frames.HEARD, frame.slot, frame.number, b""))
