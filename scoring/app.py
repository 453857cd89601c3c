"""The ASGI application: GET / for health, POST /score for scoring, a JSON message for everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from scoring.models import payload
from scoring.config import Limits
from scoring.models.dispatch import Dispatcher
from scoring.errors import BadRequest
from scoring.models.onnx_model import OnnxModel

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)

_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"
_DRAIN_SECONDS = 5.0


class _Gone(Exception):  # noqa: N818 - an event, not an error
    """The client went away before its body was whole."""


def make_app(model: OnnxModel, limits: Limits, threads: int) -> App:
    """The application that serves `model`; `threads` long calls run at once beside the event loop."""

    def score(body: bytes | bytearray) -> bytes:
        return payload.dump(model.score(payload.parse(body)))

    dispatcher = Dispatcher(score, threads)

    async def health(scope: Message, receive: Receive, send: Send) -> None:
        await _respond(send, 200, b"Healthy", _HTML)

    async def score_route(scope: Message, receive: Receive, send: Send) -> None:
        try:
            body = await _read_body(scope, receive, limits.body_bytes)
            await _respond(send, 200, await dispatcher.call(body))
        except BadRequest as refusal:
            if refusal.status == 413:
                await _refuse_body(receive, send, refusal)
            else:
                await _respond(send, refusal.status, _message(refusal.message))
        except _Gone:
            _log.debug("a client left before its request was whole")

    routes = {"/": ({"GET", "HEAD"}, health), "/score": ({"POST"}, score_route)}

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        route = routes.get(scope["path"])
        if route is None:
            await _respond(send, 404, _message(f"there is nothing at {scope['path'][:200]}"))
            return
        methods, handler = route
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            told = _message(f"{scope['path']} takes {allowed}, not {scope['method']}")
            await _respond(send, 405, told, headers=[(b"allow", allowed.encode())])
            return
        try:
            await handler(scope, receive, send)
        # The outermost edge: a failed run is answered and logged, and the server goes on.
        except Exception:  # noqa: BLE001
            _log.exception("a request failed", extra={"path": scope["path"]})
            await _respond(send, 500, _message("an unexpected error occurred; the server's log has more"))

    return app


async def _read_body(scope: Message, receive: Receive, limit: int) -> bytes | bytearray:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = BadRequest(f"the body is larger than {limit} bytes", status=413)
    if int(declared) > limit:
        raise too_large
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > limit:
            raise too_large
        more = message.get("more_body")
        if not more and not body:
            return part
        # Grown in one piece: many small parts would stay with the allocator when the request is over.
        body += part
        if not more:
            return body


async def _refuse_body(receive: Receive, send: Send, refusal: BadRequest) -> None:
    """Answer, then take and drop what the client is still sending.

    Closing with unread bytes would reset the connection, and the client would never see the answer. A client
    that goes on for longer than a moment is cut off.
    """
    body = _message(refusal.message)
    await send(_start(refusal.status, body, _JSON, [(b"connection", b"close")]))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


async def _respond(
    send: Send, status: int, body: bytes, kind: bytes = _JSON, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    await send(_start(status, body, kind, headers))
    await send({"type": "http.response.body", "body": body})


def _start(status: int, body: bytes, kind: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Message:
    known = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": status, "headers": [*known, *headers]}


def _message(text: str) -> bytes:
    return orjson.dumps({"message": text})
