"""The head of a request, strictly: anything ambiguous is refused."""

from __future__ import annotations

from edge_server.config.values import Limits
from edge_server.http.messages import Headers, Response, message

# Headers that frame a request or name its host.
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


def check_head(
    target: bytes, headers: Headers, version: str, upgrade: bool, limits: Limits
) -> Response | tuple[int, bool]:
    """The length of the body (0 where it comes in chunks) and whether the client waits for 100, or a refusal.

    The parser has already refused what is not HTTP/1.1, and a length beside chunks.
    """
    hosts = length = 0
    size = len(target)
    expects: bytes | None = None
    chunked = False
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name not in _FRAMING:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
            if value.strip().lower() != b"chunked":
                return message(400, "the only supported transfer-encoding is chunked")
        else:
            expects = value.strip().lower()
    if size > limits.header_bytes:
        return too_large_head(limits)
    if version not in ("1.1", "1.0"):
        return message(400, "only HTTP/1.1 is supported")
    if chunked and version == "1.0":
        return message(400, "HTTP/1.0 has no transfer-encoding")
    if hosts != 1 and (version == "1.1" or hosts > 1):
        return message(400, "a request must have exactly one Host header")
    if not target.isascii():
        return message(400, "the request's target is not ASCII")
    if length > limits.body_bytes:
        return too_large_body(limits)
    if (length or chunked) and upgrade:
        # The parser would treat the body as bytes of the other protocol.
        return message(400, "only HTTP/1.1 is supported; leave the Upgrade header out")
    if expects not in (None, b"100-continue"):
        return message(417, "the only supported expectation is 100-continue")
    return length, expects is not None and version == "1.1"


def too_large_body(limits: Limits) -> Response:
    """The answer to a body over the limit."""
    return message(413, f"the body is larger than {limits.body_bytes} bytes")


def too_large_head(limits: Limits) -> Response:
    """The answer to a head over the limit."""
    return message(431, f"the request's head is larger than {limits.header_bytes} bytes")
