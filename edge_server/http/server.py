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


class HttpServer:
    """Serves ``app`` on a bound socket."""

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
        """Accept no more, finish within ``grace_seconds`` what has begun; False when a request had to be cut off."""
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
