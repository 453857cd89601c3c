"""An entry script behind the real ScriptService with real worker processes, without the HTTP server before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_server.config.values import Cors, Limits, ScriptConfig, ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import Reply, Request, Response, message
from edge_server.scripts.service import ScriptService
from edge_server.telemetry.metrics import Metrics
from tests.support.waiting import SECONDS

INIT = "def init():\n    pass\n\n"

# Runs the body, and gives what it names `answer`, or else the number of its process.
EVAL = """
    import ctypes, os, signal, sys, time, threading
    def init(): pass
    def run(data):
        scope = dict(globals())
        exec(data, scope)
        return scope.get("answer", os.getpid())
"""


class Counting(Metrics):
    """Metrics that remember what they were told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

    def count_rejection(self, reason: str) -> None:
        self.told.append(("rejection", reason))

    def count_timeout(self) -> None:
        self.told.append(("timeout",))

    def count_worker_exit(self, reason: str) -> None:
        self.told.append(("exit", reason))

    def observe_run(self, model: str, seconds: float, rows: int, requests: int) -> None:
        self.told.append(("run", model))


class Scripted:
    """A running service, driven from a synchronous test."""

    def __init__(self, runner: asyncio.Runner, service: ScriptService, metrics: Counting) -> None:
        self.runner = runner
        self.service = service
        self.metrics = metrics

    def send(
        self,
        body: bytes | str = b"",
        method: str = "POST",
        query: str = "",
        headers: dict[str, str] | None = None,
        request_id: str = "",
    ) -> Reply:
        """Hand in a request and return at once; on the loop's thread only."""
        data = body.encode() if isinstance(body, str) else body
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        target = f"/score?{query}" if query else "/score"
        request = Request(method, target, "/score", query, [(b"host", b"device:5001"), *pairs], data, "127.0.0.1")
        request.request_id = request_id
        try:
            return self.service.score(request)
        except BadRequest as error:
            reply = Reply()
            reply.resolve(message(error.status, error.message, list(error.headers)))
            return reply

    async def answer(self, reply: Reply, seconds: float = SECONDS) -> Response:
        """The answer, which must come in time."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        reply.then(lambda response: None if future.done() else future.set_result(response))
        return await asyncio.wait_for(future, seconds)

    def ask(self, *arguments: Any, **options: Any) -> Response:
        """Send one request and wait for its answer."""

        async def both() -> Response:
            return await self.answer(self.send(*arguments, **options))

        return self.runner.run(both())

    def post_json(self, value: Any) -> Response:
        """POST a JSON document with its content type."""
        return self.ask(json.dumps(value), headers={"content-type": "application/json"})

    def ask_all(self, bodies: list[str]) -> list[Response]:
        """Send all at once and wait for all answers."""

        async def both() -> list[Response]:
            return list(await asyncio.gather(*[self.answer(reply) for reply in [self.send(body) for body in bodies]]))

        return self.runner.run(both())

    def wait(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Let the loop run until the condition holds."""

        async def watch() -> None:
            end = time.monotonic() + seconds
            while not condition():
                assert time.monotonic() < end, "what was waited for did not happen"
                await asyncio.sleep(0.005)

        self.runner.run(watch())


def configure(folder: Path, code: str, limits: Limits | None = None, **script: Any) -> ServiceConfig:
    """The configuration of a service whose script is that code, below ``folder``."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    file = source / "score.py"
    file.write_text(textwrap.dedent(code), encoding="utf-8")
    options = ScriptConfig(file, source, **script)
    return ServiceConfig((), "127.0.0.1", 0, options, root=folder, limits=limits or Limits(), cors=Cors())


@contextlib.contextmanager
def serve(folder: Path, code: str, limits: Limits | None = None, **script: Any) -> Iterator[Scripted]:
    """Serve a script; ``script`` are options of ScriptConfig. ScriptError when it cannot start."""
    with serve_config(configure(folder, code, limits, **script)) as scripted:
        yield scripted


@contextlib.contextmanager
def serve_config(config: ServiceConfig) -> Iterator[Scripted]:
    """Serve the script of a configuration. ScriptError when it cannot start."""
    metrics = Counting()
    with asyncio.Runner() as runner:
        service = ScriptService(config, metrics)
        runner.run(service.start())
        try:
            yield Scripted(runner, service, metrics)
        finally:
            runner.run(service.stop())


def json_of(response: Response) -> Any:
    """The body as JSON."""
    return json.loads(response.body)


def failed(response: Response) -> bool:
    """Whether it is the answer of a run function that failed."""
    text = "An unexpected error occurred in scoring script. Check the logs for more info."
    return (response.status, response.failed, json_of(response)) == (500, True, {"message": text, "status_code": 500})


def pid_of(service: Scripted) -> int:
    """The only worker's process."""
    (worker,) = service.service._workers.values()
    return worker.pid
