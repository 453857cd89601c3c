"""Hands calls to slots, and enforces their time limits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from edge_server.config.values import Limits
from edge_server.errors import BadRequest
from edge_server.http.messages import Reply, Response, message
from edge_server.http.streams import BodyStream
from edge_server.scripts import frames
from edge_server.scripts.frames import Frame
from edge_server.scripts.process import WorkerProcess
from edge_server.scripts.replies import read_answer
from edge_server.scripts.slots import Cost, ScriptCall, Slot
from edge_server.telemetry.metrics import Metrics

_RETRY_AFTER = [(b"retry-after", b"1")]
# How often times are checked while there are calls (seconds).
_TICK = 0.02
# How long a call may take to stop when it was asked to (seconds).
_SOFT = 1.0

_log = logging.getLogger(__name__)


class Pool:
    """The slots of all ready workers, and the calls that wait for one. On the event loop's thread only."""

    def __init__(self, name: str, limits: Limits, metrics: Metrics, slots: int) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._slots: list[Slot] = []
        self._waiting: deque[ScriptCall] = deque()
        self._cost = Cost(slots)
        self._ticking = False
        self._tick_seconds = min(_TICK, max(0.001, limits.scoring_seconds / 4), max(0.001, limits.queue_seconds / 4))
        # Workers that get no more calls, with the time at which they are ended.
        self._ending: dict[WorkerProcess, float] = {}

    def waiting(self) -> int:
        """How many calls have not begun."""
        beyond = sum(max(0, len(slot.calls) - slot.width) for slot in self._slots)
        return len(self._waiting) + beyond

    def add(self, slots: list[Slot]) -> None:
        """Add a worker that is ready."""
        self._slots += slots
        self._hand_out()

    def submit(self, kind: int, meta: bytes, body: bytes) -> Reply:
        """Take a call; BadRequest 503 when as many wait as may."""
        reply = Reply()
        call = ScriptCall(kind, meta, body, reply, self._loop.time())
        slot = None if self._waiting else self._free_slot()
        if (slot is None or len(slot.calls) >= slot.width) and self.waiting() >= self._limits.queue:
            self._metrics.count_rejection("queue_full")
            raise BadRequest("The service is busy: too many requests wait. Try again later.", 503, _RETRY_AFTER)
        if slot is None:
            self._waiting.append(call)
        else:
            slot.send(call, call.arrived)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(self._tick_seconds, self._tick)
        return reply

    def _free_slot(self) -> Slot | None:
        best = None
        for slot in self._slots:
            if slot.room(self._cost.ahead):
                if not slot.calls:
                    return slot
                if best is None or len(slot.calls) < len(best.calls):
                    best = slot
        return best

    def _hand_out(self) -> None:
        while self._waiting and (slot := self._free_slot()) is not None:
            call = self._waiting.popleft()
            if not call.unwanted:
                slot.send(call, self._loop.time())

    def take(self, worker: WorkerProcess, found: list[Frame]) -> None:
        """Handle a worker's frame about its calls; ValueError when it is invalid."""
        slots = {slot.index: slot for slot in self._slots if slot.worker is worker}
        for frame in found:
            slot = slots.get(frame.slot)
            if slot is None or frame.kind == frames.HEARD:
                if frame.kind == frames.HEARD and frame.number:
                    worker.heard = True
                continue
            if frame.kind in (frames.STREAM, frames.PIECE):
                self._take_part(slot, frame)
                continue
            call = slot.forget(frame.number)
            if call is None:
                continue  # it came twice, or the call was given to another slot
            if frame.kind == frames.SKIPPED:
                if not call.unwanted:
                    self._waiting.appendleft(call)
                continue
            response = None if frame.kind == frames.END else read_answer(frame)
            if frame.kind != frames.REFUSED:
                self._cost.measure(frame.seconds)
                self._metrics.observe_run(self._name, frame.seconds, 0, 1)
            if response is not None:
                call.reply.resolve(response)
            elif call.stream is not None:
                call.stream.end(frame.status == 0)
        if self._waiting:
            self._hand_out()
        if worker in self._ending:
            self._kill_if_due(worker)

    def _take_part(self, slot: Slot, frame: Frame) -> None:
        """The beginning of an answer that is streamed, or one piece of it: its call is at work, and not yet overdue."""
        call = slot.calls.get(frame.number)
        if call is None:
            return
        call.begun = slot.since = self._loop.time()
        if frame.kind == frames.PIECE:
            if call.stream is not None:
                call.stream.feed(frame.body)
            return
        number, worker = frame.number, slot.worker

        def allow(size: int) -> None:
            worker.send(frames.encode(frames.MORE, slot.index, number, str(size).encode()))

        def leave() -> None:
            worker.send(frames.encode(frames.LEFT, slot.index, number, b""))

        response = read_answer(frame)
        response.stream = call.stream = BodyStream(allow, leave)
        if call.reply.resolved:
            call.stream.leave()
        call.reply.resolve(response)

    def remove(self, worker: WorkerProcess) -> list[str]:
        """The worker has ended: calls that it had begun have failed, the others go to other slots.

        Returns the ids of the requests that it was at work on.
        """
        self._ending.pop(worker, None)
        gone = [slot for slot in self._slots if slot.worker is worker]
        self._slots = [slot for slot in self._slots if slot.worker is not worker]
        again: list[ScriptCall] = []
        lost: list[str] = []
        for slot in gone:
            for number, call in slot.calls.items():
                if slot.has_begun(number):
                    lost.append(call.request_id)
                    seconds = self._loop.time() - (call.begun if slot.is_async else slot.since or call.begun)
                    call.reply.resolve(Response(500, frames.RUN_FAILED, failed=True, exec_ms=seconds * 1000))
                    if call.stream is not None:
                        call.stream.end(False)
                elif not call.unwanted:
                    again.append(call)
        self._waiting.extendleft(sorted(again, key=lambda call: call.arrived, reverse=True))
        self._hand_out()
        return lost

    def fail_all(self) -> None:
        """Answer the calls that wait: no worker is left to run them."""
        for call in self._waiting:
            call.reply.resolve(message(503, "The service is stopping.", _RETRY_AFTER))
        self._waiting.clear()

    def _tick(self) -> None:
        now = self._loop.time()
        for slot in list(self._slots):
            if slot.calls:
                self._check_slot(slot, now)
        for worker, end in list(self._ending.items()):
            if now >= end:
                worker.kill()
        oldest = now - self._limits.queue_seconds
        while self._waiting and (self._waiting[0].unwanted or self._waiting[0].arrived <= oldest):
            self._reject(self._waiting.popleft())
        self._hand_out()
        if self._waiting or any(slot.calls for slot in self._slots):
            self._loop.call_later(self._tick_seconds, self._tick)
        else:
            self._ticking = False

    def _reject(self, call: ScriptCall) -> None:
        if not call.unwanted:
            self._metrics.count_rejection("queue_timeout")
            text = "The service is busy: the request waited too long. Try again later."
            call.reply.resolve(message(503, text, _RETRY_AFTER))

    def _check_slot(self, slot: Slot, now: float) -> None:
        if slot.is_async:
            for number in slot.running():
                if slot.calls[number].waits_for_client:
                    slot.calls[number].begun = now
                if now - slot.calls[number].begun >= self._limits.scoring_seconds:
                    self._stop_overdue(slot, number, now - slot.calls[number].begun)
            return
        begun = slot.worker.memory.begun(slot.index)
        if begun != slot.begun or begun not in slot.calls:
            slot.begun, slot.since = begun, now
            return
        # The same call as at the last check: those behind it wait, and answers before it may be unsent.
        if now - slot.since >= self._limits.scoring_seconds:
            self._stop_overdue(slot, begun, now - slot.since)
        slot.stuck = True
        if len(slot.calls) > 1:
            slot.worker.peek()
            self._take_back_waiting(slot, now)

    def _take_back_waiting(self, slot: Slot, now: float) -> None:
        """Take back calls that wait behind a long one: for another slot, or because their answers are no longer wanted.

        A call is cancelled in one check and moved in the next, when what either side wrote is visible to the other: by
        then it has begun, or never will.
        """
        elsewhere = slot.closed or any(not (other.stuck or other.closed) for other in self._slots)
        moved = []
        for number, call in list(slot.calls.items()):
            if slot.has_begun(number):
                continue
            if number in slot.taken_back:
                moved.append(slot.calls.pop(number))
            elif call.unwanted or elsewhere or now - call.arrived >= self._limits.queue_seconds:
                slot.take_back(number)
        self._waiting.extendleft(reversed(moved))

    def _stop_overdue(self, slot: Slot, number: int, seconds: float) -> None:
        call = slot.calls[number]
        if call.overdue:
            return
        call.overdue = True
        slot.stuck = True
        self._metrics.count_timeout()
        limit = f"{self._limits.scoring_seconds * 1000:.0f}"
        extra = {"worker": slot.worker.number, "request_id": call.request_id}
        _log.error("a call ran longer than %s ms and is stopped", limit, extra=extra)
        text = f"Scoring timeout after {limit} ms"
        call.reply.resolve(message(500, text, failed=True, exec_ms=seconds * 1000))
        if call.stream is not None:
            call.stream.end(False)
        worker = slot.worker
        worker.heard = False
        worker.memory.interrupt(slot.index, number)
        worker.send(frames.encode(frames.CANCEL, slot.index, number, b""))
        worker.signal(frames.OVERDUE_SIGNAL)
        self._loop.call_later(_SOFT, self._end_stuck_worker, slot, number)

    def _end_stuck_worker(self, slot: Slot, number: int) -> None:
        """The call did not stop: end its worker, after the other calls that run in it or when their time is over."""
        worker = slot.worker
        if number not in slot.calls or worker.exited:
            return
        worker.ended_for = "timeout"
        if worker in self._ending:
            return
        grace = self._limits.grace_seconds if worker.heard else 0.0
        self._ending[worker] = self._loop.time() + grace
        for other in self._slots:
            if other.worker is worker:
                other.closed = True
        self._kill_if_due(worker)

    def _kill_if_due(self, worker: WorkerProcess) -> None:
        slots = [slot for slot in self._slots if slot.worker is worker]
        wanted = any(not slot.calls[number].overdue for slot in slots for number in slot.running())
        if not wanted or self._loop.time() >= self._ending[worker]:
            worker.kill()
