"""The receiving side of a connection: one request after the other as the parser reads it, held to the limits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque

import httptools

from edge_server.config.sizes import SIZES
from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.connections import Connections
from edge_server.http.head import check_head, too_large_body
from edge_server.http.messages import Headers, Request, Response, message
from edge_server.http.states import BEGINS, BODY, HEAD, HEAD_IS_WHOLE, IDLE, IS_REFUSED, IS_WHOLE
from edge_server.http.wire import GONE, KEPT, KEPT_SAID, Persistence, split_target

# Requests that a client may send before the first one is answered.
_PIPELINED = 64
# A request that is refused by its head is still read when its body is no longer, and the connection stays.
_READ_IN_VAIN = SIZES.read_in_vain


class RequestReader(ABC):
    """The parser's callbacks. ``Connection`` extends it: it has the transport, and answers what is read.

    Both are one object, since calls between two would take time in every request.
    """

    def __init__(self, app: App, limits: Limits, connections: Connections) -> None:
        self._app = app
        self._limits = limits
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._client = ""
        # The request that is being received: its head, then its body, and what refuses it by its head.
        self._receiving = IDLE
        self._number = 0
        self._request: Request | None = None
        self._early: Response | None = None
        self._held = 0  # bytes of bodies, also of those that wait
        self._reset()
        # Those that are whole and wait: whether the connection may stay after one, and what refuses it.
        self._waiting: deque[tuple[Request, Persistence, Response | None]] = deque()
        self._refusal: Response | None = None  # is written when all before it are answered, and is the last answer

    def _reset(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._body: bytes | bytearray = b""
        self._overhead = 0
        self._started = 0.0
        self._length = 0
        self._expects = False
        self._kept = KEPT

    # --- what a connection does ---

    @abstractmethod
    def _expect_more(self, size: int) -> None:
        """A part of a body has come, after others: ``size`` bytes in all, and more are to come."""

    @abstractmethod
    def _continue(self) -> None:
        """The client waits for 100 (Continue) before it sends the body."""

    @abstractmethod
    def _take(self, request: Request, keep: Persistence, early: Response | None) -> None:
        """A request is complete; ``early`` refuses it."""

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """A request begins."""
        self._receiving = BEGINS[self._receiving]
        if self._receiving is HEAD:
            self._reset()
            self._number += 1

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
            self._expect_more(size)

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
        self._take(request, keep, self._early)

    def _begin(self) -> None:
        """Show the app the head: what it refuses need not send a long body first."""
        method = self._parser.get_method().decode("ascii")
        target = self._target.decode("ascii")
        path, query = split_target(target)
        request = self._request = Request(method, target, path, query, self._headers, b"", self._client)
        request.started = self._started
        if self._kept is KEPT_SAID:
            request.is_old = True
        early = self._early = self._app.begin(request)
        if early is not None and (self._length > _READ_IN_VAIN or self._expects):
            self._refuse_rest(early)
        elif self._expects:
            self._continue()

    def _refuse_rest(self, response: Response) -> None:
        """Look at nothing more of what was read; ``response`` is the last answer."""
        self._receiving = IS_REFUSED[self._receiving]
        self._refusal = self._refusal or response
