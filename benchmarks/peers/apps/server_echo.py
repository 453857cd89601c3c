"""Our server with all that it does for each request, and a route that answers the body: ``server_echo.py PORT``."""

import asyncio
import sys

from echo import listen

from edge_server.app import ScoringApp
from edge_server.config.values import Cors as CorsConfig
from edge_server.config.values import Limits, Logging
from edge_server.http.cors import Cors
from edge_server.http.messages import Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.http.server import HttpServer
from edge_server.telemetry import logs
from edge_server.telemetry.lines import LineWriter
from edge_server.telemetry.metrics import Metrics
from edge_server.telemetry.request_log import RequestLog


def echo(request: Request) -> Response:
    return Response(200, request.body, exec_ms=0.0)


async def serve(port: int) -> None:
    app = ScoringApp(
        Routes({"/": Route("/", {"GET": echo}), "/score": Route("/score", {"POST": echo}, scores=True)}),
        metrics=Metrics(),
        request_log=RequestLog(Logging(), LineWriter(2, logs.dropped)),
        guard=None,
        cors=Cors(CorsConfig()),
    )
    await HttpServer(app, Limits()).start(listen(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
