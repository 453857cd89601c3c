"""The service of an entry script: starts, watches and replaces workers, and hands them calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson

from edge_server.compat import azure
from edge_server.config.values import ServiceConfig
from edge_server.errors import BadRequest, ScriptError
from edge_server.http.messages import Reply, Request
from edge_server.scripts import frames
from edge_server.scripts.frames import Frame
from edge_server.scripts.pool import Pool
from edge_server.scripts.process import WorkerProcess, describe_exit
from edge_server.scripts.slots import Slot
from edge_server.service import Description
from edge_server.telemetry.metrics import Metrics

# How long to wait before a worker that failed to start is started again (seconds): doubled each time, up to the last.
_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0
# How long workers may take to end by themselves (seconds).
_STOP_SECONDS = 3.0
# Log texts for workers that the server itself ended.
_ENDED = {
    "timeout": "was ended, its call ran too long",
    "socket": "was ended, it broke its connection with the server",
}

_log = logging.getLogger(__name__)


class ScriptService:
    """``edge_server.service.Service`` over the worker processes of ``config.script``."""

    methods: frozenset[str] = frozenset(("GET", "POST"))

    def __init__(self, config: ServiceConfig, metrics: Metrics) -> None:
        if config.script is None:
            raise ValueError("the configuration names no entry script")
        self._config = config
        self._script = config.script
        self._metrics = metrics
        self._environment = azure.environment(config)
        self._scheme = "https" if config.tls else "http"
        self._workers: dict[int, WorkerProcess] = {}
        self._ready: set[WorkerProcess] = set()
        self._started: dict[int, asyncio.Future[None]] = {}
        self._pool: Pool | None = None
        self._failures = 0
        self._stopping = False
        self._described: Mapping[str, Any] = {}
        # Whether the body is all that the script needs of a POST.
        self._by_body = False
        metrics.gauge("edgepack_workers_ready", "Workers of the entry script that take calls.", self._count_ready)
        metrics.gauge("edgepack_queue_length", "Requests that wait for a worker.", self._count_waiting)

    async def start(self) -> None:
        """Start all workers; ScriptError when one of them cannot start, or takes longer than it may."""
        script = self._script
        self._pool = Pool(f"{script.file.stem}:", self._config.limits, self._metrics, script.workers * script.threads)
        loop = asyncio.get_running_loop()
        try:
            for number in range(script.workers):
                self._started[number] = loop.create_future()
                self._start_worker(number)
            await asyncio.gather(*self._started.values())
        except BaseException:
            await self.stop()
            raise
        finally:
            self._started = {}

    async def stop(self) -> None:
        """Stop all workers: by closing their sockets, or by SIGKILL when they take too long."""
        self._stopping = True
        if self._pool is not None:
            self._pool.fail_all()
        loop = asyncio.get_running_loop()
        end = loop.time() + _STOP_SECONDS
        for worker in list(self._workers.values()):
            if worker in self._ready:
                worker.close()
            else:
                worker.kill()
        while self._workers:
            if loop.time() >= end:
                for worker in list(self._workers.values()):
                    worker.kill()
            await asyncio.sleep(0.005)

    def ready(self) -> bool:
        """Whether a worker is ready for calls."""
        return bool(self._ready) and not self._stopping

    def score(self, request: Request) -> Reply:
        """Hand the request to a worker; BadRequest 405 for another method, 503 when too many wait."""
        if self._pool is None:
            raise BadRequest("The service has not started.", 503)
        method = request.method
        if self._by_body and method == "POST":
            return self._pool.submit(frames.CALL, request.request_id.encode("latin-1", "replace"), request.body)
        if method not in self.methods:
            raise BadRequest(f"The method {method} is not allowed here", 405)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        whole = (request.request_id, method, request.path, request.query, request.client, self._scheme, headers)
        try:
            meta = orjson.dumps(whole)
        except TypeError:
            raise BadRequest("The path or the query is not UTF-8.") from None
        return self._pool.submit(frames.CALL_WHOLE, meta, request.body)

    def describe(self) -> Description:
        """The description by the decorators of ``run``; any object for a script that has none."""
        return Description(self._described["in"], self._described["out"], takes_get=True)

    def facts(self) -> Mapping[str, Any]:
        """What the log says of the service when it is ready."""
        script = self._script
        return {"script": str(script.file), "workers": script.workers, "threads": script.threads}

    def _count_ready(self) -> float:
        return len(self._ready)

    def _count_waiting(self) -> float:
        return 0 if self._pool is None else self._pool.waiting()

    def _start_worker(self, number: int) -> None:
        worker = WorkerProcess(number, self._on_frames, self._on_exit)
        try:
            worker.start(self._config, self._script, self._environment)
        except OSError as error:
            self._not_started(number, f"a worker of the entry script cannot be started: {error.strerror}")
            return
        self._workers[number] = worker
        worker.deadline = asyncio.get_running_loop().call_later(self._script.start_seconds, self._too_slow, worker)

    def _too_slow(self, worker: WorkerProcess) -> None:
        seconds = f"{self._script.start_seconds:g}"
        what = f"the entry script {self._script.file} did not start within {seconds} s"
        worker.problem = f"{what}; let init() do less, or raise entry_script.start_seconds"
        worker.kill()

    def _on_frames(self, worker: WorkerProcess, found: list[Frame]) -> None:
        if worker in self._ready and self._pool is not None:
            self._pool.take(worker, found)
            return
        for frame in found:
            if frame.kind == frames.READY:
                self._on_ready(worker, orjson.loads(frame.body))
            elif frame.kind == frames.FAILED:
                failure = orjson.loads(frame.body)
                worker.problem = str(failure["sentence"])
                if details := failure["details"]:
                    _log.error("the entry script cannot start", extra={"traceback": details})

    def _on_ready(self, worker: WorkerProcess, described: Mapping[str, Any]) -> None:
        worker.deadline.cancel()
        script = self._script
        if not self._described:
            self._described = described
            self._by_body = described["style"] == "text" and not described["headers"]
            if described["style"] == "raw":
                self.methods = frozenset(("GET", "HEAD", "POST", "OPTIONS"))
        self._failures = 0
        self._ready.add(worker)
        if described["async"]:
            slots = [Slot(worker, 0, script.concurrency, True)]
        else:
            slots = [Slot(worker, index, 1, False) for index in range(script.threads)]
        if self._pool is not None:
            self._pool.add(slots)
        started = self._started.get(worker.number)
        if started is not None and not started.done():
            started.set_result(None)

    def _on_exit(self, worker: WorkerProcess, code: int) -> None:
        worker.deadline.cancel()
        del self._workers[worker.number]
        if worker not in self._ready:
            how = f"{describe_exit(code)} while importing the script or in init()"
            what = f"the worker of the entry script {self._script.file} ended with {how}"
            self._not_started(worker.number, worker.problem or what)
            return
        self._ready.discard(worker)
        lost = [] if self._pool is None else self._pool.remove(worker)
        if not self._stopping:
            extra: dict[str, Any] = {"worker": worker.number, "pid": worker.pid}
            if lost:
                extra |= {"request_id": lost[0]} if len(lost) == 1 else {"request_ids": lost}
            how = _ENDED.get(worker.ended_for) or f"ended with {describe_exit(code)}"
            _log.error("a worker of the entry script %s; it is replaced", how, extra=extra)
            overdue = worker.ended_for == "timeout"
            self._metrics.count_worker_exit("timeout" if overdue else "exit" if code == 0 else "crash")
        if lost and not self._stopping:
            self._start_worker(worker.number)
        elif not self._stopping:
            # The server did not end it: the next one may end the same way, and at once.
            asyncio.get_running_loop().call_later(_FIRST_DELAY, self._try_again, worker.number)

    def _not_started(self, number: int, problem: str) -> None:
        """A worker cannot start: this ends a service that is starting; a running service tries again."""
        started = self._started.get(number)
        if started is not None and not started.done():
            started.set_exception(ScriptError(problem))
        elif not self._stopping:
            delay = min(_LAST_DELAY, _FIRST_DELAY * 2**self._failures)
            self._failures += 1
            _log.error("%s; trying again in %g s", problem, delay, extra={"worker": number})
            self._metrics.count_worker_exit("crash")
            asyncio.get_running_loop().call_later(delay, self._try_again, number)

    def _try_again(self, number: int) -> None:
        if not self._stopping:
            self._start_worker(number)
