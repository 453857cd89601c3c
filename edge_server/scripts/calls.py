"""One call in a worker: from the request's frame by the user's ``run`` to the answer's frame."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Any

import orjson

from edge_server.scripts import frames
from edge_server.scripts.frames import Frame
from edge_server.scripts.inputs import (
    RefusedInputError,
    header_names,
    pick_parameters,
    query_as_text,
    read_object,
    read_query,
    read_text,
)
from edge_server.scripts.outputs import UnserializableError, describe_error, encode_json, text_of
from edge_server.scripts.raw_outputs import encode_raw
from edge_server.scripts.raw_requests import AMLRequest
from edge_server.scripts.raw_responses import AMLResponse
from edge_server.scripts.script import OBJECT, RAW, EntryScript
from edge_server.scripts.streams import Streamed, read_first, read_first_async
from edge_server.telemetry.logs import request_id

_log = logging.getLogger("edge_server.scripts")

# Attributes that an AMLRequest has, and the text of a body has not.
_OF_REQUESTS = {name for name in dir(AMLRequest) if not name.startswith("_")}
_OF_REQUESTS |= {"method", "path", "query_string", "headers", "data", "remote_addr", "scheme"}


class OverdueError(BaseException):
    """Raised in a call that has exceeded its time; a script's ``except Exception`` does not catch it."""


class Caller:
    """Runs calls of one script. ``answer`` and ``answer_async`` raise only what ends the process."""

    def __init__(self, script: EntryScript) -> None:
        self._script = script
        self._run = script.run
        self._process = os.getpid()
        # `run` of an undecorated script is called with its argument alone, which is fastest.
        self._plain = script.style not in (OBJECT, RAW) and not script.headers

    def answer(self, frame: Frame) -> bytes | Streamed:
        """Run the call and return the frame that answers it, or an answer that is sent piece by piece."""
        request_id.set(frame.meta.decode("latin-1") if frame.kind == frames.CALL else "")
        started = perf_counter()
        try:
            if self._plain and frame.kind == frames.CALL:
                result = self._run(read_text(frame.body))
            else:
                arguments = self._arguments(frame)
                started = perf_counter()
                result = self._run(**arguments)
            first = b""
            if isinstance(result, AMLResponse) and isinstance(result.pieces, Iterator):
                first = read_first(result.pieces)
        except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
            return self._failed(frame, error, perf_counter() - started)
        return self._succeeded(frame, result, started, first)

    async def answer_async(self, frame: Frame) -> bytes | Streamed:
        """The same for an ``async def run``."""
        request_id.set(frame.meta.decode("latin-1") if frame.kind == frames.CALL else "")
        started = perf_counter()
        try:
            arguments = self._arguments(frame)
            started = perf_counter()
            result = await self._run(**arguments)
            first = b""
            if isinstance(result, AMLResponse) and isinstance(result.pieces, AsyncIterator):
                first = await read_first_async(result.pieces)
            elif isinstance(result, AMLResponse) and isinstance(result.pieces, Iterator):
                first = read_first(result.pieces)
        except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
            return self._failed(frame, error, perf_counter() - started)
        return self._succeeded(frame, result, started, first)

    def _arguments(self, frame: Frame) -> dict[str, Any]:
        script = self._script
        if frame.kind == frames.CALL:
            return {script.parameter: read_text(frame.body)}
        name, method, path, query, client, scheme, headers = orjson.loads(frame.meta)
        request_id.set(name)
        arguments: dict[str, Any]
        if script.style == RAW:
            arguments = {script.parameter: AMLRequest(method, path, query, headers, frame.body, client, scheme)}
        elif script.style == OBJECT:
            if method == "GET":
                given = read_query(query)
            else:
                content_type = next((value for name, value in headers if name == "content-type"), "")
                given = read_object(content_type, frame.body)
            arguments = pick_parameters(given, script.parameters)
        elif method == "GET":
            arguments = {script.parameter: query_as_text(query)}
        else:
            arguments = {script.parameter: read_text(frame.body)}
        if script.headers:
            arguments["request_headers"] = header_names(headers)
        return arguments

    def _succeeded(self, frame: Frame, result: Any, started: float, first: bytes) -> bytes | Streamed:
        """The answer of what ``run`` returned; ``first`` is the first piece of one that is streamed."""
        seconds = perf_counter() - started
        if os.getpid() != self._process:
            os._exit(0)  # a fork that the script did not end: its parent answers
        status, failed, meta = 200, False, b""
        try:
            if isinstance(result, AMLResponse):
                status, failed, meta, body = encode_raw(result)
                if result.pieces is not None:
                    if isinstance(result.pieces, AsyncIterator) and not self._script.is_async:
                        raise UnserializableError("an asynchronous generator needs an async def run")
                    mark = b"failed" if failed else b""
                    head = frames.encode(frames.STREAM, frame.slot, frame.number, mark, meta, status, seconds)
                    return Streamed(frame.slot, frame.number, head, first, result.pieces, started)
            else:
                # As the specification's server does, None is answered by an empty object.
                body = b"{}" if result is None else encode_json(result)
            kind = frames.ANSWER_FAILED if failed else frames.ANSWER
            return frames.encode(kind, frame.slot, frame.number, body, meta, status, seconds)
        except UnserializableError as error:
            _log.error("run() returned a value that cannot be sent: %s", error)
        except BaseException as error:  # noqa: BLE001 - an answer's own methods may be the script's
            _log.error("run() returned a value that cannot be sent: %s", describe_error(error))
        return frames.encode(frames.ANSWER, frame.slot, frame.number, frames.INTERNAL_ERROR, b"", 500, seconds)

    def _failed(self, frame: Frame, error: BaseException, seconds: float) -> bytes:
        if os.getpid() != self._process:
            os._exit(1)
        refused = None
        if isinstance(error, RefusedInputError):
            refused = error.message, error.status
        elif self._script.style == OBJECT and isinstance(error, Exception) and not self._script.reached(error):
            # The decorators convert the input before they call the script's own function.
            reason = text_of(error) or type(error).__name__
            refused = f"A parameter does not fit its declared type: {reason}", 400
        if refused is not None:
            text = refused[0].encode("utf-8", "replace")
            return frames.encode(frames.REFUSED, frame.slot, frame.number, text, b"", refused[1], seconds)
        if isinstance(error, OverdueError):
            _log.error("run() was stopped: it exceeded its time limit", extra={"traceback": format_traceback(error)})
        else:
            text_of_error = describe_error(error)
            asked = error.name if isinstance(error, AttributeError) and isinstance(error.obj, str) else ""
            if self._script.style != RAW and asked in _OF_REQUESTS:
                text_of_error += "; put @rawhttp on run() to get the request"
            _log.error("run() failed with %s", text_of_error, extra={"traceback": format_traceback(error)})
        return failed_answer(frame, seconds)


def failed_answer(frame: Frame, seconds: float = 0.0) -> bytes:
    """The answer of a call whose run function failed."""
    return frames.encode(frames.ANSWER_FAILED, frame.slot, frame.number, frames.RUN_FAILED, b"", 500, seconds)


def format_traceback(error: BaseException) -> str:
    """The traceback below our own code, of bounded length."""
    step = error.__traceback__
    try:
        text = "".join(traceback.format_exception(type(error), error, step.tb_next if step else None))
    except BaseException:  # noqa: BLE001 - an exception's own methods may fail
        return ""
    return text if len(text) <= 20_000 else f"{text[:10_000]}\n…\n{text[-10_000:]}"
