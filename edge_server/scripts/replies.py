"""A worker's answer frame as an HTTP response."""

from __future__ import annotations

import orjson

from edge_server.http.messages import JSON, Response, message
from edge_server.scripts import frames
from edge_server.scripts.frames import Frame

_KINDS = (frames.ANSWER, frames.ANSWER_FAILED, frames.REFUSED, frames.STREAM)


def read_answer(frame: Frame) -> Response:
    """The response that the frame describes; ValueError or TypeError when it describes none."""
    if frame.kind not in _KINDS or not 200 <= frame.status <= 599:
        raise ValueError(f"a frame of kind {frame.kind} with status {frame.status}")
    if frame.kind == frames.REFUSED:
        return message(frame.status, frame.body.decode("utf-8", "replace"))
    content_type: bytes | None = JSON
    headers = None
    if frame.meta:
        given_type, given = orjson.loads(frame.meta)
        content_type = None if given_type is None else given_type.encode("latin-1")
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given]
    is_streamed = frame.kind == frames.STREAM
    failed = frame.kind == frames.ANSWER_FAILED or (is_streamed and bool(frame.body))
    body, milliseconds = b"" if is_streamed else frame.body, frame.seconds * 1000
    return Response(frame.status, body, content_type, headers, failed=failed, exec_ms=milliseconds)
