"""A worker's output and log records, as log lines of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

import orjson

from edge_server.config.sizes import SIZES

_log = logging.getLogger("script")

# The longest printed line, in bytes; the rest is dropped.
LONGEST_LINE = SIZES.printed_line
# A record that the worker's handler writes is shorter than this (bytes).
_LONGEST_RECORD = SIZES.log_record
# How much of a pipe is read in one turn of the loop: a flood of output blocks its script, not the server.
_READ = SIZES.printed
# Lines that one worker may log in a second; those beyond are counted and dropped.
_LINES_A_SECOND = 2000


class LinePipe:
    """The reading end of a pipe, as lines of at most ``longest`` bytes. ``take`` gets each, and whether it was cut."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, longest: int, take: Callable[[bytes, bool], None]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._longest = longest
        self._take = take
        self._rest = b""
        self._cut = False
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._on_readable)

    def close(self) -> None:
        """Read what the pipe holds, and close it."""
        if self._descriptor < 0:
            return
        for _ in range(64):  # the pipe's own size at most, in case a child of the script writes on
            if not self._read():
                break
        self._end()

    def _on_readable(self) -> None:
        if not self._read():
            self._end()

    def _read(self) -> bool:
        """Read once; False at the pipe's end, and when there is nothing to read."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        first, *others = data.split(b"\n")
        self._extend(first)
        for line in others:
            self._finish()
            self._extend(line)
        return True

    def _extend(self, data: bytes) -> None:
        room = self._longest - len(self._rest)
        if len(data) > room:
            self._cut = True
            data = data[:room]
        self._rest += data

    def _finish(self) -> None:
        line, cut = self._rest, self._cut
        self._rest, self._cut = b"", False
        if line or cut:
            self._take(line, cut)

    def _end(self) -> None:
        self._finish()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class WorkerOutput:
    """The three pipes of one worker: standard output, standard error, and records of ``logging``.

    ``ends`` are the writing ends, in that order, for the worker; ``started`` closes the server's copies of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, worker: int) -> None:
        self._loop = loop
        self._worker = worker
        self._second = 0
        self._lines = 0
        self._dropped = 0
        pipes = [os.pipe() for _ in range(3)]
        self.ends = tuple(end for _, end in pipes)
        self._pipes = [
            LinePipe(loop, pipes[0][0], LONGEST_LINE, lambda line, cut: self._print("stdout", line, cut)),
            LinePipe(loop, pipes[1][0], LONGEST_LINE, lambda line, cut: self._print("stderr", line, cut)),
            LinePipe(loop, pipes[2][0], _LONGEST_RECORD, self._record),
        ]

    def started(self) -> None:
        """The worker has its copies of the ends: close ours."""
        for end in self.ends:
            os.close(end)

    def close(self) -> None:
        """Log what is left in the pipes after the worker's end."""
        for pipe in self._pipes:
            pipe.close()
        self._report_dropped()

    def _print(self, stream: str, line: bytes, cut: bool) -> None:
        if self._allowed():
            extra: dict[str, object] = {"stream": stream, "worker": self._worker}
            if cut:
                extra["cut"] = True
            _log.info("%s", line.decode("utf-8", "replace").rstrip("\r"), extra=extra)

    def _record(self, line: bytes, cut: bool) -> None:
        """Log a record of the worker under its own name, level and time."""
        if not self._allowed():
            return
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
            given = orjson.loads(line)
            values = {
                **given.get("extras", {}),
                "name": str(given["name"]),
                "levelno": int(given["level"]),
                "levelname": logging.getLevelName(int(given["level"])),
                "created": float(given["time"]),
                "msg": "%s",
                "args": (str(given["message"]),),
                "worker": self._worker,
            }
            if "request_id" in given:
                values["request_id"] = str(given["request_id"])
            _log.handle(logging.makeLogRecord(values))

    def _allowed(self) -> bool:
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._lines = second, 0
            self._report_dropped()
        self._lines += 1
        if self._lines > _LINES_A_SECOND:
            self._dropped += 1
            return False
        return True

    def _report_dropped(self) -> None:
        if self._dropped:
            _log.warning("%d lines were left out: the script logs too much", self._dropped)
            self._dropped = 0
