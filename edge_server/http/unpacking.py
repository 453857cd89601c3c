"""Requests whose bodies are compressed: unpacked in threads, a few at a time, then answered like others."""

from __future__ import annotations

import asyncio
from functools import partial

from edge_server.config.values import Limits
from edge_server.http.encoding import plain
from edge_server.http.messages import Handler, Reply, Request, Response

_ABOUT_BODIES = (b"content-encoding", b"content-length")


class Unpacker:
    """Unpacks gzip and deflate: at most ``limits.body_bytes`` of each body, ``limits.held_bytes`` of all together."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.body_bytes
        self._room = asyncio.Semaphore(max(1, limits.held_bytes // limits.body_bytes))

    def before(self, handler: Handler, encoding: bytes) -> Handler:
        """A handler that unpacks the body first; its coroutine raises BadRequest as ``plain`` does."""
        return partial(self._answer, handler, encoding)

    async def _answer(self, handler: Handler, encoding: bytes, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        async with self._room:
            # A small body may unpack to a large one, which must not block the event loop.
            request.body = await loop.run_in_executor(None, plain, request.body, encoding, self._most)
            headers = [header for header in request.headers if header[0] not in _ABOUT_BODIES]
            request.headers = [*headers, (b"content-length", str(len(request.body)).encode())]
            answer = handler(request)
            if isinstance(answer, Response):
                return answer
            if not isinstance(answer, Reply):
                return await answer
            answered: asyncio.Future[Response] = loop.create_future()
            answer.then(lambda response: None if answered.done() else answered.set_result(response))
            try:
                return await answered
            finally:
                answer.abandoned = True
