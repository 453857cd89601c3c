"""The listening side: connections are admitted, swept when their time is over, and drained at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Iterator

from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.connection import Connection

_log = logging.getLogger(__name__)

BACKLOG = 2048
_SWEEP_SECONDS = 0.5
_HANDSHAKE_SECONDS = 10.0


class Connections:
    """All open connections: at most `limits.connections`, with `limits.held_bytes` of bodies between them."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.connections
        self._most_held = limits.held_bytes
        self._open: set[Connection] = set()
        self._turned_away: set[Connection] = set()
        self.held = 0
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter([*self._open, *self._turned_away])

    def admit(self, connection: Connection) -> bool:
        """Count a connection; where there are too many, one that waits between requests makes room, or it is False.

        One that was not admitted is refused and swept like the others; too many of them are hung up on.
        """
        if len(self._open) >= self._limit:
            idle = next((other for other in self._open if other.evictable), None)
            if idle is None:
                if len(self._turned_away) >= self._limit:
                    connection.abort()
                self._turned_away.add(connection)
                return False
            self._open.discard(idle)
            idle.abort()
        self._open.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection."""
        self._open.discard(connection)
        self._turned_away.discard(connection)

    def hold(self, size: int) -> bool:
        """Count `size` more bytes of bodies, unless that would be too many."""
        if self.held + size > self._most_held:
            return False
        self.held += size
        return True

    def sweep(self) -> None:
        """Cut off the connections whose deadline has passed."""
        now = time.perf_counter()
        for connection in self:
            if connection.deadline < now:
                try:
                    connection.cut()
                except Exception:  # noqa: BLE001 - the others are swept all the same
                    _log.exception("a connection could not be cut off")
                    connection.abort()

    def close_quiet(self) -> None:
        """Close what waits between requests."""
        for connection in self:
            connection.close_quiet()

    def abort(self) -> None:
        """Close everything, whatever is under way."""
        for connection in self:
            connection.abort()


class HttpServer:
    """Serves `app` on a bound socket."""

    def __init__(self, app: App, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        self._app = app
        self._limits = limits
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.connections = Connections(limits)

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept connections. OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._app, self._limits, self.connections),
            sock=listener,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_SECONDS,
        )
        self._sweep(loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
        self.connections.sweep()

    async def drain(self) -> bool:
        """Accept no more, finish what was begun within `grace_seconds`; False when something had to be cut off."""
        self.connections.draining = True
        if self._server is not None:
            self._server.close()
        self.connections.close_quiet()
        end = time.perf_counter() + self._limits.grace_seconds
        while len(self.connections) and time.perf_counter() < end:
            await asyncio.sleep(0.02)
            self.connections.close_quiet()
        whole = not len(self.connections)
        self.connections.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return whole
