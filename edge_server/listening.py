"""Where the server listens: a socket of its own, or those that whoever started it has opened (sd_listen_fds(3)).

With an inherited socket the address outlives the server: while one version ends and another one begins, connections
wait in the kernel's queue, and whichever version takes them answers.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from edge_server.config.values import ServiceConfig
from edge_server.errors import ConfigurationError, cannot_listen

# sd_listen_fds(3): the first descriptor that is handed over.
FIRST = 3
_MOST = 16


@dataclass(frozen=True)
class Listeners:
    """The sockets that requests come from; the first has the service's address.

    ``inherited``: they listen already, and go on when this process ends.
    """

    sockets: tuple[socket.socket, ...]
    inherited: bool = False

    @property
    def first(self) -> socket.socket:
        """The one with the service's address."""
        return self.sockets[0]

    def close(self) -> None:
        """Close all of them here."""
        for one in self.sockets:
            one.close()


def listen(config: ServiceConfig, environment: MutableMapping[str, str]) -> Listeners:
    """The sockets that were handed over, or else one that holds the configured address and does not listen yet.

    The variables are taken out of ``environment``: they are not for what this process starts. ScoringError when the
    address is not available, ConfigurationError for descriptors that are no listening sockets.
    """
    found = inherited(environment)
    return Listeners(found, inherited=True) if found else Listeners((bind(config),))


def inherited(environment: MutableMapping[str, str], pid: int | None = None) -> tuple[socket.socket, ...]:
    """The sockets that were handed over to this process; none when LISTEN_PID names another one."""
    count, owner = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or owner != str(os.getpid() if pid is None else pid):
        return ()
    if not count.isascii() or not count.isdecimal() or int(count) > _MOST:
        raise ConfigurationError("LISTEN_FDS", [f"must be a whole number from 0 to {_MOST}, not {count[:20]!r}"])
    return tuple(_socket(FIRST + number) for number in range(int(count)))


def _socket(descriptor: int) -> socket.socket:
    try:
        one = socket.socket(fileno=descriptor)
        listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens = 0
    if not listens:
        raise ConfigurationError("LISTEN_FDS", [f"descriptor {descriptor} is not a listening stream socket"])
    os.set_inheritable(descriptor, False)
    one.setblocking(False)  # for all who share it: one that waits to accept would answer nothing else
    return one


def bind(config: ServiceConfig) -> socket.socket:
    """A TCP socket that holds the address and does not listen yet; ScoringError when the address is not available."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only where the protocol is named; with it, an answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise cannot_listen(config.host, config.port, error) from None
    return listener
