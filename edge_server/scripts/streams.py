"""Answers that a worker sends piece by piece, no faster than the server takes them."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from edge_server.config.sizes import SIZES
from edge_server.scripts import frames
from edge_server.scripts.frames import Frame
from edge_server.scripts.outputs import describe_error
from edge_server.scripts.raw_responses import piece_bytes

_log = logging.getLogger(__name__)
_END: Any = object()


@dataclass
class Streamed:
    """The answer of one call: the frame that begins it, its first piece, and what gives the others."""

    slot: int
    number: int
    head: bytes
    first: bytes
    pieces: Iterator[Any] | AsyncIterator[Any]
    started: float

    def frame(self, kind: int, body: bytes = b"", status: int = 0) -> bytes:
        """A frame of this answer."""
        seconds = perf_counter() - self.started if kind == frames.END else 0.0
        return frames.encode(kind, self.slot, self.number, body, b"", status, seconds)


class Window:
    """How much of one answer the server takes at the moment."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = SIZES.stream_window
        self.left = False  # nobody wants the rest

    def note(self, frame: Frame) -> bool:
        """Take what the server says of this answer; False when the frame is about something else."""
        if frame.number != self.number or frame.kind not in (frames.MORE, frames.LEFT):
            return False
        if frame.kind == frames.MORE:
            self.open += int(frame.body)
        else:
            self.left = True
        return True


def read_first(pieces: Iterator[Any]) -> bytes:
    """The first piece that is not empty; b"" where there is none."""
    return next((data for piece in pieces if (data := piece_bytes(piece))), b"")


async def read_first_async(pieces: AsyncIterator[Any]) -> bytes:
    """The same of an asynchronous iterator."""
    async for piece in pieces:
        if data := piece_bytes(piece):
            return data
    return b""


def send(
    answer: Streamed,
    window: Window,
    put: Callable[[bytes], None],
    wait: Callable[[], bool],
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    """Send the whole answer. ``wait`` returns when a next piece may be sent, False when nobody wants it; ``run`` calls
    what asks the script for it, and may stop it by an exception."""
    pieces: Iterator[Any] = answer.pieces  # type: ignore[assignment]
    put(answer.head)
    whole = False
    piece: Any = answer.first
    try:
        while piece is not _END and wait():
            if data := piece_bytes(piece):
                window.open -= len(data)
                put(answer.frame(frames.PIECE, data))
            piece = run(lambda: next(pieces, _END))
        whole = piece is _END
        if not whole and (close := getattr(pieces, "close", None)) is not None:
            run(close)
    except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
        _tell(error)
    put(answer.frame(frames.END, status=int(not whole)))


async def send_async(
    answer: Streamed, window: Window, put: Callable[[bytes], None], wait: Callable[[], Awaitable[bool]]
) -> None:
    """The same in an event loop."""
    whole = False
    put(answer.head)
    try:
        pieces = answer.pieces if isinstance(answer.pieces, AsyncIterator) else _asynchronous(answer.pieces)
        piece: Any = answer.first
        while piece is not _END and await wait():
            if data := piece_bytes(piece):
                window.open -= len(data)
                put(answer.frame(frames.PIECE, data))
            piece = await anext(pieces, _END)
        whole = piece is _END
        if not whole and (close := getattr(pieces, "aclose", None)) is not None:
            await close()
    except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
        _tell(error)
    put(answer.frame(frames.END, status=int(not whole)))


async def _asynchronous(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    import asyncio  # here only: workers without an event loop have no memory for it

    try:
        while True:
            await asyncio.sleep(0)  # what came before is sent, and other calls run in between
            piece = next(pieces, _END)
            if piece is _END:
                return
            yield piece
    finally:
        if (close := getattr(pieces, "close", None)) is not None:
            close()


def _tell(error: BaseException) -> None:
    trace = "".join(traceback.format_exception(error))[-20_000:]
    text = "run() failed while its answer was being sent, with %s; the client gets what was sent before"
    _log.error(text, describe_error(error), extra={"traceback": trace})
