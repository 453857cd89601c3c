"""Bytes of HTTP/1.1 answers, and the two parts of a request's target."""

from __future__ import annotations

import logging
import re
import time
from typing import NewType

from edge_server.http.messages import JSON, Headers, Response

_log = logging.getLogger(__name__)

_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large",
    415: "Unsupported Media Type", 417: "Expectation Failed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
_STATUS = {status: f"HTTP/1.1 {status} {reason}\r\ndate: ".encode() for status, reason in _REASONS.items()}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What an answer says of the connection after it. HTTP/1.1 needs no header for one that stays open; HTTP/1.0 does, or a
# client that asked for it would wait for the end of the connection (RFC 9112, section 9.3).
Persistence = NewType("Persistence", bytes)
KEPT, KEPT_SAID, GONE = map(Persistence, (b"", b"connection: keep-alive\r\n", b"connection: close\r\n"))

# Headers that the connection writes; a script that sets one of them would break the framing.
_OURS = frozenset({b"connection", b"content-length", b"date", b"keep-alive", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_second = -1
_date = b""


def _now() -> bytes:
    """The date line's value, RFC 9110 section 5.6.7, made once a second."""
    global _second, _date
    now = int(time.time())
    if now != _second:
        t = time.gmtime(now)
        clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
        _date = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock} GMT\r\n".encode()
        _second = now
    return _date


def format_response(response: Response, lines: bytes, *, keep: Persistence, head: bool, chunked: bool = True) -> bytes:
    """The whole answer; ``lines`` are further header lines that are known to be valid. ``head``: without its body.

    Headers that are invalid or belong to the framing are dropped and logged.
    """
    body = response.body
    status = response.status
    start = _STATUS.get(status) or f"HTTP/1.1 {status} \r\ndate: ".encode()
    kind = response.content_type
    if kind is not None:
        if kind is not JSON and not _VALUE.fullmatch(kind):
            _log.warning("the content type of an answer was left out")
        else:
            lines += b"content-type: %b\r\n" % kind
    if response.headers:
        lines += _lines(response.headers)
    if keep:
        lines += keep
    if status < 200 or status in (204, 304):
        return b"%b%b%b\r\n" % (start, _now(), lines)
    if response.stream is not None:
        framing = b"transfer-encoding: chunked\r\n" if chunked and not head else b""
        return b"%b%b%b%b\r\n" % (start, _now(), lines, framing)
    if head:
        return b"%b%b%bcontent-length: %d\r\n\r\n" % (start, _now(), lines, len(body))
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (start, _now(), lines, len(body), body)


def _lines(headers: Headers) -> bytes:
    lines = b""
    for name, value in headers:
        if name.lower() in _OURS or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            _log.warning("a header of an answer was left out", extra={"header": name[:80].decode("ascii", "replace")})
        else:
            lines += b"%b: %b\r\n" % (name, value)
    return lines


def split_target(target: str) -> tuple[str, str]:
    """Path, percent-decoded, and query, as it came, of a request's target in any of its forms."""
    if not target.startswith("/") and "://" in target:
        rest = target.partition("://")[2]
        target = "/" + rest.partition("/")[2] if "/" in rest else "/"
    path, _, query = target.partition("?")
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path, errors="replace")
    return path, query
