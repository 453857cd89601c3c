"""Puts a service together and runs it; the only module that imports all parts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from edge_server import __version__
from edge_server.app import ScoringApp
from edge_server.config.values import ServiceConfig
from edge_server.errors import cannot_listen
from edge_server.http.cors import Cors
from edge_server.http.messages import HTML, Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.http.server import HttpServer
from edge_server.http.tls import TlsContext
from edge_server.listening import Listeners
from edge_server.openapi.routes import routes as openapi_routes
from edge_server.security.guard import Guard
from edge_server.service import Service
from edge_server.telemetry.metrics import Metrics
from edge_server.telemetry.request_log import RequestLog
from edge_server.telemetry.spans import open_spans
from edge_server.v1.routes import routes as v1_routes
from edge_server.v2.routes import routes as v2_routes

if TYPE_CHECKING:
    from edge_server.processes import ProcessContext
    from edge_server.telemetry.lines import LineWriter

_log = logging.getLogger("edge_server")


def run(config: ServiceConfig, listeners: Listeners, writer: LineWriter, process: ProcessContext | None) -> None:
    """Serve until SIGTERM or SIGINT; ScoringError when the service cannot start.

    ``process`` is this process's among several that share the port, None for the only one.
    """
    asyncio.run(_run(config, listeners, writer, process))


async def _run(config: ServiceConfig, listeners: Listeners, writer: LineWriter, process: ProcessContext | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_stop_signal(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the process is ending
            loop.call_soon_threadsafe(stop.set)

    # Not by the loop's own handlers, which it removes when it closes.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_stop_signal)
    info = {"version": __version__}
    metrics = Metrics(info=info) if process is None else Metrics(process.memory, process.number, info)
    service = _service(config, metrics, process)
    # Before what may take long, so that an unusable key or certificate is reported at once.
    parts = _Parts(config, service, metrics, writer)
    stopped = loop.create_task(stop.wait())
    starting = loop.create_task(service.start())
    await asyncio.wait((stopped, starting), return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            await parts.serve(listeners, stop, _log_ready if process is None else process.announce)
        else:
            starting.cancel()
    finally:
        stopped.cancel()
        await service.stop()
    _log.info("stopped")


class _Parts:
    """A service, and everything between it and the network. Raises ScoringError for files that cannot be used."""

    def __init__(self, config: ServiceConfig, service: Service, metrics: Metrics, writer: LineWriter) -> None:
        self._config = config
        self._service = service
        self._metrics = metrics
        self._writer = writer
        self._tls = None if config.tls is None else TlsContext(config.tls)
        self._guard = None if config.auth.mode == "none" else Guard(config.auth)
        self._cors = Cors(config.cors)
        self._draining = False

    async def serve(
        self, listeners: Listeners, stop: asyncio.Event, announce: Callable[[Mapping[str, Any]], None]
    ) -> None:
        config = self._config
        tls = self._tls
        spans = open_spans(os.environ, config.identity, "http" if tls is None else "https")
        app = ScoringApp(
            self._routes(),
            metrics=self._metrics,
            request_log=RequestLog(config.logging, self._writer),
            guard=self._guard,
            cors=self._cors,
            spans=spans,
            prefix=config.identity.path_prefix,
            limits=config.limits,
        )
        server = HttpServer(app, config.limits, None if tls is None else tls.context)
        dropped = "Log lines that were dropped because they were not read in time."
        self._metrics.gauge("edgepack_log_lines_dropped", dropped, lambda: float(self._writer.dropped))
        self._metrics.gauge("edgepack_connections", "Open connections.", lambda: float(len(server.connections)))
        try:
            await server.start(*listeners.sockets)
        except OSError as error:
            raise cannot_listen(config.host, config.port, error) from None
        if tls is not None:
            tls.start()
        host, port = listeners.first.getsockname()[:2]
        announce({"host": host, "port": port, **self._service.facts()})
        publisher = asyncio.ensure_future(self._publish())
        await stop.wait()
        self._draining = True
        publisher.cancel()
        # The service is not ready from here on: a load balancer sees that and sends no more requests.
        if config.limits.drain_seconds:
            await asyncio.sleep(config.limits.drain_seconds)
        if not await server.drain(accepted_late=listeners.inherited):
            _log.warning("requests were cut off", extra={"grace_seconds": config.limits.grace_seconds})
        if tls is not None:
            tls.stop()
        if spans is not None:
            spans.close()

    async def _publish(self) -> None:
        """Publish this process's gauges to the other processes of the port."""
        while self._config.runtime.processes > 1:
            self._metrics.publish()
            await asyncio.sleep(1)

    def _ready(self) -> bool:
        return self._service.ready() and not self._draining

    def _routes(self) -> Routes:
        service, config = self._service, self._config
        # A script that takes the raw request gets its body as it was sent.
        unpacks = "OPTIONS" not in service.methods
        score = dict.fromkeys(service.methods, service.score)
        own = {
            "/": Route("/", {"GET": _health}, guarded=False),
            "/score": Route("/score", score, cors=True, scores=True, unpacks=unpacks),
        }
        if config.metrics:
            own["/metrics"] = Route("/metrics", {"GET": self._show_metrics})
        # V2 first: prefixes are compared in this order, and its requests are to cost least.
        protocols = v2_routes(service, config, self._ready) | v1_routes(service, config, self._ready)
        return Routes(own) | openapi_routes(service, config) | protocols

    def _show_metrics(self, request: Request) -> Response:
        return Response(200, self._metrics.render(), b"text/plain; version=0.0.4; charset=utf-8")


def _health(request: Request) -> Response:
    return Response(200, b"Healthy", HTML)


def _log_ready(facts: Mapping[str, Any]) -> None:
    _log.info("ready", extra=dict(facts))


def _service(config: ServiceConfig, metrics: Metrics, process: ProcessContext | None) -> Service:
    if config.script is not None:
        from edge_server.scripts.service import ScriptService

        return ScriptService(config, metrics)
    from edge_server.models.service import ModelService

    return ModelService(config, metrics, None if process is None else process.preloaded)
