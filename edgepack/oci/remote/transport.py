"""HTTP to a registry: which hosts may be spoken to without TLS, redirects, retries, errors; no authentication.

The rule that this module keeps: a header with credentials goes to the origin (scheme, host, port) that the caller
named and to no other, whatever a redirect says; and never over plain HTTP, except to this machine itself.
"""

from __future__ import annotations

import email.utils
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, ProxyError, SSLError
from urllib3.response import BaseHTTPResponse

import edgepack
from edgepack.errors import RegistryError, RegistryUnavailableError, TooLargeError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.reference import is_loopback

_log = logging.getLogger(__name__)
# urllib3 logs whole addresses, and those of storage behind a registry are signed: who reads one may fetch the blob.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# 501 and 505 say that the same request will never work.
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
# Trying again at once would not help.
_FINAL = (NewConnectionError, SSLError, ProxyError, LocationValueError)


@dataclass(frozen=True)
class Policy:
    """The limits of one client. Times are seconds, sizes bytes.

    ``insecure`` allows plain HTTP to a registry that is not this machine; credentials are still not sent to it.
    ``ca_file`` holds the certificates to trust instead of the system's; with it this machine's registry has TLS too.
    """

    attempts: int = 5
    backoff: float = 0.5
    longest_wait: float = 30.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    chunk: int = 64 << 20
    insecure: bool = False
    ca_file: Path | None = None


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what a header with credentials is meant for."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute ``url``; raises ``RegistryError``."""
        try:
            parsed = urllib3.util.parse_url(url)
        except LocationValueError:
            raise RegistryError("a registry gave an address that cannot be parsed") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise RegistryError("a registry gave an address that is neither http nor https")
        port = parsed.port if parsed.port is not None else 443 if parsed.scheme == "https" else 80
        return cls(parsed.scheme, parsed.host.lower(), port)

    @property
    def private(self) -> bool:
        """Whether credentials may travel there: with TLS, or without leaving this machine."""
        return self.scheme == "https" or is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Response:
    """A status, headers, and a body that is still on the wire; the one who asked closes it."""

    status: int
    headers: Mapping[str, str]
    raw: BaseHTTPResponse
    url: str

    def read(self, limit: int) -> bytes:
        """The whole body; raises ``TooLargeError`` past ``limit`` bytes and ``RegistryUnavailableError``."""
        parts, seen = [], 0
        try:
            while chunk := self.raw.read(min(LIMITS.chunk_bytes, limit + 1 - seen)):
                parts.append(chunk)
                seen += len(chunk)
                if seen > limit:
                    raise TooLargeError(
                        f"the answer is longer than {limit} bytes", where=Origin.of(self.url), hint="do not trust it"
                    )
        except HTTPError as error:
            raise unavailable(self.url, error) from None
        finally:
            self.close()
        return b"".join(parts)

    @property
    def delimited(self) -> bool:
        """Whether the body says where it ends, so that a broken connection shows."""
        return "Content-Length" in self.headers or bool(getattr(self.raw, "chunked", False))

    def close(self) -> None:
        """Give the connection back when little or nothing of the body is left, drop it otherwise."""
        left = self.raw.length_remaining
        if left is not None and left <= LIMITS.drained_bytes:
            self.raw.drain_conn()
        self.raw.close()


