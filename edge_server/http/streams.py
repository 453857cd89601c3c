"""Bodies of answers that come piece by piece, and are sent no faster than the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from edge_server.config.sizes import SIZES
from edge_server.http.flow import FlowControl

# How much may lie between who makes a body and the client (bytes).
WINDOW = SIZES.stream_window
_LAST_CHUNK = b"0\r\n\r\n"


class Sink(Protocol):
    """Where pieces go."""

    def piece(self, data: bytes) -> None:
        """One piece, which is not empty."""

    def end(self, whole: bool) -> None:
        """The end; not ``whole`` when what makes the body has failed."""


class BodyStream:
    """A body between who makes it and who sends it; used on the event loop's thread only.

    ``allow`` is told how many more bytes may be made: WINDOW of them are allowed from the beginning, and a piece may
    exceed what is left. ``leave`` is told, once, when nobody wants the rest.
    """

    def __init__(self, allow: Callable[[int], None], leave: Callable[[], None]) -> None:
        self._allow = allow
        self._leave = leave
        self._sink: Sink | None = None
        self._early: list[bytes] = []
        self._ended: bool | None = None
        self._left = False
        self._open = WINDOW  # bytes that may still come
        self._taken = 0  # bytes that were taken, and are not yet told to `allow`

    @property
    def stalled(self) -> bool:
        """Whether the next piece waits for the client."""
        return self._open <= 0

    # Who makes the body.

    def feed(self, data: bytes) -> None:
        """Pass on one piece; an empty one says nothing."""
        if not data or self._left or self._ended is not None:
            return
        self._open -= len(data)
        if self._sink is None:
            self._early.append(data)
        else:
            self._sink.piece(data)

    def end(self, whole: bool) -> None:
        """Say that there are no more pieces; a second end is no end."""
        if self._ended is None and not self._left:
            self._ended = whole
            if self._sink is not None:
                self._sink.end(whole)

    # Who sends it.

    def attach(self, sink: Sink) -> None:
        """Give the pieces to ``sink`` from here on, those that came before at once."""
        self._sink = sink
        early, self._early = self._early, []
        for data in early:
            sink.piece(data)
        if self._ended is not None:
            sink.end(self._ended)

    def took(self, size: int) -> None:
        """Say that so many bytes went to the client."""
        self._taken += size
        if self._taken >= WINDOW // 4 or self.stalled:
            self._open += self._taken
            taken, self._taken = self._taken, 0
            if self._ended is None and not self._left:
                self._allow(taken)

    def leave(self) -> None:
        """Say that nobody wants the rest."""
        if not self._left and self._ended is None:
            self._left = True
            self._leave()


class StreamedAnswer:
    """Writes a body to a connection: in chunks, or plain where the connection's end is the body's.

    ``ended`` is called when the last piece was written, or with False when there is no last piece.
    """

    def __init__(
        self,
        stream: BodyStream,
        transport: asyncio.Transport,
        flow: FlowControl,
        ended: Callable[[bool], None],
        *,
        chunked: bool,
    ) -> None:
        self._stream = stream
        self._transport = transport
        self._flow = flow
        self._ended = ended
        self.chunked = chunked
        self._owed = 0

    def start(self) -> None:
        """Write what is there, and the rest as it comes."""
        self._stream.attach(self)

    def piece(self, data: bytes) -> None:
        """Write one piece."""
        self._owed += len(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        if not self._flow.stalled:
            self.resume()

    def resume(self) -> None:
        """The client reads on."""
        owed, self._owed = self._owed, 0
        if owed:
            self._stream.took(owed)

    def end(self, whole: bool) -> None:
        """Write the end of the body, unless it has none."""
        if whole and self.chunked:
            self._transport.write(_LAST_CHUNK)
        self._ended(whole)

    def leave(self) -> None:
        """The client is gone."""
        self._stream.leave()


def has_body(method: str, status: int) -> bool:
    """Whether an answer of that status to that method has a body (RFC 9110, section 6.4.1)."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)
