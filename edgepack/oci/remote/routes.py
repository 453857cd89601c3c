"""The connections of one client: each with the right certificates, straight or by a proxy."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3

from edgepack.oci.reference import is_loopback
from edgepack.oci.remote.access import HostAccess
from edgepack.oci.remote.origin import Origin


class Routes:
    """Pools of connections; ``registry`` alone sees the certificate that ``access`` may have for it.

    Its token service and its storage are often of the same authority, so that is trusted for them too. Raises
    ``UsageError`` for certificates that cannot be read.
    """

    def __init__(self, access: HostAccess, registry: Origin, timeout: urllib3.Timeout) -> None:
        self._registry = registry
        self._options: dict[bool, dict[str, Any]] = {
            own: {"ssl_context": access.context(shown=own), "timeout": timeout, "maxsize": 4} for own in (True, False)
        }
        self._pools = {own: urllib3.PoolManager(**options) for own, options in self._options.items()}
        self._proxies: dict[tuple[str, bool], urllib3.ProxyManager] = {}

    def to(self, origin: Origin) -> urllib3.PoolManager:
        """The way to ``origin``: straight, or by the proxy of HTTPS_PROXY or HTTP_PROXY unless NO_PROXY has it."""
        own, proxy = origin == self._registry, getproxies().get(origin.scheme)
        if not proxy or is_loopback(origin.host) or _bypasses_proxy(origin):
            return self._pools[own]
        if (proxy, own) not in self._proxies:
            parsed = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
            login = None if parsed.auth is None else urllib3.util.make_headers(proxy_basic_auth=unquote(parsed.auth))
            address = parsed._replace(auth=None, path=None, query=None).url
            self._proxies[proxy, own] = urllib3.ProxyManager(address, proxy_headers=login, **self._options[own])
        return self._proxies[proxy, own]


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
