"""The connections of one client: each with the right certificates, straight or by a proxy."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection

from edgepack.oci.reference import is_loopback
from edgepack.oci.remote.access import HostAccess
from edgepack.oci.remote.origin import Origin


class Routes:
    """Pools of connections; ``registry`` alone sees the certificate that ``access`` may have for it.

    Its token service and its storage are often of the same authority, so that is trusted for them too. Raises
    ``UsageError`` for certificates that cannot be read.
    """

    def __init__(
        self, access: HostAccess, registry: Origin, timeout: urllib3.Timeout, receive_buffer: int | None = None
    ) -> None:
        self._access = access
        self._registry = registry
        self._timeout = timeout
        self._receive_buffer = receive_buffer
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._pools: dict[tuple[str | None, str, bool], urllib3.PoolManager] = {}
        if access.certificates:  # what is wrong with them is said before anything is sent
            self._context(own=True)

    def to(self, origin: Origin) -> urllib3.PoolManager:
        """The way to ``origin``: straight, or by the proxy of HTTPS_PROXY or HTTP_PROXY unless NO_PROXY has it."""
        proxy = getproxies().get(origin.scheme)
        if not proxy or is_loopback(origin.host) or _bypasses_proxy(origin):
            proxy = None
        key = (proxy, origin.scheme, origin == self._registry)
        if key not in self._pools:
            self._pools[key] = self._pool(*key)
        return self._pools[key]

    def close(self) -> None:
        """Close the connections that are not in use; others are made when something is asked for."""
        for pool in self._pools.values():
            pool.clear()

    def _pool(self, proxy: str | None, scheme: str, own: bool) -> urllib3.PoolManager:
        # The system's authorities take a while to read, and plain HTTP needs none.
        context = self._context(own=own) if scheme == "https" else None
        options: dict[str, Any] = {"ssl_context": context, "timeout": self._timeout, "maxsize": 4}
        if self._receive_buffer is not None:
            buffer = (socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            options["socket_options"] = [*HTTPConnection.default_socket_options, buffer]
        if proxy is None:
            return urllib3.PoolManager(**options)
        parsed = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        login = None if parsed.auth is None else urllib3.util.make_headers(proxy_basic_auth=unquote(parsed.auth))
        return urllib3.ProxyManager(
            parsed._replace(auth=None, path=None, query=None).url, proxy_headers=login, **options
        )

    def _context(self, *, own: bool) -> ssl.SSLContext:
        if own not in self._contexts:
            self._contexts[own] = self._access.context(shown=own)
        return self._contexts[own]


def _bypasses_proxy(origin: Origin) -> bool:
    """Whether NO_PROXY has the origin: by its name or a domain, or by a network of addresses such as 10.0.0.0/8."""
    if proxy_bypass(f"{origin.host}:{origin.port}"):
        return True
    try:
        address = ipaddress.ip_address(origin.host.strip("[]"))
    except ValueError:
        return False
    for entry in getproxies().get("no", "").split(","):
        with suppress(ValueError):
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False
