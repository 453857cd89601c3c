"""The seam between connections and what answers them."""

from __future__ import annotations

from typing import Protocol

from edge_server.http.messages import Reply, Request, Response


class App(Protocol):
    """What a connection calls for each request."""

    def begin(self, request: Request) -> Response | None:
        """Check a request whose body has not been received; return the answer that refuses it, or None."""

    def handle(self, request: Request) -> Response | Reply:
        """Answer a request that ``begin`` let through, now or later."""

    def finish(self, request: Request, response: Response) -> bytes:
        """Called once for each answer just before it is written; returns further header lines, each with its CRLF."""

    def left(self, request: Request) -> None:
        """The client of a request disconnected before its answer."""

    def refused(self, response: Response, target: str) -> None:
        """Bytes that are not a request are answered by ``response``; ``target`` is the target that they name, or ""."""
