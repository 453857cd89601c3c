"""Cross-origin resource sharing: what pages of other origins may do (Fetch standard, section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edge_server.config.values import Cors as CorsConfig
from edge_server.errors import ConfigurationError
from edge_server.http.messages import Headers, Request, Response

# How long a browser keeps the answer to a preflight request; Chromium keeps it for two hours at most.
MAX_AGE_SECONDS = 7200

# Headers that pages may send, beside `x-ms-` names and those that the Fetch standard always allows.
_ALLOWED = frozenset(
    b"content-type authorization x-request-id traceid traceparent tracestate inference-header-content-length".split()
)
# Headers of an answer that pages may read.
_EXPOSED = (
    b"x-request-id, x-ms-request-id, x-ms-client-request-id, x-ms-run-function-failed, x-ms-run-fn-exec-ms, "
    b"x-ms-server-version, traceid, retry-after, www-authenticate, inference-header-content-length"
)
_TOKEN = re.compile(rb"[a-z0-9\-_]{1,64}")
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.\-]*://[^\s/?#,@*]+")
_MOST_NAMES = 32
_VARY: Headers = [(b"vary", b"origin")]


class Cors:
    """The rules of one service; not ``active`` without origins. They are written as browsers send them,
    ``https://host[:port]``; ``*`` is any.

    Raises ConfigurationError when an origin is something else. No answer lets a browser send cookies: callers
    authenticate by ``Authorization``, which a page sends itself.
    """

    def __init__(self, config: CorsConfig) -> None:
        origins = [origin.strip().rstrip("/").lower() for origin in config.origins]
        wrong = [origin for origin in origins if origin != "*" and not _ORIGIN.fullmatch(origin)]
        if wrong:
            raise ConfigurationError(
                config.source, [f"{origin!r:.200} is not * or like https://host:port" for origin in wrong]
            )
        self.active = bool(origins)
        self._any = "*" in origins
        self._granted = {origin.encode(): _granted(origin.encode()) for origin in origins}

    def headers(self, request: Request, own: Headers | None = None) -> Headers:
        """The headers about other origins for the answer to ``request``. The list is shared and must not be changed.

        Empty when no origins are configured, or when the answer's ``own`` headers already set access control.
        """
        if not self.active or (own and any(name.startswith(b"access-control-") for name, _ in own)):
            return []
        if self._any:
            return self._granted[b"*"]
        # An answer that depends on the origin must not be cached for other origins.
        return self._granted.get((request.header(b"origin") or b"").lower(), _VARY)

    def preflight(self, request: Request, methods: Iterable[str]) -> Response:
        """Answer OPTIONS: 200 without a body, ``allow`` with the methods, and what a page may send if its origin may.

        It needs no key, since browsers send none with it.
        """
        allowed = ", ".join(sorted({*methods, "OPTIONS"})).encode("ascii")
        headers: Headers = [(b"allow", allowed), *self.headers(request)]
        asked = request.header(b"access-control-request-method")
        if asked is not None and any(name == b"access-control-allow-origin" for name, _ in headers):
            headers.append((b"access-control-allow-methods", allowed))
            headers.append((b"access-control-max-age", b"%d" % MAX_AGE_SECONDS))
            wanted = _wanted(request.header(b"access-control-request-headers") or b"")
            if wanted:
                headers.append((b"access-control-allow-headers", b", ".join(wanted)))
            headers.append((b"vary", b"access-control-request-headers"))
        return Response(200, b"", None, headers)


def _granted(origin: bytes) -> Headers:
    headers: Headers = [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]
    return headers if origin == b"*" else headers + _VARY


def _wanted(asked: bytes) -> list[bytes]:
    """Those of the headers that a page wants to send that it may send; names only, so that nothing else is echoed."""
    names = [name.strip().lower() for name in asked.split(b",", _MOST_NAMES)[:_MOST_NAMES]]
    return [name for name in names if _TOKEN.fullmatch(name) and (name in _ALLOWED or name.startswith(b"x-ms-"))]
