"""One connection of a client: HTTP/1.1 framing by httptools, requests answered in their order, hostile ones cut off."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import cast

import httptools

from edge_server.config.sizes import SIZES
from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.connections import Connections
from edge_server.http.deadlines import NEVER, Linger, body_deadline
from edge_server.http.flow import FlowControl
from edge_server.http.head import check_head, too_large_body, too_large_head
from edge_server.http.messages import Headers, Reply, Request, Response, message
from edge_server.http.states import (
    BEGINS,
    BODY,
    FREE,
    HEAD,
    HEAD_IS_WHOLE,
    IDLE,
    IS_ANSWERED,
    IS_HANDED_OVER,
    IS_LOST,
    IS_REFUSED,
    IS_WHOLE,
    LAST_IS_WRITTEN,
    NO_MORE,
    OVER,
    REFUSED,
)  # fmt: skip
from edge_server.http.wire import GONE, KEPT, KEPT_SAID, Persistence, format_response, split_target

# Requests that a client may send before the first one is answered.
_PIPELINED = 64
# A request that is refused by its head is still read when its body is no longer, and the connection stays.
_READ_IN_VAIN = SIZES.read_in_vain
# One piece of memory for what all connections receive: each feeds its parser before the next one reads.
_BUFFER = memoryview(bytearray(SIZES.received))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol):
    """Reads requests, gives them to the app one at a time, writes the answers. ``states.py`` has its states.

    ``deadline`` is when the server's sweep cuts the connection off: a client that is silent between requests, sends
    one too slowly, or does not take its answer. It is ``inf`` while the app is at work.
    """

    def __init__(self, app: App, limits: Limits, connections: Connections) -> None:
        self._app = app
        self._limits = limits
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._flow: FlowControl = None  # type: ignore[assignment]
        self._client = ""
        # The request that is being received: its head, then its body, and what refuses it by its head.
        self._receiving = IDLE
        self._number = 0
        self._request: Request | None = None
        self._early: Response | None = None
        self._reset()
        # Those that are whole: the one at work, whether the connection may stay after it, and those that wait.
        self._answering = FREE
        self._current: Request | None = None
        self._reply: Reply | None = None
        self._keep = KEPT
        self._waiting: deque[tuple[Request, Persistence, Response | None]] = deque()
        self._held = 0  # bytes of bodies
        self._refusal: Response | None = None  # is written when all before it are answered, and is the last answer
        self._lingering: Linger | None = None
        self.deadline = time.perf_counter() + limits.idle_seconds

    def _reset(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._body: bytes | bytearray = b""
        self._overhead = 0
        self._started = 0.0
        self._length = 0
        self._expects = False
        self._kept = KEPT

    @property
    def quiet(self) -> bool:
        """Whether no request is under way; an answer may still be."""
        return self._answering is FREE and not self._waiting and self._receiving in (IDLE, OVER)

    @property
    def evictable(self) -> bool:
        """Whether the connection only waits for a next request."""
        return self.quiet and self._receiving is IDLE and not self._transport.get_write_buffer_size()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or turn it away where there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self._transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        if not self._connections.admit(self):
            self._stop(message(503, "too many connections; try again later", [(b"retry-after", b"1")]))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the app that the answer to the request at work is no longer wanted."""
        self._receiving = NO_MORE[self._receiving]
        self._answering = IS_LOST[self._answering]
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
        if self._receiving is OVER:
            if self._lingering is not None:
                self._lingering.note(size)
                self.deadline = self._lingering.deadline
            return
        number = 0 if self._receiving is IDLE else self._number
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
        if number == self._number and (self._receiving is BODY or self._receiving is HEAD):
            # What is no body: a head that goes on, sizes of chunks, trailers.
            self._overhead += size - max(0, self._held - held)
            if self._overhead > 2 * self._limits.header_bytes + 8 * len(self._body):
                self._refuse_rest(too_large_head(self._limits))
        if self._receiving is REFUSED:
            self._stop(self._refusal)

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for answers, or have closed altogether: the two look the same."""
        if self._transport.get_extra_info("ssl_object") is not None:
            return False
        if self._receiving in (HEAD, BODY):
            self._stop(message(400, "the request ended before it was complete"))
            return True
        if self._lingering is not None or self.quiet:
            return False
        if self._reply is not None:
            # What has not begun to run need not begin; who only closed one side gets what is there by then.
            self._reply.abandoned = True
            self.deadline = time.perf_counter() + self._limits.idle_seconds
        self._stop(self._refusal)
        return True

    def pause_writing(self) -> None:
        """The client reads its answer slowly."""
        self._flow.pause_writing()
        self.deadline = time.perf_counter() + self._limits.request_seconds

    def resume_writing(self) -> None:
        """The client reads on."""
        self._flow.resume_writing()
        if self._current is None:
            self._wait()
            self._next()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """A request begins."""
        self._receiving = BEGINS[self._receiving]
        if self._receiving is HEAD:
            self._reset()
            self._number += 1
            if self._answering is FREE and not self._flow.stalled:
                self._wait()

    def on_url(self, part: bytes) -> None:
        """A part of the request's target."""
        if self._receiving is HEAD:
            self._target = self._target + part if self._target else part

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer after a body in chunks, which is dropped."""
        if self._receiving is HEAD:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse early what can be refused before its body."""
        self._receiving = HEAD_IS_WHOLE[self._receiving]
        if self._receiving is BODY:
            self._started = time.perf_counter()
            version, upgrade = self._parser.get_http_version(), self._parser.should_upgrade()
            self._kept = KEPT_SAID if version == "1.0" else KEPT
            head = check_head(self._target, self._headers, version, upgrade, self._limits)
            if isinstance(head, Response):
                if head.status == 413:
                    self._begin()  # a request all the same, with ids and a route, and perhaps another fault
                    head = self._early or head
                self._refuse_rest(head)
            else:
                self._length, self._expects = head
                self._begin()

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self._receiving is not BODY:
            return
        size = len(self._body) + len(part)
        if size > self._limits.body_bytes:
            self._refuse_rest(too_large_body(self._limits))
        elif self._early is not None and size > _READ_IN_VAIN:
            self._refuse_rest(self._early)
        elif not self._connections.hold(len(part)):
            busy = "too many request bodies are being received; try again later"
            self._refuse_rest(message(503, busy, [(b"retry-after", b"1")]))
        else:
            self._held += len(part)
            if not self._body:
                self._body = part
                return
            # Grown in one piece: many small parts would stay with the allocator when the request is over.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
            if self._answering is FREE and not self._flow.stalled:
                self.deadline = body_deadline(self._limits, self._started, size)

    def on_message_complete(self) -> None:
        """A request is whole."""
        request = self._request
        if self._receiving is not BODY or request is None:
            self._receiving = IS_WHOLE[self._receiving]  # one that is refused is answered by that, with its ids
            return
        body, self._body = self._body, b""
        request.body = body if type(body) is bytes else bytes(body)
        keep = self._kept if self._parser.should_keep_alive() and not self._parser.should_upgrade() else GONE
        if len(self._waiting) >= _PIPELINED:
            self._refuse_rest(message(400, f"more than {_PIPELINED} requests were sent ahead of their answers"))
            return
        self._receiving = IS_WHOLE[self._receiving]
        self._request = None
        if self._answering is FREE and not self._waiting and not self._flow.stalled:
            self._handle(request, keep, self._early)
        else:
            self._waiting.append((request, keep, self._early))
            self._flow.pause_reading()

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
            self._refuse_rest(early)
        elif self._expects and self._answering is FREE and not self._waiting:
            self._transport.write(_CONTINUE)

    def _handle(self, request: Request, keep: Persistence, early: Response | None) -> None:
        self._answering = IS_HANDED_OVER[self._answering]
        self._current = request
        self._keep = keep
        self.deadline = NEVER
        answer = early or self._app.handle(request)
        if type(answer) is Response:
            self._answer(answer)
        elif isinstance(answer, Reply):
            self._reply = answer
            answer.then(self._answer_later)

    def _answer_later(self, response: Response) -> None:
        self._answer(response)
        self._next()

    def _answer(self, response: Response) -> None:
        request = self._current
        self._current = self._reply = None
        if request is None or self._transport.is_closing():
            return
        self._answering = IS_ANSWERED[self._answering]
        if request.body:
            self._release(len(request.body))
        keep = GONE if response.close or self._connections.draining else self._keep
        try:
            lines = self._app.finish(request, response)
            data = format_response(response, lines, keep=keep, head=request.method == "HEAD")
        except Exception:  # noqa: BLE001 - one connection's end, and not its neighbours'
            _log.exception("an answer could not be written")
            self.abort()
            return
        self._wait()
        self._transport.write(data)
        if keep is GONE:
            unread = self._receiving in (HEAD, BODY, REFUSED) or self._waiting or self._refusal is not None
            self._waiting.clear()
            self._receiving = NO_MORE[self._receiving]
            self._linger() if unread else self._transport.close()

    def _next(self) -> None:
        """Answer what waits, one after the other; then what was put off until all are answered."""
        while self._waiting and self._answering is FREE and not self._flow.stalled and not self._transport.is_closing():
            self._handle(*self._waiting.popleft())
        if self._answering is not FREE or self._waiting or self._transport.is_closing():
            return
        if self._receiving is not OVER:
            self._flow.resume_reading()
        elif self._refusal is not None:
            self._write_refusal(self._refusal)
        else:
            self._transport.close()

    def _refuse_rest(self, response: Response) -> None:
        """Look at nothing more of what was read; ``response`` is the last answer."""
        self._receiving = IS_REFUSED[self._receiving]
        self._refusal = self._refusal or response

    def _stop(self, refusal: Response | None) -> None:
        """Read no more; when all that came before is answered, write the refusal, if there is one, and close."""
        self._receiving = NO_MORE[self._receiving]
        self._refusal = refusal
        self._next()

    def _write_refusal(self, response: Response) -> None:
        head = False
        if self._request is not None:
            lines = self._app.finish(self._request, response)
            head = self._request.method == "HEAD"
        else:
            lines = b""
            self._app.refused(response, self._target.decode("ascii", "replace"))
        self._transport.write(format_response(response, lines, keep=GONE, head=head))
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and drop for a moment what still comes."""
        self._answering = LAST_IS_WRITTEN[self._answering]
        self._lingering = Linger()
        self.deadline = self._lingering.deadline
        if not self._flow.end_writing():
            self._transport.close()

    def _wait(self) -> None:
        """Set the deadline of what the client does next: send the rest of a request, or another one."""
        limits = self._limits
        idle = self._receiving is IDLE or self._receiving is OVER
        self.deadline = time.perf_counter() + (limits.idle_seconds if idle else limits.request_seconds)

    def _release(self, size: int) -> None:
        self._held -= size
        self._connections.held -= size

    def close_quiet(self) -> None:
        """Close at once where nothing is under way, else after the current answer."""
        if self.quiet:
            self._receiving = NO_MORE[self._receiving]
            self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._transport.abort()

    def cut(self) -> None:
        """The deadline has passed."""
        if self._flow.stalled:
            if not self._flow.moves(self._limits.request_seconds):
                self.abort()
            self.deadline = time.perf_counter() + self._limits.request_seconds
        elif self._receiving is OVER:
            self.abort()
        elif self._receiving is IDLE:
            self.close_quiet()
        else:
            self._stop(message(408, f"the request was not complete within {self._limits.request_seconds:g} seconds"))
