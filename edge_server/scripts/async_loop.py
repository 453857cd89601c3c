"""How a worker runs calls of an ``async def run``: concurrently in one event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

from edge_server.scripts import frames
from edge_server.scripts.calls import Caller, OverdueError, failed_answer
from edge_server.scripts.frames import Frame, FrameReader
from edge_server.scripts.loops import RECEIVE
from edge_server.scripts.streams import Streamed, Window, send_async
from edge_server.scripts.worker_memory import WorkerMemory


class _AsyncWindow(Window):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._changed = asyncio.Event()

    def note(self, frame: Frame) -> bool:
        """Take what the server says, and wake who waits for it."""
        self._changed.set()
        return super().note(frame)

    async def wait(self) -> bool:
        """Return when a next piece may be sent; False when nobody wants it."""
        while self.open <= 0 and not self.left:
            self._changed.clear()
            await self._changed.wait()
        return not self.left


class AsyncLoop:
    """Calls of an ``async def run``, all at once in one event loop; the server limits how many."""

    def __init__(
        self, connection: socket.socket, memory: WorkerMemory, caller: Caller, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._caller = caller
        self._loop = loop
        self._reader = FrameReader()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._windows: dict[int, _AsyncWindow] = {}
        self._answers: list[bytes] = []
        self._process = os.getpid()
        signal.signal(frames.OVERDUE_SIGNAL, self._on_overdue)

    def run(self) -> None:
        """Return when the socket has ended."""
        self._loop.add_reader(self._connection.fileno(), self._on_readable)
        self._loop.run_forever()

    def _on_readable(self) -> None:
        if os.getpid() != self._process:
            os._exit(0)
        data = self._connection.recv(RECEIVE)
        if not data:
            self._loop.remove_reader(self._connection.fileno())
            self._loop.stop()
            return
        for frame in self._reader.feed(data):
            if frame.kind in (frames.MORE, frames.LEFT):
                if window := self._windows.get(frame.number):
                    window.note(frame)
            elif frame.kind == frames.CANCEL:
                if task := self._tasks.get(frame.number):
                    task.cancel()
                self._put(frames.encode(frames.HEARD, 0, frame.number, b""))
            else:
                self._memory.begin(0, frame.number)
                self._tasks[frame.number] = self._loop.create_task(self._call(frame), name=f"run-{frame.number}")

    async def _call(self, frame: Frame) -> None:
        answer: bytes | Streamed = failed_answer(frame)
        try:
            answer = await self._caller.answer_async(frame)
            if isinstance(answer, Streamed):
                await self._stream(answer)
        except OverdueError:
            pass  # it came beside the script's code
        finally:
            self._tasks.pop(frame.number, None)
            if isinstance(answer, bytes):
                self._put(answer)

    async def _stream(self, answer: Streamed) -> None:
        window = self._windows[answer.number] = _AsyncWindow(answer.number)

        try:
            await send_async(answer, window, self._put, window.wait)
        finally:
            del self._windows[answer.number]

    def _put(self, answer: bytes) -> None:
        if not self._answers:
            self._loop.call_soon(self._flush)
        self._answers.append(answer)

    def _flush(self) -> None:
        answers = b"".join(self._answers)
        self._answers.clear()
        self._connection.sendall(answers)

    def _on_overdue(self, number: int, at: Any) -> None:
        try:
            task = asyncio.current_task(self._loop)
        except RuntimeError:
            return
        if task is not None and task is self._tasks.get(self._memory.overdue(0)):
            raise OverdueError
