"""Runs of one model: concurrent requests are batched, short runs stay in the event loop, long ones go to a thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from edge_server.config.values import Batching
from edge_server.errors import BadRequest
from edge_server.http.messages import Reply, Response, message, refusal
from edge_server.models.running.call import ModelCall
from edge_server.models.running.onnx_model import DoesNotFitError
from edge_server.models.running.run_queue import RunQueue
from edge_server.models.running.run_times import RunTimes

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array
    from edge_server.models.running.onnx_model import OnnxModel

# A hand-over to a thread takes about as long as a small model's whole call; blocking the event loop this long is
# harmless.
INLINE_SECONDS = 0.003

_ALWAYS = (None,)
# Larger batches are no faster.
_MOST_GATHERED = 64

# Called with a call and its outputs when it is answered; for data collection.
Seen = Callable[[ModelCall, list[Any]], None]

_log = logging.getLogger(__name__)


class _Job(Reply):
    """A call that waits for its run, and its reply."""

    __slots__ = ("arrived", "call", "seen")

    def __init__(self, call: ModelCall, seen: Seen | None) -> None:
        super().__init__()
        self.call = call
        self.arrived = time.perf_counter()
        self.seen = seen


@dataclass(slots=True)
class _Group:
    """Jobs that are one run: its rows (0 where they do not matter), its ``size`` in numbers and characters of text."""

    jobs: list[_Job]
    rows: int
    size: int


class Batcher:
    """Runs the calls of ``model``; used on the event loop's thread.

    Calls of one turn of the loop (or of the window, where one is configured) with the same outputs are one run, as far
    as the model answers row by row. ``threads`` runs may be under way in ``pool`` at once; calls that come meanwhile
    are joined for the next.
    """

    def __init__(
        self, model: OnnxModel, name: str, waiting: RunQueue, batching: Batching, pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self.model = model
        self._name = name
        self._waiting = waiting
        self._metrics = waiting.metrics
        self._limits = waiting.limits
        self._window = batching.window_seconds
        self._rows = batching.rows if batching.enabled and model.joinable else 0
        self._pool = pool
        self._free = threads
        self._costs = RunTimes()
        self._jobs: list[_Job] = []
        self._loop = asyncio.get_running_loop()
        # The callbacks that asyncio's loop still has in this turn, if it shows them; else every run waits for the next
        # turn.
        self._turn: Sized = getattr(self._loop, "_ready", _ALWAYS)
        self._scheduled: asyncio.Handle | None = None
        self._gathered = 0
        self._busy = False
        self._running: set[onnxruntime.RunOptions] = set()

    def submit(self, call: ModelCall, seen: Seen | None = None) -> Reply:
        """Run ``call``; BadRequest 503 where too many wait. ``seen`` gets the outputs."""
        if self._waiting.full and not self._busy:
            self._run_jobs()  # only calls that wait for a thread fill the queue
        self._waiting.enter()
        job = _Job(call, seen)
        self._jobs.append(job)
        if self._busy:
            return job  # this request came by way of an answer, and the loop that gave the answer continues with it
        if self._scheduled is not None:
            if self._window and sum(job.call.rows or 0 for job in self._jobs) >= self._rows:
                self._run_jobs()  # there is nothing more to wait for
        elif self._window:
            self._scheduled = self._loop.call_later(self._window, self._run_jobs)
        elif self._turn:
            self._scheduled = self._loop.call_soon(self._gather)
        else:
            self._run_jobs()
        return job

    def stop(self) -> None:
        """Terminate the runs that are under way."""
        for options in self._running:
            options.terminate = True

    def expire(self) -> None:
        """Refuse the calls that have waited for too long."""
        oldest = time.perf_counter() - self._limits.queue_seconds
        late = [job for job in self._jobs if job.arrived < oldest]
        if late:
            self._jobs[:] = [job for job in self._jobs if job.arrived >= oldest]
            self._waiting.leave(len(late))
            for job in late:
                job.resolve(self._waiting.late())

    def _gather(self) -> None:
        """Wait for another turn of the loop while the last one brought more requests."""
        count = len(self._jobs)
        if self._gathered < count < _MOST_GATHERED and self._turn:
            self._gathered = count
            self._scheduled = self._loop.call_soon(self._gather)
        else:
            self._run_jobs()

    def _run_jobs(self) -> None:
        """Run the waiting calls that are known to be short, and others while a thread is free."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._gathered = 0
        self._busy = True
        try:
            while self._jobs:
                group = self._next()
                if group is None:
                    continue
                expected = self._costs.expect(group.size) if self.model.bounded else None
                if expected is not None and expected <= INLINE_SECONDS:
                    self._waiting.leave(len(group.jobs))
                    answers, costs = self._work(group, None)
                    self._finish(group, answers, costs)
                elif self._free:
                    self._waiting.leave(len(group.jobs))
                    self._start(group)
                else:
                    # All threads are busy: these calls wait, and others join them until one is free.
                    self._jobs[:0] = group.jobs
                    return
        finally:
            self._busy = False

    def _next(self) -> _Group | None:
        """Take the first job and those that can be joined with it; drop those whose answers are no longer wanted."""
        jobs = self._jobs
        first = jobs.pop(0)
        if first.abandoned:
            self._drop(first)
            return None
        rows = first.call.rows
        if rows is None or not self._rows or not jobs:
            return _grouped([first], rows or 0)
        kind, most = first.call.kind, self._rows
        taken, kept = [first], []
        for job in jobs:
            call = job.call
            if job.abandoned:
                self._drop(job)
            elif call.rows is None or rows + call.rows > most or call.kind != kind:
                kept.append(job)
            else:
                taken.append(job)
                rows += call.rows
        jobs[:] = kept
        return _grouped(taken, rows)

    def _drop(self, job: _Job) -> None:
        self._waiting.leave(1)
        job.resolve(message(503, "the client has left"))

    def _start(self, group: _Group) -> None:
        """Run a group in a thread, for ``scoring_seconds`` at most."""
        loop = self._loop
        options = onnxruntime.RunOptions()
        self._free -= 1
        self._running.add(options)

        def overdue() -> None:
            options.terminate = True
            self._metrics.count_timeout()
            milliseconds = round(self._limits.scoring_seconds * 1000)
            facts = {"model": self._name, "milliseconds": milliseconds, "requests": len(group.jobs)}
            _log.error("a run took too long and was ended", extra=facts)
            for job in group.jobs:
                job.resolve(message(500, f"Scoring timeout after {milliseconds} ms", failed=True, exec_ms=0.0))

        timer = loop.call_later(self._limits.scoring_seconds, overdue)

        def done(answers: list[Response], costs: list[tuple[int, float]]) -> None:
            timer.cancel()
            self._free += 1
            self._running.discard(options)
            self._finish(group, answers, costs)
            if self._jobs and not self._busy:
                self._run_jobs()

        self._pool.submit(lambda: loop.call_soon_threadsafe(done, *self._work(group, options)))

    def _finish(self, group: _Group, answers: Sequence[Response], costs: Sequence[tuple[int, float]]) -> None:
        for size, seconds in costs:
            self._costs.learn(size, seconds)
        for job, answer in zip(group.jobs, answers, strict=True):
            job.resolve(answer)

    def _work(self, group: _Group, options: Any) -> tuple[list[Response], list[tuple[int, float]]]:
        """Run a group; one that fails is run again call by call, so that none fails because of another's data.

        Returns the answers, and the cost of the runs: numbers of values, and seconds of CPU time.
        """
        started, used = time.perf_counter(), time.thread_time()
        try:
            values = self._run(group, options)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged unless it is the client's own
            if options is not None and options.terminate:
                return [message(503, "the run was ended", failed=True) for _ in group.jobs], []  # has been answered
            if len(group.jobs) == 1:
                if isinstance(error, DoesNotFitError):
                    return [refusal(self._explained(group.jobs[0].call, error, options))], []
                return [self._failure(error, started)], []
            singles = [self._work(_grouped([job], job.call.rows or 0), options) for job in group.jobs]
            return [answer for answers, _ in singles for answer in answers], [
                cost for _, part in singles for cost in part
            ]
        seconds = time.perf_counter() - started
        # CPU time of one thread, whatever else the machine did meanwhile; of several threads, only one is known.
        cost = time.thread_time() - used if self.model.threads == 1 else seconds
        milliseconds = seconds * 1000
        self._metrics.observe_run(self._name, seconds, group.rows, len(group.jobs))
        answers = []
        for job, own in zip(group.jobs, values, strict=True):
            try:
                answer = job.call.write(own)
            except Exception as error:  # noqa: BLE001
                answer = self._failure(error, started)
            answer.exec_ms = milliseconds
            answers.append(answer)
            if job.seen is not None:
                try:
                    job.seen(job.call, own)
                except Exception:  # noqa: BLE001 - the answer is right all the same
                    _log.exception("the data of a request could not be collected")
        return answers, [(group.size, cost)]

    def _run(self, group: _Group, options: Any) -> list[list[Any]]:
        first = group.jobs[0].call
        if len(group.jobs) == 1:
            return [self.model.run(first.arrays, first.outputs, options)]
        arrays = {name: np.concatenate([job.call.arrays[name] for job in group.jobs]) for name in first.arrays}
        values = self.model.run(arrays, first.outputs, options)
        answers: list[list[Any]] = []
        start = 0
        single = values[0] if len(values) == 1 else None
        for job in group.jobs:
            end = start + (job.call.rows or 0)
            answers.append([value[start:end] for value in values] if single is None else [single[start:end]])
            start = end
        if any(len(value) != start for value in values):
            raise ValueError("the outputs do not have as many rows as the inputs")
        return answers

    def _explained(self, call: ModelCall, error: DoesNotFitError, options: Any) -> BadRequest:
        # Imported here: most services never need it.
        from edge_server.models.running.refused_values import explained

        try:
            return explained(self.model, call, error, options)
        except Exception:  # noqa: BLE001 - such as when the time for the run has passed meanwhile
            return BadRequest(
                "the original model refuses a value of this request, or what one of its steps makes of it"
            )

    def _failure(self, error: Exception, started: float) -> Response:
        spent = (time.perf_counter() - started) * 1000
        if isinstance(error, BadRequest):
            return refusal(error)
        _log.error("a run failed", exc_info=error, extra={"model": self._name})
        return message(500, "the model failed; the server's log has more", failed=True, exec_ms=spent)


def _grouped(jobs: list[_Job], rows: int) -> _Group:
    call = jobs[0].call
    if len(jobs) == 1:
        return _Group(jobs, rows, _size(call.arrays))
    if call.rows and not any(array.dtype.hasobject for array in call.arrays.values()):
        return _Group(jobs, rows, _size(call.arrays) * rows // call.rows)
    return _Group(jobs, rows, sum(_size(job.call.arrays) for job in jobs))


def _size(arrays: Mapping[str, Array]) -> int:
    size = 0
    for array in arrays.values():
        size += sum(map(len, array.flat)) if array.dtype.hasobject else array.size
    return size
