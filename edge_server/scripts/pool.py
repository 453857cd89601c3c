"""Hands calls to lanes, and watches over their times."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from edge_server.config.values import Limits
from edge_server.errors import BadRequest
from edge_server.http.messages import Reply, Response, message
from edge_server.scripts import frames
from edge_server.scripts.frames import Frame
from edge_server.scripts.process import WorkerProcess
from edge_server.scripts.replies import read_answer
from edge_server.scripts.slots import Call, Cost, Lane
from edge_server.telemetry.metrics import Metrics

_RETRY_AFTER = [(b"retry-after", b"1")]
# How often times are looked at while there are calls (seconds).
_TICK = 0.02
# How long a call that was asked to stop may take for it (seconds).
_SOFT = 1.0

logger = logging.getLogger(__name__)


class Pool:
    """The lanes of all ready workers, and the calls that wait for one. On the event loop's thread only."""

    def __init__(self, name: str, limits: Limits, metrics: Metrics, lanes: int) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._waiting: deque[Call] = deque()
        self._cost = Cost(lanes)
        self._ticking = False
        self._tick_seconds = min(_TICK, max(0.001, limits.scoring_seconds / 4), max(0.001, limits.queue_seconds / 4))
        # Workers that get no more calls, with the time at which they end whatever they do.
        self._condemned: dict[WorkerProcess, float] = {}

    def waiting(self) -> int:
        """How many calls have not begun."""
        beyond = sum(max(0, len(lane.calls) - lane.width) for lane in self._lanes)
        return len(self._waiting) + beyond

    def add(self, lanes: list[Lane]) -> None:
        """A worker is ready."""
        self._lanes += lanes
        self._hand_out()

    def submit(self, kind: int, meta: bytes, body: bytes) -> Reply:
        """Take a call; BadRequest 503 when as many wait as may."""
        reply = Reply()
        call = Call(kind, meta, body, reply, self._loop.time())
        lane = None if self._waiting else self._free_lane()
        if (lane is None or len(lane.calls) >= lane.width) and self.waiting() >= self._limits.queue:
            self._metrics.count_rejection("queue_full")
            raise BadRequest("The service is busy: too many requests wait. Try again later.", 503, _RETRY_AFTER)
        if lane is None:
            self._waiting.append(call)
        else:
            lane.send(call, call.arrived)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(self._tick_seconds, self._tick)
        return reply

    def _free_lane(self) -> Lane | None:
        best = None
        for lane in self._lanes:
            if lane.room(self._cost.ahead):
                if not lane.calls:
                    return lane
                if best is None or len(lane.calls) < len(best.calls):
                    best = lane
        return best

    def _hand_out(self) -> None:
        while self._waiting and (lane := self._free_lane()) is not None:
            call = self._waiting.popleft()
            if not call.unwanted:
                lane.send(call, self._loop.time())

    def take(self, worker: WorkerProcess, found: list[Frame]) -> None:
        """What a worker says about its calls; ValueError when it makes no sense."""
        lanes = {lane.index: lane for lane in self._lanes if lane.worker is worker}
        for frame in found:
            lane = lanes.get(frame.lane)
            if lane is None or frame.kind == frames.HEARD:
                if frame.kind == frames.HEARD and frame.number:
                    worker.heard = True
                continue
            call = lane.forget(frame.number)
            if call is None:
                continue  # it came twice, or was handed to another lane
            if frame.kind == frames.SKIPPED:
                if not call.unwanted:
                    self._waiting.appendleft(call)
                continue
            response = read_answer(frame)
            if frame.kind != frames.REFUSED:
                self._cost.measure(frame.seconds)
                self._metrics.observe_run(self._name, frame.seconds, 0, 1)
            call.reply.resolve(response)
        if self._waiting:
            self._hand_out()
        if worker in self._condemned:
            self._end_condemned(worker)

    def remove(self, worker: WorkerProcess) -> list[str]:
        """The worker is gone: calls that it had begun have failed, the others go to other lanes.

        Returns the ids of the requests that it was at work on.
        """
        self._condemned.pop(worker, None)
        gone = [lane for lane in self._lanes if lane.worker is worker]
        self._lanes = [lane for lane in self._lanes if lane.worker is not worker]
        again: list[Call] = []
        lost: list[str] = []
        for lane in gone:
            for number, call in lane.calls.items():
                if lane.has_begun(number):
                    lost.append(call.request_id)
                    seconds = self._loop.time() - (call.begun if lane.is_async else lane.since or call.begun)
                    call.reply.resolve(Response(500, frames.RUN_FAILED, failed=True, exec_ms=seconds * 1000))
                elif not call.unwanted:
                    again.append(call)
        self._waiting.extendleft(sorted(again, key=lambda call: call.arrived, reverse=True))
        self._hand_out()
        return lost

    def fail_all(self) -> None:
        """Answer what waits: there is nobody left to run it."""
        for call in self._waiting:
            call.reply.resolve(message(503, "The service is stopping.", _RETRY_AFTER))
        self._waiting.clear()

    def _tick(self) -> None:
        now = self._loop.time()
        for lane in list(self._lanes):
            if lane.calls:
                self._look_at(lane, now)
        for worker, end in list(self._condemned.items()):
            if now >= end:
                worker.kill()
        oldest = now - self._limits.queue_seconds
        while self._waiting and (self._waiting[0].unwanted or self._waiting[0].arrived <= oldest):
            self._turn_away(self._waiting.popleft())
        self._hand_out()
        if self._waiting or any(lane.calls for lane in self._lanes):
            self._loop.call_later(self._tick_seconds, self._tick)
        else:
            self._ticking = False

    def _turn_away(self, call: Call) -> None:
        if not call.unwanted:
            self._metrics.count_rejection("queue_timeout")
            text = "The service is busy: the request waited too long. Try again later."
            call.reply.resolve(message(503, text, _RETRY_AFTER))

    def _look_at(self, lane: Lane, now: float) -> None:
        if lane.is_async:
            for number in lane.running():
                if now - lane.calls[number].begun >= self._limits.scoring_seconds:
                    self._stop_overdue(lane, number, now - lane.calls[number].begun)
            return
        begun = lane.worker.page.begun(lane.index)
        if begun != lane.begun or begun not in lane.calls:
            lane.begun, lane.since = begun, now
            return
        # The same call since the last look: those behind it wait, and answers before it may be unsent.
        if now - lane.since >= self._limits.scoring_seconds:
            self._stop_overdue(lane, begun, now - lane.since)
        lane.stuck = True
        if len(lane.calls) > 1:
            lane.worker.peek()
            self._rescue(lane, now)

    def _rescue(self, lane: Lane, now: float) -> None:
        """Take calls from behind a long one: for another lane, or because nobody waits for them any more.

        A call is asked back in one look and moved in the next, when what either side wrote is long visible to the
        other: it either had begun by then, or never will.
        """
        elsewhere = lane.closed or any(not (other.stuck or other.closed) for other in self._lanes)
        moved = []
        for number, call in list(lane.calls.items()):
            if lane.has_begun(number):
                continue
            if number in lane.taken_back:
                moved.append(lane.calls.pop(number))
            elif call.unwanted or elsewhere or now - call.arrived >= self._limits.queue_seconds:
                lane.take_back(number)
        self._waiting.extendleft(reversed(moved))

    def _stop_overdue(self, lane: Lane, number: int, seconds: float) -> None:
        call = lane.calls[number]
        if call.overdue:
            return
        call.overdue = True
        lane.stuck = True
        self._metrics.count_timeout()
        limit = f"{self._limits.scoring_seconds * 1000:.0f}"
        extra = {"worker": lane.worker.number, "request_id": call.request_id}
        logger.error("a call ran longer than %s ms and is stopped", limit, extra=extra)
        text = f"Scoring timeout after {limit} ms"
        call.reply.resolve(message(500, text, failed=True, exec_ms=seconds * 1000))
        worker = lane.worker
        worker.heard = False
        worker.page.interrupt(lane.index, number)
        worker.send(frames.encode(frames.CANCEL, lane.index, number, b""))
        worker.signal(frames.OVERDUE_SIGNAL)
        self._loop.call_later(_SOFT, self._give_up, lane, number)

    def _give_up(self, lane: Lane, number: int) -> None:
        """The call did not stop: its worker must end, but other calls that run in it and may come to an end first."""
        worker = lane.worker
        if number not in lane.calls or worker.exited:
            return
        worker.ended_for = "timeout"
        if worker in self._condemned:
            return
        grace = self._limits.grace_seconds if worker.heard else 0.0
        self._condemned[worker] = self._loop.time() + grace
        for other in self._lanes:
            if other.worker is worker:
                other.closed = True
        self._end_condemned(worker)

    def _end_condemned(self, worker: WorkerProcess) -> None:
        lanes = [lane for lane in self._lanes if lane.worker is worker]
        wanted = any(not lane.calls[number].overdue for lane in lanes for number in lane.running())
        if not wanted or self._loop.time() >= self._condemned[worker]:
            worker.kill()
