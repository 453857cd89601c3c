"""The HTTP client of the tests, whatever they ask: a server, a registry, a container."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SECONDS = 30.0


class Answer(NamedTuple):
    """An answer as a client sees it; headers are by lower-case name, and one that comes twice is joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The sentence of the scoring server's answer that refuses, which has nothing else in it but its status."""
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["message", "status_code"]
        return str(self.json["message"])


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | str | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
    seconds: float = SECONDS,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        return ask_on(connection, method, path, body, headers)
    finally:
        connection.close()


def ask_on(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | str | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection that stays open, or is a secure one."""
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]},{value}" if name.lower() in found else value
    return Answer(response.status, found, response.read())


def listens(port: int, host: str = "127.0.0.1", seconds: float = SECONDS) -> bool:
    """Whether anything accepts connections there."""
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError:
        return False
    return True
