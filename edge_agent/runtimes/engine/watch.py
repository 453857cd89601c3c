"""Notices the end of a container at once: a request to wait for it, on a connection of its own that nobody waits on."""

from __future__ import annotations

import socket

from edge_agent.runtimes.engine.api import Engine
from edgepack.limits import LIMITS

_ANSWER_BYTES = LIMITS.error_bytes


class ContainerWatch:
    """A request for the end of one container; see ``Watch``.

    The engine answers when the container has ended. A connection that ends before says that the engine has.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answer = b""
        self._over = False

    @classmethod
    def of(cls, engine: Engine, container_id: str) -> ContainerWatch | None:
        """One of the container; ``None`` for an engine that is not reached by a socket of this machine.

        Raises ``OSError`` where the engine does not answer.
        """
        path = engine.transport.socket_path
        if path is None:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
            request = f"POST /v{engine.version}/containers/{container_id}/wait?condition=not-running HTTP/1.1"
            sock.sendall(f"{request}\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return cls(sock)

    def fileno(self) -> int:
        """See ``Watch``."""
        return self._sock.fileno()

    def ended(self) -> bool:
        """See ``Watch``. An engine sends the head of its answer at once, and the rest at the end."""
        while not self._over:
            try:
                data = self._sock.recv(_ANSWER_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._answer = (self._answer + data)[:_ANSWER_BYTES]
            head, _, body = self._answer.partition(b"\r\n\r\n")
            self._over = not data or b"StatusCode" in body or (bool(body) and b" 200 " not in head.partition(b"\r")[0])
        return self._over

    def close(self) -> None:
        """See ``Watch``."""
        self._sock.close()
