"""HTTP to a registry: which hosts may be spoken to without TLS, redirects, retries, errors; no authentication.

The rule that this module keeps: a header with credentials goes to the origin (scheme, host, port) that the caller
named and to no other, whatever a redirect says; and never over plain HTTP, except to this machine itself.
"""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, ProxyError, SSLError
from urllib3.response import BaseHTTPResponse

import edgepack
from edgepack.errors import RegistryError, RegistryUnavailableError, TooLargeError
from edgepack.limits import LIMITS
from edgepack.oci.reference import Reference, is_loopback
from edgepack.oci.remote.access import host_access, lacks_tls
from edgepack.oci.remote.origin import Origin, joined
from edgepack.oci.remote.routes import Routes

_log = logging.getLogger(__name__)
# urllib3 logs whole addresses, and those of storage behind a registry are signed: who reads one may fetch the blob.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Says that the same request will never work.
NEVER = frozenset({501, 505})
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
# OpenSSL's names, by version, for an answer that is not TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
_ASKS_FOR_CERTIFICATE = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA"}
)
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl-verification-options(1)).
_OF_TIME = frozenset({9, 10})
# Trying again at once would not help.
_FINAL = (NewConnectionError, SSLError, ProxyError, LocationValueError)


class Meter(Protocol):
    """Watches the bytes of blobs as they come over the wire, from several threads; it may wait, and it may raise."""

    def piece(self) -> int:
        """How many bytes are read at once now, at most."""

    def took(self, count: int) -> None:
        """Hear that ``count`` bytes came, whether they are of use or not; an error that is raised ends the download."""


@dataclass(frozen=True)
class Policy:
    """The limits of one client. Times are seconds, sizes bytes.

    ``plain_http`` names registries (``HOST[:PORT]``) that have no TLS, ``insecure`` allows it to each; credentials are
    still not sent there, but to this machine. ``ca_file`` holds certificates to trust beside the system's; with it, or
    with certificates of the engines for it, this machine's registry has TLS too. A download that breaks begins to count
    its attempts anew after ``progress`` bytes. ``receive_buffer`` is how much the
    kernel may hold that nobody has read yet, by default as much as it likes; ``meter`` watches downloads.
    """

    attempts: int = 5
    progress: int = 64 << 10
    backoff: float = 0.5
    longest_wait: float = 30.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    chunk: int = 64 << 20
    insecure: bool = False
    plain_http: tuple[str, ...] = ()
    ca_file: Path | None = None
    receive_buffer: int | None = None
    meter: Meter | None = None


@dataclass(frozen=True)
class Response:
    """A status, headers, and a body that is still on the wire; the one who asked closes it."""

    status: int
    headers: Mapping[str, str]
    raw: BaseHTTPResponse
    url: str
    is_last: bool = False
    """Of its connection, which is not used again: the request said that it is to be closed."""

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
        if left is not None and left <= LIMITS.drained_bytes and not self.is_last:
            self.raw.drain_conn()
        self.raw.close()


class Http:
    """Requests to the registry of ``reference`` and where it leads, with retries and redirects, by one ``Policy``."""

    def __init__(self, reference: Reference, policy: Policy) -> None:
        self.policy = policy
        self._host = reference.api_host
        self._access = host_access(
            reference, plain_http=policy.plain_http, ca_file=policy.ca_file, insecure=policy.insecure
        )
        self._plain: set[Origin] = set()
        timeout = urllib3.Timeout(connect=policy.connect_timeout, read=policy.read_timeout)
        self._routes = Routes(self._access, Origin.of(f"https://{self._host}"), timeout, policy.receive_buffer)

    @cached_property
    def base(self) -> str:
        """The registry's address: plain HTTP only for this machine or where it was allowed."""
        secure, plain = f"https://{self._host}", f"http://{self._host}"
        if self._access.scheme == "https" or (self._access.scheme == "ask" and self._has_tls(secure)):
            return secure
        if not is_loopback(Origin.of(plain).host):  # which nobody had to allow, so it may not lead elsewhere
            self._plain.add(Origin.of(plain))
        return plain

    def _has_tls(self, url: str) -> bool:
        """Whether what listens there speaks TLS; its certificate is verified by the requests that follow."""
        try:
            response = self._routes.to(Origin.of(url)).urlopen(
                "GET", f"{url}/v2/", redirect=False, retries=False, preload_content=False
            )
        except SSLError as error:
            return not _speaks_plainly(error)
        except HTTPError:
            return False
        response.close()
        return True

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

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._routes.close()

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
            raw = self._routes.to(Origin.of(url)).urlopen(
                method, url, body=body, headers={"Accept-Encoding": "identity", **sent},
                redirect=False, retries=False, preload_content=False, decode_content=False,
            )  # fmt: skip
            response = Response(raw.status, raw.headers, raw, url, is_last="Connection" in sent)
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

    def _check(self, url: str, meant_for: Origin, *, credentials: bool) -> None:
        origin = Origin.of(url)
        if credentials and not origin.private:
            raise RegistryError("credentials are not sent without TLS", where=origin, hint="give the registry TLS")
        if origin.scheme == "https" or (is_loopback(origin.host) and is_loopback(meant_for.host)):
            return
        if is_loopback(origin.host):
            raise RegistryError("another machine leads to plain HTTP on this one", where=origin, hint="do not trust it")
        if meant_for in self._plain or (self.policy.insecure and meant_for.scheme == "http"):
            return
        if not lacks_tls(origin.short, self.policy.plain_http):
            raise RegistryError(
                "plain HTTP is for this machine only", where=origin,
                hint=f"give it TLS, or allow it with --plain-http {origin.short}",
            )  # fmt: skip


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
    if isinstance(error, SSLError) and _speaks_plainly(error):
        return RegistryUnavailableError(
            "TLS failed: it answers with plain HTTP", where=where,
            hint=f"give it TLS, or allow plain HTTP with --plain-http {where.short}",
        )  # fmt: skip
    if isinstance(error, SSLError) and _reason(error) in _ASKS_FOR_CERTIFICATE:
        return RegistryUnavailableError(
            "TLS failed: it asks for a certificate of yours, or does not take the one that it got", where=where,
            hint=f"put client.cert and client.key in ~/.config/containers/certs.d/{where.short}",
        )  # fmt: skip
    if isinstance(error, SSLError) and getattr(error.args[0] if error.args else None, "verify_code", 0) in _OF_TIME:
        today = datetime.now(UTC).date().isoformat()
        return RegistryUnavailableError(
            f"TLS failed: its certificate is not valid on {today}, today by this machine's clock", where=where,
            hint="check the clock (date -u); if it is right, the registry needs a new certificate",
        )  # fmt: skip
    if isinstance(error, SSLError):
        reason = getattr(error.args[0] if error.args else None, "verify_message", None) or "the handshake failed"
        return RegistryUnavailableError(
            f"TLS failed ({reason})",
            where=where,
            hint="check the certificate, or name the file of its authority with --ca",
        )
    return RegistryUnavailableError("the connection broke or timed out", where=where, hint="try again")


def _speaks_plainly(error: SSLError) -> bool:
    """Whether a handshake failed because the other side does not speak TLS."""
    return _reason(error) in _NOT_TLS


def _reason(error: SSLError) -> str | None:
    """OpenSSL's own name for what happened."""
    reason: str | None = getattr(error.args[0] if error.args else None, "reason", None)
    return reason
