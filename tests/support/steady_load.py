"""Requests at a fixed rate, whatever becomes of those before; half on kept connections, half on new ones.

``python -m tests.support.steady_load PORT RATE PATH`` sends the body that is its first line of input until its input
ends, and prints a row for each request: when it was due, seconds until its answer, and what happened (``ok``,
``stale`` for one that was sent again because its kept connection had been closed before any answer, or the failure).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECONDS = 30.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Row(NamedTuple):
    """One request."""

    due: float
    seconds: float
    what: str


class _GoneError(Exception):
    """A kept connection was closed before any byte of an answer."""


class _Load:
    def __init__(self, port: int, rate: float, head: bytes, body: bytes) -> None:
        self.port, self.rate = port, rate
        self._request = {
            kept: head + b"Connection: " + (b"keep-alive" if kept else b"close") + b"\r\n\r\n" + body
            for kept in (False, True)
        }
        self.rows: list[Row] = []
        self._kept: deque[Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        begun, number = time.time(), 0
        while not stop.is_set():
            due = begun + number / self.rate
            if (left := due - time.time()) > 0:
                await asyncio.sleep(left)
            task = asyncio.create_task(self._one(due, kept=bool(number % 2)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
        await asyncio.gather(*self._tasks)

    async def _one(self, due: float, *, kept: bool) -> None:
        what = "ok"
        try:
            async with asyncio.timeout(SECONDS):
                try:
                    await self._ask(kept=kept)
                except _GoneError:
                    what = "stale"
                    await self._ask(kept=False)
        except (OSError, EOFError, ValueError, TimeoutError, _GoneError) as error:
            what = f"{type(error).__name__}: {error}"
        self.rows.append(Row(due, time.time() - due, what))

    async def _ask(self, *, kept: bool) -> None:
        found = self._idle() if kept else None
        reader, writer = found or await asyncio.open_connection("127.0.0.1", self.port)
        keep = False
        try:
            try:
                writer.write(self._request[kept])
                first = await reader.readline()
            except ConnectionError as error:
                if found is None:
                    raise
                raise _GoneError from error
            if not first:
                if found is not None:
                    raise _GoneError
                raise EOFError("closed before an answer")
            if first.split()[1] != b"200":
                raise ValueError(first.decode("latin-1").strip())
            size, stays = 0, kept
            while (line := (await reader.readline()).strip().lower()) != b"":
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    size = int(value)
                if name == b"connection" and value.strip() == b"close":
                    stays = False
            await reader.readexactly(size)
            keep = stays
        finally:
            if keep:
                self._kept.append((reader, writer))
            else:
                writer.close()

    def _idle(self) -> Connection | None:
        while self._kept:
            reader, writer = self._kept.popleft()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None


async def _main(port: int, rate: float, path: str) -> None:
    body = sys.stdin.buffer.readline().strip()
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    load = _Load(port, rate, f"{head}Content-Length: {len(body)}\r\n".encode(), body)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: None if sys.stdin.buffer.read1(1) else stop.set())
    await load.run(stop)
    json.dump(load.rows, sys.stdout)


@dataclass
class Load:
    """The rows, once it has ended."""

    rows: list[Row] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [one.what for one in self.rows if one.what not in ("ok", "stale")]

    @property
    def stale(self) -> int:
        return sum(one.what == "stale" for one in self.rows)

    def p99(self, since: float = 0.0, until: float = float("inf")) -> float:
        """The 99th percentile of those that were due in that time."""
        return percentile(sorted(one.seconds for one in self.rows if since <= one.due < until), 0.99)


def percentile(values: list[float], share: float) -> float:
    """Of sorted ``values``."""
    return values[min(len(values) - 1, int(len(values) * share))]


@contextmanager
def steady_load(port: int, rate: float, path: str = "/", body: str = "") -> Iterator[Load]:
    """Requests in another process meanwhile; their rows are there at the end."""
    load = Load()
    command = [sys.executable, "-m", "tests.support.steady_load", str(port), str(rate), path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(body.encode() + b"\n")
        process.stdin.flush()
        try:
            yield load
        finally:
            process.stdin.close()
            load.rows = [Row(*one) for one in json.loads(process.stdout.read())]


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
