"""HTTP requests to a container engine, over its socket or over TCP, with TLS where Docker's own variables say so.

Only modules of this folder use it. The SDK of Docker does the same, and costs a fifth of a second and 7 MB in each
process that imports it, which is much for jobs that are to be over in less.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from edge_agent.runtimes.engine.errors import CallError

if TYPE_CHECKING:
    import ssl

CALL_SECONDS = 300.0
_LOCAL = ("unix", "http+unix")
# The ports that Docker's clients take where an address has none.
_PORTS = {True: 2376, False: 2375}
_UNREADABLE = (OSError, http.client.HTTPException)


class _SocketConnection(http.client.HTTPConnection):
    """A connection to the socket at ``path``."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Transport:
    """Requests to the engine at ``address``: each has a connection of its own, so that threads may share it.

    Raises ``CallError`` for an address that is none.
    """

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        self.address = address
        self.socket_path: str | None = None
        """The path of the socket; ``None`` for an engine that may be on another machine."""
        self._context: ssl.SSLContext | None = None
        if parts.scheme in _LOCAL:
            self.socket_path = f"/{(parts.netloc + parts.path).lstrip('/')}"
            return
        if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
            raise CallError("it is neither unix:///PATH nor tcp://HOST:PORT")
        certificates, verify = environment.get("DOCKER_CERT_PATH"), environment.get("DOCKER_TLS_VERIFY")
        if certificates or verify:
            self._context = _tls(Path(certificates or Path.home() / ".docker"), verify=bool(verify))
        elif parts.scheme == "https":
            import ssl

            self._context = ssl.create_default_context()
        try:
            self._host, self._port = parts.hostname, parts.port or _PORTS[self._context is not None]
        except ValueError as error:
            raise CallError(str(error)) from error

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = CALL_SECONDS,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, whatever its status, to be read in the block.

        Raises ``CallError`` where the engine does not answer, or not to the end.
        """
        connection = self._connection(timeout)
        target = f"{path}?{urlencode(query)}" if query else path
        with _told():
            try:
                connection.request(method, target, body=body, headers={"Connection": "close", **(headers or {})})
                with connection.getresponse() as answer:
                    yield answer
            finally:
                connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if self.socket_path is not None:
            return _SocketConnection(self.socket_path, timeout)
        if self._context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what is raised on the way to an engine, and only that, into ``CallError``."""
    try:
        yield
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CallError(f"it does not answer: {reason}") from error


def _tls(folder: Path, *, verify: bool) -> ssl.SSLContext:
    """As Docker's clients have it: ``ca.pem``, ``cert.pem`` and ``key.pem`` of the folder."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem") if verify else None)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:
        raise CallError(f"the certificates in {folder} cannot be used: {error.strerror or error}") from error
    return context
