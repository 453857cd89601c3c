"""BYTES tensors in binary data: each element is its length (4 bytes, little-endian), then its bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from edge_server.errors import BadRequest

_LENGTH = struct.Struct("<I")


def split(content: memoryview, count: int, where: str) -> list[str]:
    """The ``count`` strings that ``content`` consists of.

    BadRequest where it is too short, too long, or not UTF-8: the runtime's strings are text.
    """
    # Each element has at least its length, so a huge count is refused before memory is allocated for it.
    if count * _LENGTH.size > len(content):
        raise BadRequest(f"{where} has {len(content)} bytes of binary data, too few for {count} strings")
    found = []
    position = 0
    for number in range(count):
        start = position + _LENGTH.size
        if start > len(content):
            raise BadRequest(f"{where} ends before the length of string {number}")
        (length,) = _LENGTH.unpack_from(content, position)
        position = start + length
        if position > len(content):
            raise BadRequest(f"{where} ends within string {number}, which says that it has {length} bytes")
        found.append(text(content[start:position], f"{where}: string {number}"))
    if position != len(content):
        raise BadRequest(f"{where} has {len(content) - position} bytes after its last string")
    return found


def text(content: memoryview | bytes, where: str) -> str:
    """One element; BadRequest where it is not UTF-8."""
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{where} is not UTF-8, and the engine's strings are") from None


def join(values: Iterable[str]) -> bytes:
    """Strings as binary data."""
    parts = []
    for value in values:
        content = value.encode()
        parts.append(_LENGTH.pack(len(content)))
        parts.append(content)
    return b"".join(parts)
