"""A client that is gone when its answer is written ends its own connection, and nothing else."""

from __future__ import annotations

import asyncio
import errno

import pytest

from edge_server.config.values import Limits
from edge_server.http.connection import Connection
from edge_server.http.connections import Connections
from edge_server.http.messages import Reply, Request, Response, message


class LostTransport(asyncio.Transport):
    """A socket whose other end is gone, which the event loop has not noticed yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class LaterApp:
    """Answers each request by one reply."""

    def __init__(self) -> None:
        self.reply = Reply()

    def begin(self, request: Request) -> Response | None:
        return None

    def handle(self, request: Request) -> Reply:
        return self.reply

    def finish(self, request: Request, response: Response) -> bytes:
        return b""

    def left(self, request: Request) -> None: ...

    def refused(self, response: Response, target: str) -> None: ...


@pytest.mark.parametrize("unread", [b"GET /next HTTP/1.1\r\n", b"nonsense\r\n\r\n"], ids=["answer", "refusal"])
def test_the_last_answer_to_a_client_that_is_gone_raises_nothing(unread: bytes) -> None:
    app, connections, transport = LaterApp(), Connections(Limits()), LostTransport()
    connection = Connection(app, Limits(), connections)
    connection.connection_made(transport)
    sent = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    for part in (sent, unread):
        connection.get_buffer(len(part))[: len(part)] = part
        connection.buffer_updated(len(part))
    connections.draining = True
    app.reply.resolve(message(200, "answered"))
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert transport.closed
