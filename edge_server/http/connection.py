"""One connection of a client: HTTP/1.1 framing by httptools, requests answered in their order, hostile ones cut off."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.head import check_head, too_large_body, too_large_head
from edge_server.http.messages import Headers, Reply, Request, Response, message
from edge_server.http.wire import format_response, split_target

if TYPE_CHECKING:
    from edge_server.http.server import Connections

# Requests that a client may send before the first one is answered.
_PIPELINED = 64
# Who sends a body at this rate, or takes an answer at the other, is never cut off for its length.
_BYTES_PER_SECOND = 64 * 1024
_LEAST_BYTES_PER_SECOND = 4 * 1024
# After a refusal: for how long what still comes is dropped, since the last byte and altogether.
_LINGER_SECONDS = 2.0
_LONGEST_LINGER_SECONDS = 30.0
# Bytes at once of a client that is still sending a body, and does not only keep the connection alive.
_BRISK = 4096
# A request that is refused by its head is still read when its body is no longer, and the connection stays.
_READ_IN_VAIN = 64 * 1024
# One piece of memory for what all connections receive: each feeds its parser before the next one reads.
_BUFFER = memoryview(bytearray(256 * 1024))
_NEVER = float("inf")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)


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
        # The request that is being received: its head, then its body, and what refuses it by its head.
        self._begun = False
        self._number = 0
        self._request: Request | None = None
        self._early: Response | None = None
        self._reset()
        # Those that are whole: the one at work, whether the connection may stay after it, and those that wait.
        self._current: Request | None = None
        self._reply: Reply | None = None
        self._keep = True
        self._waiting: deque[tuple[Request, bool, Response | None]] = deque()
        self._held = 0  # bytes of bodies
        self._reading = True  # else what still comes is dropped
        self._paused = False  # reading, until those that wait are answered
        self._refusal: Response | None = None  # is written when all before it are answered, and is the last answer
        self._last = False  # close when all are answered
        self._lingering = 0.0  # until when, once the last answer is written
        self._stalled = False  # the client does not take what was written, of which so much was left:
        self._unsent = 0
        self._pumping = False
        self.deadline = time.perf_counter() + limits.idle_seconds

    def _reset(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._head_done = False
        self._body: bytes | bytearray = b""
        self._overhead = 0
        self._started = 0.0
        self._length = 0
        self._expects = False

    @property
    def quiet(self) -> bool:
        """Whether no request is under way; an answer may still be."""
        return self._current is None and not self._begun and not self._waiting

    @property
    def evictable(self) -> bool:
        """Whether the connection only waits for a next request."""
        return self.quiet and self._reading and not self._transport.get_write_buffer_size()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or turn it away where there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        if not self._connections.admit(self):
            self._stop(message(503, "too many connections; try again later", [(b"retry-after", b"1")]))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell what is at work that nobody waits any more."""
        self._reading = False
        self._reset()
        self._request = None
        self._waiting.clear()
        current, self._current = self._current, None
        if self._reply is not None:
            self._reply.abandoned = True
        if current is not None:
            self._app.left(current)
        self._release(self._held)
        self._connections.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return _BUFFER

    def buffer_updated(self, size: int) -> None:
        """Feed the parser with what came; what it cannot read is answered, and the connection closed."""
        if not self._reading:
            if self._lingering and size >= _BRISK:
                self.deadline = min(time.perf_counter() + _LINGER_SECONDS, self._lingering)
            return
        number = self._number if self._begun else 0
        held = self._held
        try:
            self._parser.feed_data(_BUFFER[:size])
        except httptools.HttpParserUpgrade:
            # We speak nothing else: the request is answered as if it had not asked, and is the last one.
            self._stop(self._refusal)
        except httptools.HttpParserCallbackError:
            _log.exception("a connection failed")
            self.abort()
        except httptools.HttpParserError as error:
            self._stop(self._refusal or message(400, f"this is not HTTP/1.1: {error}"[:200]))
        if number == self._number and self._begun:
            # What is no body: a head that goes on, sizes of chunks, trailers.
            self._overhead += size - max(0, self._held - held)
            if self._overhead > 2 * self._limits.header_bytes + 8 * len(self._body):
                self._refusal = self._refusal or too_large_head(self._limits)
        if self._refusal is not None and self._reading:
            self._stop(self._refusal)

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for answers, but who has closed altogether looks the same."""
        if self._transport.get_extra_info("ssl_object") is not None:
            return False
        if self._begun and self._reading:
            self._stop(message(400, "the request ended before it was whole"))
            return True
        if self._lingering or self.quiet:
            return False
        if self._reply is not None:
            # What has not begun to run need not begin; who only closed one side gets what is there by then.
            self._reply.abandoned = True
            self.deadline = time.perf_counter() + self._limits.idle_seconds
        self._stop(None)
        return True

    def pause_writing(self) -> None:
        """The client takes its answer slowly."""
        self._stalled = True
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = time.perf_counter() + self._limits.request_seconds

    def resume_writing(self) -> None:
        """The client goes on taking."""
        self._stalled = False
        if self._current is None:
            self._wait()
            self._next()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._refusal is None:
            self._reset()
            self._begun = True
            self._number += 1
            if self._current is None and not self._stalled:
                self._wait()

    def on_url(self, part: bytes) -> None:
        """A part of the request's target."""
        if self._refusal is None:
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
            version, upgrade = self._parser.get_http_version(), self._parser.should_upgrade()
            head = check_head(self._target, self._headers, version, upgrade, self._limits)
            if isinstance(head, Response):
                if head.status == 413:
                    self._begin()  # a request all the same, with ids and a route, and perhaps another fault
                    head = self._early or head
                self._refusal = head
            else:
                self._length, self._expects = head
                self._begin()

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self._refusal is not None:
            return
        size = len(self._body) + len(part)
        if size > self._limits.body_bytes:
            self._refusal = too_large_body(self._limits)
        elif self._early is not None and size > _READ_IN_VAIN:
            self._refusal = self._early
        elif not self._connections.hold(len(part)):
            self._refusal = message(503, "too many bodies are under way; try again later", [(b"retry-after", b"1")])
        else:
            self._held += len(part)
            if not self._body:
                self._body = part
                return
            # Grown in one piece: many small parts would stay with the allocator when the request is over.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
            if self._current is None and not self._stalled:
                self.deadline = self._started + self._limits.request_seconds + size / _BYTES_PER_SECOND

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._begun = False
        if self._refusal is not None:
            return  # it is answered by that, with its ids
        request, self._request = self._request, None
        if request is None:
            return
        body, self._body = self._body, b""
        request.body = body if type(body) is bytes else bytes(body)
        keep = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if self._current is None and not self._waiting and not self._stalled and not self._pumping:
            self._handle(request, keep, self._early)
        elif len(self._waiting) < _PIPELINED:
            self._waiting.append((request, keep, self._early))
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._request = request
            self._refusal = message(400, f"more than {_PIPELINED} requests were sent ahead of their answers")

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
        if request.body:
            self._release(len(request.body))
        keep = self._keep and not response.close and not self._connections.draining
        try:
            lines = self._app.finish(request, response)
            data = format_response(response, lines, keep=keep, head=request.method == "HEAD")
        except Exception:  # noqa: BLE001 - one connection's end, and not its neighbours'
            _log.exception("an answer could not be written")
            self.abort()
            return
        self._wait()
        self._transport.write(data)
        if not keep:
            unread = self._begun or self._waiting or self._refusal is not None
            self._waiting.clear()
            self._reading = False
            self._linger() if unread else self._transport.close()
        elif self._waiting or self._paused or not self._reading:
            self._next()

    def _next(self) -> None:
        """Answer what waits, one after the other; then what was put off until all are answered."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._waiting and self._current is None and not self._stalled and not self._transport.is_closing():
                self._handle(*self._waiting.popleft())
        finally:
            self._pumping = False
        if self._current is not None or self._waiting or self._lingering or self._transport.is_closing():
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._last:
            self._transport.close()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _stop(self, refusal: Response | None) -> None:
        """Read no more; when all that came before is answered, write the refusal, if there is one, and close."""
        self._reading = False
        self._refusal = refusal
        self._last = True
        self._next()

    def _refuse(self, response: Response) -> None:
        head = False
        if self._request is not None:
            lines = self._app.finish(self._request, response)
            head = self._request.method == "HEAD"
        else:
            lines = b""
            self._app.refused(response, self._target.decode("ascii", "replace"))
        self._transport.write(format_response(response, lines, keep=False, head=head))
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and drop for a moment what still comes.

        Closing with unread bytes would reset the connection, and the client would never see the answer.
        """
        now = time.perf_counter()
        self._lingering = now + _LONGEST_LINGER_SECONDS
        self.deadline = now + _LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()
            if self._paused:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def _wait(self) -> None:
        """Set the deadline of what the client does next: send the rest of a request, or another one."""
        limits = self._limits
        self.deadline = time.perf_counter() + (limits.request_seconds if self._begun else limits.idle_seconds)

    def _release(self, size: int) -> None:
        self._held -= size
        self._connections.held -= size

    def close_quiet(self) -> None:
        """Close at once where nothing is under way, else after the current answer."""
        if self.quiet and not self._lingering:
            self._reading = False
            self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    def cut(self) -> None:
        """The deadline has passed."""
        if self._stalled:
            left = self._transport.get_write_buffer_size()
            if self._unsent - left < self._limits.request_seconds * _LEAST_BYTES_PER_SECOND:
                self.abort()
            self._unsent = left
            self.deadline = time.perf_counter() + self._limits.request_seconds
        elif self._lingering or not self._reading:
            self.abort()
        elif self._begun:
            self._stop(message(408, f"the request was not whole within {self._limits.request_seconds:g} seconds"))
        else:
            self.close_quiet()
