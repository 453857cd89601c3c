"""One log line for each request that the configuration asks for."""

from __future__ import annotations

import time

from edge_server.config.values import Logging
from edge_server.http.messages import Request, Response
from edge_server.http.tracing import trace_of
from edge_server.telemetry.lines import LineWriter
from edge_server.telemetry.logs import dump

# A client may send a long path.
_PATH_CHARACTERS = 200
_PROBLEM_CHARACTERS = 200


class RequestLog:
    """Writes the lines of answers whose status is at least ``least``.

    Headers, bodies and queries are never logged: they may hold keys and personal data. The message of a refusal is,
    which names where a fault is, and may name the value there.
    """

    def __init__(self, config: Logging, writer: LineWriter) -> None:
        self.least = {"all": 0, "errors": 400}.get(config.requests, 1000)
        self._writer = writer
        self._second = 0
        self._prefix = ""

    def log(self, request: Request, response: Response, seconds: float) -> None:
        """Write the line of one answered request, if its status is to be logged; ``seconds`` is the time since its
        head.
        """
        status = response.status
        if status < self.least:
            return
        line: dict[str, object] = {
            "time": self._time(),
            "level": "info" if status < 400 else "warning" if status < 500 else "error",
            "logger": "edge_server.requests",
            "message": "request",
            "method": request.method,
            "path": request.path[:_PATH_CHARACTERS],
            "status": status,
            "ms": round(seconds * 1000, 3),
            "bytes_in": len(request.body),
            "bytes_out": len(response.body),
            "client": request.client,
        }
        if request.request_id:
            line["request_id"] = request.request_id
        if response.problem is not None and status >= 400:
            line["problem"] = response.problem[:_PROBLEM_CHARACTERS]
        if request.client_request_id:
            line["client_request_id"] = request.client_request_id
        if response.exec_ms is not None:
            line["exec_ms"] = round(response.exec_ms, 3)
        trace = request.trace or trace_of(request.headers)
        if trace is not None:
            line["trace_id"] = trace.trace_id
            line["span_id"] = trace.span_id
        self._writer.write(dump(line) + b"\n")

    def _time(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}+00:00"
