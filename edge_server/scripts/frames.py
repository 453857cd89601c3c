"""Messages between the server and a worker: length-prefixed frames over one stream socket, and no pickle.

Every frame has the same head, in native byte order, since both ends run on one machine: the length of what follows the
head, the length of ``meta`` within it, a sequence number for each slot, the slot, a status, a kind, and seconds. The
kind decides what a field means; fields that a kind does not use are zero.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from struct import Struct

_HEAD = Struct("=IIQHHBd")
_SIZE = _HEAD.size
_pack = _HEAD.pack
_unpack = _HEAD.unpack_from

# A frame's length has 32 bits; a worker that announces more than this is broken, or was attacked.
LARGEST = (1 << 31) - 1

# Bodies of answers that show nothing of the script's errors; the log has them.
_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
_INTERNAL = "An unexpected internal error occurred. Check the logs for more info."
RUN_FAILED = f'{{"message":"{_FAILED}","status_code":500}}'.encode()
INTERNAL_ERROR = f'{{"message":"{_INTERNAL}","status_code":500}}'.encode()

# Tells the worker to check whether the running call has exceeded its time. Scripts may use the common signals.
OVERDUE_SIGNAL = signal.SIGRTMIN + 10

# From the server: meta is the request id, body the request's body.
CALL = 1
# The same, but meta is the JSON of all of the request but its body.
CALL_WHOLE = 2
# The call of that slot and number has exceeded its time.
CANCEL = 3

# Of an answer that is streamed: the body says how many more bytes of it the server takes.
MORE = 4
# Nobody wants the rest of it.
LEFT = 5

# From the worker, once: the body is JSON that describes the script, or says why it cannot start.
READY = 16
FAILED = 17
# An answer: status, seconds that the call ran, meta is empty or the JSON of content type and headers.
ANSWER = 18
# An answer of a call whose run function failed.
ANSWER_FAILED = 19
# The call was cancelled before it began.
SKIPPED = 20
# A CANCEL was read, so the worker's loop runs.
HEARD = 21
# Parameters cannot be read: the body is the message for the client, status is the HTTP status.
REFUSED = 22
# The beginning of an answer that is streamed: as ANSWER, the body is not empty where the run function failed.
STREAM = 23
# One piece of it.
PIECE = 24
# Its end: the status is 0 where it is whole; seconds are those of the whole call.
END = 25


@dataclass(slots=True)
class Frame:
    """One frame as it was read."""

    kind: int
    slot: int
    number: int
    status: int
    seconds: float
    meta: bytes
    body: bytes


class BrokenStreamError(Exception):
    """The other end announced an impossible frame."""


def encode(
    kind: int, slot: int, number: int, body: bytes, meta: bytes = b"", status: int = 0, seconds: float = 0.0
) -> bytes:
    """The bytes of one frame; ValueError when it is longer than a frame may be."""
    length = len(meta) + len(body)
    if length > LARGEST:
        raise ValueError(f"a frame of {length} bytes is longer than {LARGEST}")
    return _pack(length, len(meta), number, slot, status, kind, seconds) + meta + body


class FrameReader:
    """Splits a stream into frames; a large frame is joined once, when all of it has arrived."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, in order; BrokenStreamError for an impossible head."""
        if self._parts:
            if len(data) < self._missing:
                self._parts.append(data)
                self._missing -= len(data)
                return []
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts = []
        frames = []
        at, end = 0, len(data)
        while end - at >= _SIZE:
            length, meta_length, number, slot, status, kind, seconds = _unpack(data, at)
            if length > LARGEST or meta_length > length:
                raise BrokenStreamError(f"a frame of {length} bytes with a meta part of {meta_length}")
            start = at + _SIZE
            stop = start + length
            if stop > end:
                self._missing = stop - end
                break
            body = start + meta_length
            frames.append(Frame(kind, slot, number, status, seconds, data[start:body], data[body:stop]))
            at = stop
        else:
            self._missing = _SIZE - (end - at)
        if at < end:
            self._parts.append(data[at:])
        return frames
