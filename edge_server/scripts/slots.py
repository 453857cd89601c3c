"""The places in which a worker runs calls: one at a time (a thread) or several at once (an event loop)."""

from __future__ import annotations

import orjson

from edge_server.http.messages import Reply
from edge_server.http.streams import BodyStream
from edge_server.scripts import frames
from edge_server.scripts.process import WorkerProcess

# How much work may be queued at a slot (seconds) and in how many calls, so that it never waits for the server.
_WORK_AHEAD = 0.002
MOST_AHEAD = 64
# Calls shorter than this (seconds) are always sent one ahead where there is only one slot to take them.
_SHORT = 0.02


class ScriptCall:
    """One request on its way: ``arrived`` is the loop's time, ``begun`` when it was sent to an event loop.

    ``overdue`` calls have been answered, but still run. ``stream`` is the answer's body where it comes piece by piece.
    """

    __slots__ = ("arrived", "begun", "body", "kind", "meta", "overdue", "reply", "stream")

    def __init__(self, kind: int, meta: bytes, body: bytes, reply: Reply, arrived: float) -> None:
        self.kind = kind
        self.meta = meta
        self.body = body
        self.reply = reply
        self.arrived = arrived
        self.begun = 0.0
        self.overdue = False
        self.stream: BodyStream | None = None

    @property
    def request_id(self) -> str:
        """The id of the request, for the log."""
        return self.meta.decode("latin-1") if self.kind == frames.CALL else str(orjson.loads(self.meta)[0])

    @property
    def waits_for_client(self) -> bool:
        """Whether the next piece of its answer waits for the client to take those before it."""
        return self.stream is not None and self.stream.stalled

    @property
    def unwanted(self) -> bool:
        """Whether its answer is no longer wanted."""
        return self.reply.abandoned or self.reply.resolved


class Cost:
    """The measured time of a call of the script: rises fast and falls slowly, since a low estimate makes calls wait.
    ``ahead`` is how many calls may be queued at one slot.
    """

    def __init__(self, slots: int) -> None:
        self._least = 2 if slots == 1 else 1
        self._seconds: float | None = None
        self.ahead = 1

    def measure(self, seconds: float) -> None:
        """Update the estimate with the duration of one call."""
        old = seconds if self._seconds is None else self._seconds
        self._seconds = cost = old + (seconds - old) * (0.5 if seconds > old else 0.1)
        if cost > _SHORT:
            self.ahead = 1
        else:
            self.ahead = min(MOST_AHEAD, max(self._least, int(_WORK_AHEAD / (cost + 1e-6))))


class Slot:
    """One slot of a worker. ``width`` calls run at once; ``calls`` are those that it has, by number, in their order.

    ``begun`` is the last call that it is known to have begun, ``since`` when that was seen. A ``stuck`` slot runs a
    long call: it is given no more, nor is a ``closed`` one, whose worker is to end.
    """

    def __init__(self, worker: WorkerProcess, index: int, width: int, is_async: bool) -> None:
        self.worker = worker
        self.index = index
        self.width = width
        self.is_async = is_async
        self.calls: dict[int, ScriptCall] = {}
        self.taken_back: set[int] = set()
        self.begun = 0
        self.since = 0.0
        self.stuck = False
        self.closed = False
        self._last = 0

    def room(self, ahead: int) -> bool:
        """Whether another call may be sent to it."""
        if self.closed:
            return False
        if self.is_async:
            return len(self.calls) < self.width
        return len(self.calls) < ahead and not (self.stuck and self.calls)

    def send(self, call: ScriptCall, now: float) -> None:
        """Send it the call."""
        self._last = number = self._last + 1
        self.calls[number] = call
        call.begun = now
        # An idle slot begins now, while the server goes on reading.
        frame = frames.encode(call.kind, self.index, number, call.body, call.meta)
        self.worker.send(frame, at_once=len(self.calls) == 1)

    def has_begun(self, number: int) -> bool:
        """Whether that call has begun; while the worker runs, it may begin a moment later."""
        return number <= self.worker.memory.begun(self.index)

    def running(self) -> list[int]:
        """The numbers of the calls that have begun and are not answered."""
        last = self.worker.memory.begun(self.index)
        return [number for number in self.calls if number <= last]

    def take_back(self, number: int) -> None:
        """Ask the worker not to begin that call."""
        if number not in self.taken_back:
            self.taken_back.add(number)
            self.worker.memory.take_back(self.index, number, True)

    def forget(self, number: int) -> ScriptCall | None:
        """Remove a call that was answered or skipped."""
        if number in self.taken_back:
            self.taken_back.discard(number)
            self.worker.memory.take_back(self.index, number, False)
        if number == self.begun:
            self.stuck = False
        return self.calls.pop(number, None)
