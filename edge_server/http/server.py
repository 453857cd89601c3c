"""The listening side: accepts connections, closes those past their deadline, and drains them at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

from edge_server.config.values import Limits
from edge_server.http.application import App
from edge_server.http.connection import Connection
from edge_server.http.connections import Connections

BACKLOG = 2048
_SWEEP_SECONDS = 0.5
_HANDSHAKE_SECONDS = 10.0
# How long a connection that waits for its next request is kept at the end, and how long one may take to be known of.
_QUIET_SECONDS = 1.0
_LATE_SECONDS = 0.2


class HttpServer:
    """Serves ``app`` on bound sockets."""

    def __init__(self, app: App, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        self._app = app
        self._limits = limits
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self.connections = Connections(limits)

    async def start(self, *listeners: socket.socket) -> None:
        """Begin to accept connections. OSError when an address is taken."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            server = await loop.create_server(
                lambda: Connection(self._app, self._limits, self.connections),
                sock=listener,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_SECONDS,
            )
            self._servers.append(server)
        self._sweep(loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
        self.connections.sweep()

    async def drain(self, *, accepted_late: bool = False) -> bool:
        """Accept no more, finish within ``grace_seconds`` what has begun; False when a request had to be cut off.

        A connection between requests is told to end by its next answer, and closed when none comes for a moment: its
        client may be sending a request just now. ``accepted_late``: the sockets live on, so that connections may have
        been taken from them that nothing is known of yet.
        """
        self.connections.draining = True
        for server in self._servers:
            server.close()
        begun = time.perf_counter()
        end = begun + self._limits.grace_seconds
        quiet = min(end, begun + _QUIET_SECONDS)
        late = min(end, begun + _LATE_SECONDS) if accepted_late else begun
        while (now := time.perf_counter()) < late or (len(self.connections) and now < end):
            if now >= quiet:
                self.connections.close_quiet()
            await asyncio.sleep(0.02)
        self.connections.close_quiet()
        whole = not len(self.connections)
        self.connections.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return whole