class Http:
    """Requests with retries and redirects, by one ``Policy``."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        context = None
        if policy.ca_file is not None:
            try:
                context = ssl.create_default_context(cafile=str(policy.ca_file))
            except (OSError, ssl.SSLError):
                raise UsageError("holds no certificates that can be read", where=policy.ca_file) from None
        self._options: dict[str, Any] = {
            "ssl_context": context,
            "timeout": urllib3.Timeout(connect=policy.connect_timeout, read=policy.read_timeout),
            "maxsize": 4,
        }
        self._pool = urllib3.PoolManager(**self._options)
        self._proxies: dict[str, urllib3.ProxyManager] = {}

    def base(self, host: str) -> str:
        """The address of the registry at ``host[:port]``: plain HTTP only for this machine or when asked for."""
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        plain = self.policy.ca_file is None and (is_loopback(name) or self.policy.insecure)
        return f"{'http' if plain else 'https'}://{host}"

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        *,
        retry: bool = True,
    ) -> Response:
        """Send one request, following redirects; a body that is not ``bytes`` can be sent once, so neither applies.

        With ``retry``, busy answers (429, 5xx) and broken connections are tried again, ``policy.attempts`` times in
        all; the last answer is returned whatever its status. Raises ``RegistryUnavailableError``.
        """
        once = not retry or not (body is None or isinstance(body, bytes))
        attempts = 1 if once else self.policy.attempts
        for attempt in range(1, attempts + 1):
            try:
                response = self._follow(method, url, headers, body)
            except HTTPError as error:
                if attempt == attempts or isinstance(error, _FINAL):
                    raise unavailable(url, error) from None
                self.wait(attempt, None)
                continue
            if response.status not in _BUSY or attempt == attempts:
                return response
            _log.info("%s answered %d, attempt %d of %d", Origin.of(url), response.status, attempt, attempts)
            response.close()
            self.wait(attempt, response.headers.get("Retry-After"))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def wait(self, attempt: int, retry_after: str | None) -> None:
        """Sleep as long as the server asked for, or longer from attempt to attempt; never past the longest wait."""
        asked = seconds_to_wait(retry_after)
        if asked is None:
            # Devices that failed together must not come back together.
            asked = self.policy.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        time.sleep(min(asked, self.policy.longest_wait))

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Response:
        meant_for, sent = Origin.of(url), {"User-Agent": f"edgepack/{edgepack.__version__}", **headers}
        for _ in range(LIMITS.redirects + 1):
            self._check(url, meant_for, credentials="Authorization" in sent)
            raw = self._pool_for(Origin.of(url)).urlopen(
                method, url, body=body, headers={"Accept-Encoding": "identity", **sent},
                redirect=False, retries=False, preload_content=False, decode_content=False,
            )  # fmt: skip
            response = Response(raw.status, raw.headers, raw, url)
            location = raw.headers.get("Location")
            if raw.status not in _REDIRECTS or location is None:
                return response
            response.close()
            if not (body is None or isinstance(body, bytes)) or (method not in ("GET", "HEAD") and raw.status < 307):
                raise RegistryError(f"redirects a {method}, which cannot be followed", where=Origin.of(url))
            url = joined(url, location)
            if Origin.of(url) != meant_for:
                sent.pop("Authorization", None)
        raise RegistryError(f"redirects more than {LIMITS.redirects} times", where=meant_for)

    def _pool_for(self, origin: Origin) -> urllib3.PoolManager:
        """The way to ``origin``: straight, or by the proxy of HTTPS_PROXY or HTTP_PROXY unless NO_PROXY has it."""
        proxy = getproxies().get(origin.scheme)
        if not proxy or is_loopback(origin.host) or proxy_bypass(f"{origin.host}:{origin.port}"):
            return self._pool
        if proxy not in self._proxies:
            parsed = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
            login = None if parsed.auth is None else urllib3.util.make_headers(proxy_basic_auth=unquote(parsed.auth))
            address = parsed._replace(auth=None, path=None, query=None).url
            self._proxies[proxy] = urllib3.ProxyManager(address, proxy_headers=login, **self._options)
        return self._proxies[proxy]

    def _check(self, url: str, meant_for: Origin, *, credentials: bool) -> None:
        origin = Origin.of(url)
        if credentials and not origin.private:
            raise RegistryError("credentials are not sent without TLS", where=origin, hint="give the registry TLS")
        if origin.scheme == "https" or (is_loopback(origin.host) and is_loopback(meant_for.host)):
            return
        if not self.policy.insecure or meant_for.scheme == "https":
            raise RegistryError("plain HTTP is for this machine only", where=origin, hint="give the registry TLS")


def joined(base: str, location: str) -> str:
    """A Location or realm, relative to ``base`` or absolute, its query untouched; raises ``RegistryError``."""
    try:
        return urljoin(base, location)
    except ValueError:
        raise RegistryError("gave an address that cannot be parsed", where=Origin.of(base)) from None


def seconds_to_wait(retry_after: str | None, now: Callable[[], float] = time.time) -> float | None:
    """What a Retry-After header asks for, in seconds (RFC 9110, 10.2.3); ``None`` when it says nothing usable."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now(), UTC)).total_seconds())


def unavailable(url: str, error: HTTPError) -> RegistryUnavailableError:
    """The error for a connection that was not made or broke; the address's path and query are left out on purpose."""
    where = Origin.of(url)
    if isinstance(error, ProxyError):
        return RegistryUnavailableError("the proxy refused the connection", where=where, hint="check HTTPS_PROXY")
    if isinstance(error, NewConnectionError):
        return RegistryUnavailableError("cannot be reached", where=where, hint="check its name, port and the network")
    if isinstance(error, SSLError):
        reason = getattr(error.args[0] if error.args else None, "verify_message", None) or "the handshake failed"
        return RegistryUnavailableError(
            f"TLS failed ({reason})", where=where, hint="check the certificate, or name the file of its authority"
        )
    return RegistryUnavailableError("the connection broke or timed out", where=where, hint="try again")
