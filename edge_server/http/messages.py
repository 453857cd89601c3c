"""Requests, responses and the handlers between them: values, independent of sockets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from edge_server.errors import BadRequest
from edge_server.http.streams import BodyStream
from edge_server.http.tracing import Trace

JSON = b"application/json"
HTML = b"text/html; charset=utf-8"

# Names in lower case, in the order in which they came; a name may come more than once.
Headers = list[tuple[bytes, bytes]]


class Request:
    """One request whose body is complete.

    ``path`` is percent-decoded and has no query; ``query`` is what follows the ``?``, as it came. ``request_id``
    identifies it in logs and answers, ``client_request_id`` and ``ms_request_id`` are those that the client sent, each
    replacing the other where only one was sent ("" for none), ``trace_id`` is its ``TraceId`` header. ``started`` is
    ``time.perf_counter()`` when its head was complete. ``route`` is the route of its path (None where there is none),
    ``handler`` answers it. ``client`` is the peer's address. ``trace`` is the trace that it is part of, where spans are
    exported. ``content_type`` is the header. ``is_old`` is set, to True, only for HTTP/1.0.
    """

    __slots__ = (
        "body", "client", "client_request_id", "content_type", "handler", "headers", "is_old", "method",
        "ms_request_id", "path", "query", "request_id", "route", "started", "target", "trace", "trace_id",
    )  # fmt: skip

    is_old: bool

    def __init__(
        self, method: str, target: str, path: str, query: str, headers: Headers, body: bytes, client: str = ""
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.client = client
        self.content_type: bytes | None = None
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
                break
        self.request_id = ""
        self.client_request_id = ""
        self.ms_request_id = ""
        self.trace_id = ""
        self.route: Route | None = None
        self.handler: Handler = _unanswered
        self.started = 0.0
        self.trace: Trace | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name, or None."""
        for found, value in self.headers:
            if found == name:
                return value
        return None


def _unanswered(request: Request) -> NoReturn:
    raise BadRequest(f"nothing answers {request.method} here", 405)


class Response:
    """One answer. ``headers`` come beside content-type and content-length, which the connection writes.

    ``content_type`` None leaves that header out. ``failed`` says that the user's run function failed
    (``x-ms-run-function-failed``), ``exec_ms`` how long it or the model ran; None for an answer that ran nothing, which
    gets neither header. ``problem`` is the sentence of an answer that refuses, for protocols that write it in a shape
    of their own. ``stream`` gives the body piece by piece; ``body`` is empty then.
    """

    __slots__ = ("body", "close", "content_type", "exec_ms", "failed", "headers", "problem", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: bytes | None = JSON,
        headers: Headers | None = None,
        *,
        failed: bool = False,
        exec_ms: float | None = None,
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.failed = failed
        self.exec_ms = exec_ms
        self.close = close
        self.problem: str | None = None
        self.stream: BodyStream | None = None


class Reply:
    """An answer that comes later, cheaper than a future; used on the event loop's thread only.

    ``abandoned`` says that the answer is no longer wanted: the client has disconnected.
    """

    __slots__ = ("_response", "_then", "abandoned")

    def __init__(self) -> None:
        self._response: Response | None = None
        self._then: Callable[[Response], None] | None = None
        self.abandoned = False

    def resolve(self, response: Response) -> None:
        """Give the answer; a second one is dropped."""
        if self._response is not None:
            return
        self._response = response
        if self._then is not None:
            self._then(response)

    def then(self, callback: Callable[[Response], None]) -> None:
        """Call ``callback`` with the answer, at once when there is one."""
        self._then = callback
        if self._response is not None:
            callback(self._response)

    @property
    def resolved(self) -> bool:
        """Whether there is an answer."""
        return self._response is not None


# A handler answers at once, with a reply that is resolved later, or as a coroutine (the most expensive of the three).
# BadRequest may be raised before, or within the coroutine.
Answer = Response | Reply | Coroutine[Any, Any, Response]
Handler = Callable[[Request], Answer]


@dataclass(frozen=True)
class Route:
    """A path's handlers, by method. HEAD is answered as GET unless it has its own.

    ``name`` is the path as metrics show it, such as ``/v2/models/{name}/infer``. ``guarded`` routes need a key or token
    where the service has them. ``cors`` routes may be called by pages of other origins. ``write_problem`` makes the
    body of an answer that refuses, where it is not the contract's ``{"message": …}``. Answers of ``scores`` routes
    always say whether the run function failed. ``unpacks`` routes get compressed bodies uncompressed.
    """

    name: str
    handlers: Mapping[str, Handler]
    guarded: bool = True
    cors: bool = False
    write_problem: Callable[[str], bytes] | None = None
    scores: bool = False
    unpacks: bool = False


def refusal(error: BadRequest) -> Response:
    """The answer for ``error``."""
    return message(error.status, error.message, list(error.headers))


def message(status: int, text: str, headers: Headers | None = None, **more: Any) -> Response:
    """A JSON answer of the contract's shape, with ``message`` and ``status_code``; ``more`` are Response's own."""
    response = Response(status, orjson.dumps({"message": text, "status_code": status}), headers=headers, **more)
    response.problem = text
    return response
