"""Our server with all that it does for each request, and a route that answers the body: ``server_echo.py PORT``."""

import asyncio
import sys

from echo import listen

from scoring import logs
from scoring.app import ScoringApp
from scoring.config import Cors as CorsConfig
from scoring.config import Limits, Logging
from scoring.http.cors import Cors
from scoring.http.messages import Request, Response
from scoring.http.routing import Route, Routes
from scoring.http.server import HttpServer
from scoring.telemetry.lines import LineWriter
from scoring.telemetry.metrics import Metrics
from scoring.telemetry.request_log import RequestLog


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
