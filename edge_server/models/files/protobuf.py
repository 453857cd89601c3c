"""Finds the fields of a protobuf message without its schema.

The server has no protobuf library, since it needs little of a model's file, and no weights. Source: the
encoding that protobuf.dev describes under "Encoding".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes of a number of 64 bits


class MalformedError(ValueError):
    """The bytes are not a complete message."""


class Field(NamedTuple):
    """A field's number, the kind of its value on the wire, and where that begins and ends."""

    number: int
    kind: int
    start: int
    end: int


def read_fields(data: mmap.mmap | bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between ``start`` and ``end``, in order.

    Raises MalformedError at the point where the message is invalid.
    """
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        kind = tag & 7
        if kind == VARINT:
            _, after = _varint(data, place, end)
        elif kind == BYTES:
            size, place = _varint(data, place, end)
            after = place + size
        elif kind in (FIXED_32, FIXED_64):
            after = place + (4 if kind == FIXED_32 else 8)
        else:
            raise MalformedError(f"kind {kind} at byte {place}")
        if after > end:
            raise MalformedError(f"the field at byte {place} goes beyond the end")
        yield Field(tag >> 3, kind, place, after)
        place = after


def _varint(data: mmap.mmap | bytes, place: int, end: int) -> tuple[int, int]:
    """The number at ``place``, and the position after it."""
    value = 0
    for length in range(_LONGEST_VARINT):
        if place + length >= end:
            raise MalformedError("a number is cut off")
        byte = data[place + length]
        value |= (byte & 127) << 7 * length
        if byte < 128:
            return value, place + length + 1
    raise MalformedError(f"the number at byte {place} is too long")
