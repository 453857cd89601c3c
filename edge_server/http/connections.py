"""All open connections of a server: admitted, counted, closed when their deadline has passed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from edge_server.config.values import Limits

_log = logging.getLogger(__name__)


class Closable(Protocol):
    """What ``Connections`` needs of a connection."""

    deadline: float

    @property
    def evictable(self) -> bool:
        """Whether the connection only waits for a next request."""

    def cut(self) -> None:
        """The deadline has passed."""

    def close_quiet(self) -> None:
        """Close at once where nothing is under way, else after the current answer."""

    def abort(self) -> None:
        """Close now, whatever is under way."""


class Connections:
    """All open connections: at most ``limits.connections``, with ``limits.held_bytes`` of bodies between them."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.connections
        self._most_held = limits.held_bytes
        self._open: set[Closable] = set()
        self._turned_away: set[Closable] = set()
        self.held = 0
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Closable]:
        return iter([*self._open, *self._turned_away])

    def admit(self, connection: Closable) -> bool:
        """Count a connection; where there are too many, an idle one is closed to make room; False when there is none.

        One that was not admitted is refused and swept like the others; too many of them are closed at once.
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

    def forget(self, connection: Closable) -> None:
        """Stop counting a connection."""
        self._open.discard(connection)
        self._turned_away.discard(connection)

    def hold(self, size: int) -> bool:
        """Count ``size`` more bytes of bodies; False when that would be too many."""
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
        """Close the connections that are between requests."""
        for connection in self:
            connection.close_quiet()

    def abort(self) -> None:
        """Close everything, whatever is under way."""
        for connection in self:
            connection.abort()
