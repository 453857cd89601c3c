"""One connection of a client: HTTP/1.1 framing by httptools, requests answered in their order, hostile ones cut off."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

import httptools

from edge_server.config.sizes import SIZES
from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.connections import Connections
from edge_server.http.deadlines import NEVER, Linger, body_deadline
from edge_server.http.flow import FlowControl
from edge_server.http.head import too_large_head
from edge_server.http.messages import Reply, Request, Response, message
from edge_server.http.reader import RequestReader
from edge_server.http.states import (
    BODY,
    FREE,
    HEAD,
    IDLE,
    IS_ANSWERED,
    IS_HANDED_OVER,
    IS_LOST,
    LAST_IS_WRITTEN,
    NO_MORE,
    OVER,
    REFUSED,
)  # fmt: skip
from edge_server.http.streams import BodyStream, StreamedAnswer, has_body
from edge_server.http.wire import GONE, KEPT, Persistence, format_response

# One piece of memory for what all connections receive: each feeds its parser before the next one reads.
_BUFFER = memoryview(bytearray(SIZES.received))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)


class Connection(RequestReader, asyncio.BufferedProtocol):
    """Gives the requests that it reads to the app one at a time, and writes the answers. ``states.py`` has its states.

    ``deadline`` is when the server's sweep cuts the connection off: a client that is silent between requests, sends
    one too slowly, or does not take its answer. It is ``inf`` while the app is at work.
    """

    def __init__(self, app: App, limits: Limits, connections: Connections) -> None:
        super().__init__(app, limits, connections)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._flow: FlowControl = None  # type: ignore[assignment]
        # The request at work, its answer, and whether the connection may stay after it.
        self._answering = FREE
        self._current: Request | None = None
        self._reply: Reply | None = None
        self._keep = KEPT
        self._streamed: StreamedAnswer | None = None  # the answer of the one at work, as far as it came
        self._lingering: Linger | None = None
        self.deadline = time.perf_counter() + limits.idle_seconds

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
        if self._streamed is not None:
            self._streamed.leave()
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
        if self._receiving is BODY or self._receiving is HEAD:
            self._note_part(size - max(0, self._held - held), began=number != self._number)
        if self._receiving is REFUSED:
            self._stop(self._refusal)

    def _note_part(self, overhead: int, *, began: bool) -> None:
        """A part of a request has come, and more is to come. ``overhead`` is what is not body, such as chunk sizes."""
        if not began:
            self._overhead += overhead
            if self._overhead > 2 * self._limits.header_bytes + 8 * len(self._body):
                self._refuse_rest(too_large_head(self._limits))
        elif type(self._body) is bytes and self._answering is FREE and not self._flow.stalled:
            self._wait()  # else ``_expect_more`` has set the deadline

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
        if self._streamed is not None:
            self.deadline = NEVER
            self._streamed.resume()
            return
        if self._current is None:
            self._wait()
            self._next()

    # --- what the reader calls ---

    def _expect_more(self, size: int) -> None:
        """See ``RequestReader``: sets the deadline, unless it is that of an answer."""
        if self._answering is FREE and not self._flow.stalled:
            self.deadline = body_deadline(self._limits, self._started, size)

    def _continue(self) -> None:
        """See ``RequestReader``."""
        if self._answering is FREE and not self._waiting:
            self._transport.write(_CONTINUE)

    def _take(self, request: Request, keep: Persistence, early: Response | None) -> None:
        """See ``RequestReader``: answers it now, or when it is its turn."""
        if self._answering is FREE and not self._waiting and not self._flow.stalled:
            self._handle(request, keep, early)
        else:
            self._waiting.append((request, keep, early))
            self._flow.pause_reading()

    # --- answers ---

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
            if response.stream is not None:
                response.stream.leave()
            return
        if request.body:
            self._release(len(request.body))
        stream = response.stream
        if stream is not None:
            self._answer_in_pieces(request, response, stream)
            return
        keep = GONE if response.close or self._connections.draining else self._keep
        try:
            lines = self._app.finish(request, response)
            data = format_response(response, lines, keep=keep, head=request.method == "HEAD")
        except Exception:  # noqa: BLE001 - one connection's end, and not its neighbours'
            _log.exception("an answer could not be written")
            self.abort()
            return
        # As ``_answered``, without its call in every request.
        self._answering = IS_ANSWERED[self._answering]
        self._wait()
        self._transport.write(data)
        if keep is GONE:
            self._leave()

    def _answer_in_pieces(self, request: Request, response: Response, stream: BodyStream) -> None:
        chunked = not getattr(request, "is_old", False)
        # Without chunks, the connection's end is the body's.
        if response.close or self._connections.draining or not chunked:
            self._keep = GONE
        try:
            lines = self._app.finish(request, response)
            is_head = request.method == "HEAD"
            data = format_response(response, lines, keep=self._keep, head=is_head, chunked=chunked)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("an answer could not be written")
            stream.leave()
            self.abort()
            return
        self._transport.write(data)
        if has_body(request.method, response.status):
            self._streamed = StreamedAnswer(stream, self._transport, self._flow, self._end, chunked=chunked)
            self._streamed.start()
        else:
            stream.leave()
            self._answered()

    def _answered(self) -> None:
        """The answer to the request at work was written."""
        self._answering = IS_ANSWERED[self._answering]
        self._wait()
        if self._keep is GONE:
            self._leave()

    def _leave(self) -> None:
        """Close after the last answer."""
        unread = self._receiving in (HEAD, BODY, REFUSED) or self._waiting or self._refusal is not None
        self._waiting.clear()
        self._receiving = NO_MORE[self._receiving]
        self._linger() if unread else self._transport.close()

    def _end(self, whole: bool) -> None:
        """The last piece of the answer was written, or there is none: the client sees it by the connection's end."""
        streamed, self._streamed = self._streamed, None
        if not whole:
            self._receiving = NO_MORE[self._receiving]
            self._wait()
            # Without chunks, only a connection that is cut off shows that something is missing.
            self._transport.close() if streamed is not None and streamed.chunked else self.abort()
            return
        if self._connections.draining:
            self._keep = GONE
        self._answered()
        self._next()

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
