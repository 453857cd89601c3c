"""One connection of a client: HTTP/1.1 framing by httptools, requests answered in their order, hostile ones cut off."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from scoring.config import Limits
from scoring.http.messages import Headers, Reply, Request, Response, message
from scoring.http.wire import format_response, split_target

if TYPE_CHECKING:
    from scoring.http.server import Connections

# Requests that a client may send before the first one is answered.
_PIPELINED = 64
# A body that comes at this rate or faster is never cut off for its length.
_BYTES_PER_SECOND = 64 * 1024
_LINGER_SECONDS = 2.0
# A request that is refused by its head is still read when its body is no longer, and the connection stays.
_READ_IN_VAIN = 64 * 1024
# Headers that say where a request ends, and for whom it is.
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
# One piece of memory for what all connections receive: each feeds its parser before the next one reads.
_BUFFER = memoryview(bytearray(256 * 1024))
_NEVER = float("inf")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class App(Protocol):
    """What connections ask. No method raises."""

    def begin(self, request: Request) -> Response | None:
        """Look at a request whose body has not come yet: the answer that refuses it, or None."""

    def handle(self, request: Request) -> Response | Reply:
        """Answer a request that `begin` let through, now or later."""

    def finish(self, request: Request, response: Response) -> bytes:
        """Called once for each answer just before it is written; returns further header lines, each with its CRLF."""

    def refused(self, response: Response, target: str) -> None:
        """Bytes that are no request get `response`; `target` is the target that they named, or ""."""


class Connection(asyncio.BufferedProtocol):
    """Reads requests, gives them to the app one at a time, writes the answers.

    `deadline` is when the server's sweep cuts the connection off: a client that is silent between requests, sends
    one too slowly, or does not take its answer. It is `inf` while the app is at work.
    """

    def __init__(self, app: App, limits: Limits, connections: Connections) -> None:
        self._app = app
        self._limits = limits
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._client = ""
        self._request: Request | None = None  # whose head is whole and whose body is not
        self._early: Response | None = None  # what refuses it
        self._waiting: deque[tuple[Request, bool, Response | None]] = deque()
        self._current: Request | None = None
        self._keep = True
        self._reply: Reply | None = None
        self._ended = False  # nothing more is read from this client
        self._stalled = False  # it does not take what was written
        self._pumping = False
        self._refusal: Response | None = None  # once it is there, whatever still comes is not looked at
        self.deadline = time.perf_counter() + limits.idle_seconds
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._head_done = False
        self._begun = False
        self._body: bytes | bytearray = b""
        self._started = 0.0
        self._length = 0
        self._expects = False
        self._request = self._early = None

    @property
    def idle(self) -> bool:
        """Whether the connection only waits for a next request."""
        return self._current is None and not self._begun and not self._waiting

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or turn it away where there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        if not self._connections.admit(self):
            self._refuse(message(503, "too many connections; try again later", [(b"retry-after", b"1")]))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell what is at work that nobody waits any more."""
        self._ended = True
        self._body = b""
        self._request = None
        self._waiting.clear()
        if self._reply is not None:
            self._reply.abandoned = True
        self._connections.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return _BUFFER

    def buffer_updated(self, size: int) -> None:
        """Feed the parser with what came."""
        self._feed(_BUFFER[:size])

    def _feed(self, data: memoryview) -> None:
        """What the parser cannot read is answered, and the connection closed."""
        if self._ended:
            return
        if not self._begun and self._current is None:
            self.deadline = time.perf_counter() + self._limits.request_seconds
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak nothing else: the request is answered as if it had not asked, and is the last one.
            if self._refusal is None:
                self._last()
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = message(400, f"this is not HTTP/1.1: {error}"[:200])
        if not self._head_done and self._begun:
            # Counted roughly, with what came before the head; a head that is whole is measured for itself.
            self._head_bytes += len(data)
            if self._head_bytes > 2 * self._limits.header_bytes and self._refusal is None:
                self._refusal = self._too_large_head()
        if self._refusal is not None and not self._ended:
            self._refuse(self._refusal)

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for answers."""
        if self._begun and not self._ended:
            self._refuse(message(400, "the request ended before it was whole"))
        elif self.idle:
            return False
        self._last()
        return True

    def pause_writing(self) -> None:
        """The client takes its answer slowly."""
        self._stalled = True
        self.deadline = time.perf_counter() + self._limits.request_seconds

    def resume_writing(self) -> None:
        """The client goes on taking."""
        self._stalled = False
        if self._current is None:
            self._pump()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._refusal is None:
            self._reset()
            self._begun = True

    def on_url(self, part: bytes) -> None:
        """A part of the request's target."""
        self._target = self._target + part if self._target else part

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer after a body in chunks, which is dropped."""
        if not self._head_done and self._refusal is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse early what can be refused before its body."""
        if self._refusal is None:
            self._head_done = True
            self._started = time.perf_counter()
            self._refusal = self._check_head()
            if self._refusal is None:
                self._begin()

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self._refusal is not None:
            return
        size = len(self._body) + len(part)
        if size > self._limits.body_bytes:
            self._refusal = self._too_large_body()
            return
        if self._early is not None and size > _READ_IN_VAIN:
            self._refusal = self._early
            return
        if not self._body:
            self._body = part
            return
        # Grown in one piece: many small parts would stay with the allocator when the request is over.
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += part
        self.deadline = self._started + self._limits.request_seconds + size / _BYTES_PER_SECOND

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._begun = False
        if self._refusal is not None or self._ended:
            return
        if len(self._waiting) >= _PIPELINED:
            self._refusal = message(400, f"more than {_PIPELINED} requests were sent ahead of their answers")
            return
        request = self._request
        if request is None:
            return
        self._request = None
        # Not kept here: a connection may wait long for its next request, or to be collected.
        body, self._body = self._body, b""
        request.body = body if type(body) is bytes else bytes(body)
        keep = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if self._current is None and not self._waiting and not self._stalled and not self._pumping:
            self._handle(request, keep, self._early)
        else:
            self._waiting.append((request, keep, self._early))
            if self._current is None:
                self._pump()

    # --- requests and answers ---

    def _begin(self) -> None:
        """Show the app the head: what it refuses need not send a long body first."""
        method = self._parser.get_method().decode("ascii")
        target = self._target.decode("ascii")
        path, query = split_target(target)
        request = self._request = Request(method, target, path, query, self._headers, b"", self._client)
        request.started = self._started
        early = self._early = self._app.begin(request)
        if early is not None and (self._length > _READ_IN_VAIN or self._expects):
            self._refusal = early
        elif self._expects and self._current is None and not self._waiting:
            self._transport.write(_CONTINUE)

    def _pump(self) -> None:
        """Answer what waits, one after the other, until an answer has to be waited for."""
        if self._pumping:
            return
        self._pumping = True
        while self._waiting and self._current is None and not self._stalled:
            self._handle(*self._waiting.popleft())
        self._pumping = False

    def _handle(self, request: Request, keep: bool, early: Response | None) -> None:
        self._current = request
        self._keep = keep
        self.deadline = _NEVER
        answer = early or self._app.handle(request)
        if type(answer) is Response:
            self._answer(answer)
        elif isinstance(answer, Reply):
            self._reply = answer
            answer.then(self._answer)

    def _answer(self, response: Response) -> None:
        request = self._current
        self._current = self._reply = None
        if request is None or self._transport.is_closing():
            return
        lines = self._app.finish(request, response)
        keep = self._keep and not response.close and not self._connections.draining
        if not self._waiting and not keep:
            self._ended = True
        data = format_response(response, lines, keep=keep, head=request.method == "HEAD")
        self.deadline = time.perf_counter() + self._limits.idle_seconds
        self._transport.write(data)
        if not keep:
            self._linger() if self._begun else self._transport.close()
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._waiting:
            self._pump()

    def _last(self) -> None:
        """Read no more; close when all that came before has been answered."""
        self._ended = True
        if self._waiting:
            request, _, early = self._waiting.pop()
            self._waiting.append((request, False, early))
        elif self._current is not None:
            self._keep = False
        elif not self._transport.is_closing():
            self._transport.close()

    def _refuse(self, response: Response) -> None:
        """Answer what is no request, after what was one, and close."""
        self._refusal = response
        if self._current is not None or self._waiting:
            return  # _answer comes back here
        self._ended = True
        if response is self._early and self._request is not None:
            lines = self._app.finish(self._request, response)
        else:
            lines = b""
            self._app.refused(response, self._target.decode("ascii", "replace"))
        self._transport.write(format_response(response, lines, keep=False, head=False))
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and drop for a moment what still comes.

        Closing with unread bytes would reset the connection, and the client would never see the answer.
        """
        self._ended = True
        if self._transport.can_write_eof():
            self.deadline = time.perf_counter() + _LINGER_SECONDS
            self._transport.write_eof()
        else:
            self._transport.close()

    def close_idle(self) -> None:
        """Close at once where nothing is under way, else after the current answer."""
        if self.idle:
            self._ended = True
            self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    def cut(self) -> None:
        """The deadline has passed."""
        if self._begun and not self._ended and not self._stalled:
            late = message(408, f"the request was not whole within {self._limits.request_seconds:g} seconds")
            self._refuse(late)
        elif self._ended or self._stalled:
            self._transport.abort()
        else:
            self._ended = True
            self._transport.close()

    # --- checks of the head ---

    def _check_head(self) -> Response | None:
        hosts = length = 0
        size = len(self._target)
        expects: bytes | None = None
        chunked = False
        for name, value in self._headers:
            size += len(name) + len(value) + 4
            if name not in _FRAMING:
                continue
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
                if value.strip().lower() != b"chunked":
                    return message(400, "the only transfer-encoding that is understood is chunked")
            else:
                expects = value.strip().lower()
        if size > self._limits.header_bytes:
            return self._too_large_head()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            return message(400, "only HTTP/1.1 is spoken here")
        if chunked and version == "1.0":
            return message(400, "HTTP/1.0 has no transfer-encoding")
        if hosts != 1 and (version == "1.1" or hosts > 1):
            return message(400, "a request must have exactly one Host header")
        if not self._target.isascii():
            return message(400, "the request's target is not ASCII")
        if length > self._limits.body_bytes:
            return self._too_large_body()
        if (length or chunked) and self._parser.should_upgrade():
            # The parser takes the body for the other protocol's bytes.
            return message(400, "nothing but HTTP/1.1 is spoken here; leave the Upgrade header out")
        if expects not in (None, b"100-continue"):
            return message(417, "the only expectation that is understood is 100-continue")
        self._length, self._expects = length, expects is not None
        return None

    def _too_large_body(self) -> Response:
        return message(413, f"the body is larger than {self._limits.body_bytes} bytes")

    def _too_large_head(self) -> Response:
        return message(431, f"the request's head is larger than {self._limits.header_bytes} bytes")
