"""What happens to every request: route, authentication, ids, the answer's common headers, metrics and log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from edge_server import __version__
from edge_server.config.values import Cors as CorsConfig
from edge_server.config.values import Limits
from edge_server.errors import BadRequest
from edge_server.http.cors import Cors
from edge_server.http.messages import Handler, Headers, Reply, Request, Response, Route, message, refusal
from edge_server.http.request_ids import LONGEST, RequestIds
from edge_server.http.routing import Routes
from edge_server.http.unpacking import Unpacker
from edge_server.security.guard import Guard
from edge_server.telemetry.metrics import Metrics
from edge_server.telemetry.request_log import RequestLog
from edge_server.telemetry.spans import Spans

_log = logging.getLogger(__name__)

_SERVER_VERSION = f"x-ms-server-version: edgepack/{__version__}\r\n"
# Headers with a request's ids; `TraceId` is returned as it was sent.
_IDS = frozenset({b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id", b"traceid"})
# Headers that are looked for in every request.
_NOTED = _IDS | {b"content-encoding"}
# Headers of an answer that only the server sets.
_OURS = _IDS | {b"x-ms-run-fn-exec-ms", b"x-ms-run-function-failed", b"x-ms-server-version"}
_NO_CORS = Cors(CorsConfig())
_LIMITS = Limits()
_UNEXPECTED = "an unexpected error occurred; the server's log has more"


class ScoringApp:
    """Answers requests by ``routes``; the connections' ``App``. Used on the event loop's thread.

    ``prefix`` is a path that may precede every route's. Without a ``guard`` no key is needed, without ``spans`` no
    traces are exported. ``limits`` bound what compressed bodies unpack to.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        metrics: Metrics,
        request_log: RequestLog,
        guard: Guard | None,
        cors: Cors,
        spans: Spans | None = None,
        prefix: str = "",
        limits: Limits = _LIMITS,
    ) -> None:
        self._routes = routes
        self._metrics = metrics
        self._request_log = request_log
        self._guard = guard
        self._cors = cors
        self._spans = spans
        self._prefix = prefix.rstrip("/")
        self._unpacker = Unpacker(limits)
        self._ids = RequestIds()
        # Answers of one run have the same time, so its header line is made once.
        self._exec_ms: float | None = None
        self._exec_line = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, request: Request) -> Response | None:
        """Find the request's route, check its ids and key; return the answer that refuses it, or None. Never raises."""
        path = request.path
        if self._prefix and path.startswith(self._prefix + "/"):
            path = request.path = path[len(self._prefix) :]
        route = self._routes.find(path)
        if route is None:
            return message(404, f"there is nothing at {path[:200]}")
        request.route = route
        method = request.method
        handler = route.handlers.get(method)
        if handler is None or method == "OPTIONS":
            handler = self._other(route, method)
            if handler is None:
                allowed = _allowed(route)
                return message(405, f"{path[:200]} takes {allowed}, not {method}", [(b"allow", allowed.encode())])
        request.handler = handler
        try:
            self._identify(request)
            if self._spans is not None:
                self._spans.begin(request)
            # Browsers send no key with a preflight request.
            if self._guard is not None and route.guarded and method != "OPTIONS":
                self._authorize(self._guard, request)
        except BadRequest as error:
            return refusal(error)
        # The outermost edge: a failure of ours is answered and logged, and the server goes on.
        except Exception:  # noqa: BLE001
            return self._unexpected(request)
        return None

    def handle(self, request: Request) -> Response | Reply:
        """Answer a request that ``begin`` let through, now or later; never raises."""
        try:
            answer = request.handler(request)
        except BadRequest as error:
            return refusal(error)
        except Exception:  # noqa: BLE001
            return self._unexpected(request)
        if isinstance(answer, (Response, Reply)):
            return answer
        reply = Reply()
        task = asyncio.get_running_loop().create_task(self._await(answer, request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return reply

    def finish(self, request: Request, response: Response) -> bytes:
        """Count and log an answer; return its common header lines."""
        route = request.route
        lines = b""
        if route is None:
            name = ""
        else:
            name = route.name
            if route.cors and self._cors.active:
                response.headers = [*(response.headers or ()), *self._cors.headers(request, response.headers)]
            if response.problem is not None and route.write_problem is not None:
                response.body = route.write_problem(response.problem)
            if request.request_id:
                if response.headers:
                    response.headers = _others(request, response.headers)
                lines = self._common_lines(request, response, route)
        seconds = time.perf_counter() - request.started
        self._metrics.observe_request(name, request.method, response.status, seconds)
        if response.status >= self._request_log.least:
            self._request_log.log(request, response, seconds)
        if self._spans is not None:
            self._spans.end(request, response)
        return lines

    def left(self, request: Request) -> None:
        """Count and log a request whose client went away before its answer, as status 499."""
        self.finish(request, Response(499, b""))

    def refused(self, response: Response, target: str) -> None:
        """Count the answer to bytes that are not a request, and write it in the form of the route that they name."""
        route = self._routes.find(target)
        if route is not None and route.write_problem is not None and response.problem is not None:
            response.body = route.write_problem(response.problem)
        self._metrics.count_rejection("bad_http")
        _log.debug(
            "a client sent something that is not a request",
            extra={"status": response.status, "reason": response.problem},
        )

    def _other(self, route: Route, method: str) -> Handler | None:
        """The handler of a method for which the route has none, or which CORS answers."""
        if method == "HEAD" and not route.scores:
            return route.handlers.get("GET")
        if method != "OPTIONS":
            return None
        own = route.handlers.get("OPTIONS")
        cors = self._cors if route.cors else _NO_CORS
        if own is not None and not cors.active:
            return own
        return lambda request: cors.preflight(request, _allowed(route).split(", "))

    def _identify(self, request: Request) -> None:
        """Give the request its ids, the client's where it sent some; BadRequest 431 for one that is too long.

        As in the specification's server, ``x-request-id`` is the request's own, and Azure's two replace each other.
        """
        own = ms = client = b""
        for name, value in request.headers:
            if name not in _NOTED:
                continue
            if name == b"x-request-id":
                own = value
            elif name == b"x-ms-request-id":
                ms = value
            elif name == b"x-ms-client-request-id":
                client = value
            elif name == b"traceid":
                request.trace_id = value.decode("latin-1")
            elif request.route is not None and request.route.unpacks:
                request.handler = self._unpacker.before(request.handler, value)
        if len(own) > LONGEST:
            raise BadRequest(f"x-request-id must not exceed {LONGEST} characters", 431)
        request.request_id = own.decode("latin-1") or self._ids.make()
        if len(ms) > LONGEST or len(client) > LONGEST:
            raise BadRequest(f"x-ms-request-id and x-ms-client-request-id must not exceed {LONGEST} characters", 431)
        if ms or client:
            request.client_request_id = (client or ms).decode("latin-1")
            request.ms_request_id = (ms or client).decode("latin-1")

    def _authorize(self, guard: Guard, request: Request) -> None:
        try:
            guard.check(request)
        except BadRequest as error:
            self._metrics.count_rejection("forbidden" if error.status == 403 else "unauthorized")
            raise

    async def _await(self, answer: Coroutine[Any, Any, Response], request: Request, reply: Reply) -> None:
        try:
            response = await answer
        except BadRequest as error:
            response = refusal(error)
        except Exception:  # noqa: BLE001
            response = self._unexpected(request)
        reply.resolve(response)

    def _common_lines(self, request: Request, response: Response, route: Route) -> bytes:
        own = request.request_id
        lines = f"x-request-id: {own}\r\nx-ms-request-id: {request.ms_request_id or own}\r\n{_SERVER_VERSION}"
        exec_ms = response.exec_ms
        if exec_ms is not None:
            if exec_ms is not self._exec_ms:
                self._exec_ms = exec_ms
                self._exec_line = f"x-ms-run-fn-exec-ms: {exec_ms:.3f}\r\n"
            lines += f"x-ms-run-function-failed: {response.failed}\r\n{self._exec_line}"
        else:
            if response.status == 431:  # a client's id that is too long is not replaced by another
                lines = f"x-request-id: {own}\r\n{_SERVER_VERSION}"
            if route.scores:
                lines += f"x-ms-run-function-failed: {response.failed}\r\n"
        if request.client_request_id:
            lines += f"x-ms-client-request-id: {request.client_request_id}\r\n"
        if request.trace_id:
            lines += f"traceid: {request.trace_id}\r\n"
        return lines.encode("latin-1")

    def _unexpected(self, request: Request) -> Response:
        _log.exception("a request failed", extra={"path": request.path, "request_id": request.request_id})
        return message(500, _UNEXPECTED)


def _allowed(route: Route) -> str:
    head = ("HEAD",) if "GET" in route.handlers and not route.scores else ()
    return ", ".join(sorted({*route.handlers, *head, "OPTIONS"}))


def _others(request: Request, headers: Headers) -> Headers:
    """Headers without those that the server sets; a script may set the client's id where the client sent none."""
    ours = _OURS if request.client_request_id else _OURS - {b"x-ms-client-request-id"}
    return [header for header in headers if header[0].lower() not in ours]
