"""W3C Trace Context (Recommendation, level 1): which trace a request is part of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# Section 3.2.2: lower case only; later versions may append fields, which are not read.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION = b"00"
_FORBIDDEN_VERSION = b"ff"

# Section 3.3.1: at most 32 members, separated by commas.
_MEMBERS = 32
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"(" + _KEY + rb")=" + _VALUE)


class Trace:
    """The trace of a request: hexadecimal ids as they are written in headers and logs.

    ``span_id`` is ours where spans are exported (``span``), else that of the caller. ``state`` is what other systems
    added.
    """

    __slots__ = ("flags", "span", "span_id", "state", "trace_id")

    def __init__(self, trace_id: str, span_id: str, flags: int, state: str = "", span: Any = None) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.state = state
        self.span = span

    @property
    def parent(self) -> bytes:
        """The header ``traceparent`` for services that are called next."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & 1:02x}".encode()


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace that a request's headers name; None when they name none, or not as the standard demands.

    An invalid ``tracestate`` is dropped and the rest kept (section 3.3.1.5).
    """
    parent = None
    states: list[bytes] | None = None
    for name, value in headers:
        if name == b"traceparent":
            if parent is not None:
                return None
            parent = value
        elif name == b"tracestate":
            states = [value] if states is None else [*states, value]
    if parent is None:
        return None
    match = _PARENT.fullmatch(parent.strip(b" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == _FORBIDDEN_VERSION or (version == _VERSION and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return Trace(trace_id.decode(), span_id.decode(), int(flags, 16), _state(states or []))


def _state(headers: list[bytes]) -> str:
    members = [member.strip(b" \t") for header in headers for member in header.split(b",")]
    members = [member for member in members if member]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = [match.group(1) for match in matches if match is not None]
    if len(keys) < len(members) or len(members) > _MEMBERS or len(set(keys)) < len(keys):
        return ""
    return b",".join(members).decode()
