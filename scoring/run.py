"""Puts a service together and runs it: the one place that knows all the parts."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable

from scoring.app import ScoringApp
from scoring.config import ServiceConfig
from scoring.errors import ScoringError
from scoring.http.cors import Cors
from scoring.http.messages import HTML, Request, Response
from scoring.http.routing import Route, Routes
from scoring.http.server import HttpServer
from scoring.http.tls import TlsContext
from scoring.openapi import routes as openapi_routes
from scoring.security.guard import Guard
from scoring.service import Service
from scoring.telemetry.metrics import Metrics
from scoring.telemetry.request_log import RequestLog
from scoring.v2 import routes as v2_routes

_log = logging.getLogger("scoring")


def run(config: ServiceConfig, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; ScoringError when the service cannot come up."""
    asyncio.run(_run(config, listener))


async def _run(config: ServiceConfig, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    service = _service(config, metrics)
    stopped = loop.create_task(stop.wait())
    starting = loop.create_task(service.start())
    await asyncio.wait((stopped, starting), return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            await _serve(config, listener, service, metrics, stop)
        else:
            starting.cancel()
    finally:
        stopped.cancel()
        await service.stop()
    _log.info("stopped")


async def _serve(
    config: ServiceConfig, listener: socket.socket, service: Service, metrics: Metrics, stop: asyncio.Event
) -> None:
    def is_ready() -> bool:
        return service.ready() and not stop.is_set()

    tls = TlsContext(config.tls) if config.tls is not None else None
    app = ScoringApp(
        _routes(config, service, metrics, is_ready),
        metrics=metrics,
        request_log=RequestLog(config.logging),
        guard=None if config.auth.mode == "none" else Guard(config.auth),
        cors=Cors(config.cors),
        prefix=config.identity.path_prefix,
    )
    server = HttpServer(app, config.limits, None if tls is None else tls.context)
    metrics.gauge("edgepack_connections", "Open connections.", lambda: float(len(server.connections)))
    try:
        await server.start(listener)
    except OSError as error:
        raise ScoringError(f"cannot listen on port {config.port}: {error.strerror}; choose another") from None
    host, port = listener.getsockname()[:2]
    _log.info("ready", extra={"host": host, "port": port, **service.facts()})
    await stop.wait()
    # Readiness is down from here on; who balances the load between several services sees it and sends no more.
    if config.limits.drain_seconds:
        await asyncio.sleep(config.limits.drain_seconds)
    if not await server.drain():
        _log.warning("requests were cut off", extra={"grace_seconds": config.limits.grace_seconds})


def _service(config: ServiceConfig, metrics: Metrics) -> Service:
    if config.script is not None:
        from scoring.scripts.service import ScriptService

        return ScriptService(config, metrics)
    from scoring.models.service import ModelService

    return ModelService(config, metrics)


def _routes(config: ServiceConfig, service: Service, metrics: Metrics, is_ready: Callable[[], bool]) -> Routes:
    def health(request: Request) -> Response:
        return Response(200, b"Healthy", HTML)

    def show_metrics(request: Request) -> Response:
        return Response(200, metrics.render(), b"text/plain; version=0.0.4; charset=utf-8")

    own = {
        "/": Route("/", {"GET": health}, guarded=False),
        "/score": Route("/score", dict.fromkeys(service.methods, service.score), cors=True),
    }
    if config.metrics:
        own["/metrics"] = Route("/metrics", {"GET": show_metrics})
    return Routes(own) | openapi_routes(service, config) | v2_routes(service, config, is_ready)
