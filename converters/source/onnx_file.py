"""What can be told of an ONNX file without the onnx package, by walking its protocol buffer.

The numbers of the fields are those of onnx.proto: in ``ModelProto`` ir_version = 1, graph = 7, opset_import = 8; in
``GraphProto`` initializer = 5; in ``TensorProto`` external_data = 13, of which key = 1 and value = 2.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgepack.errors import UsageError

_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8
_INITIALIZER = 5
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
_HINT = "export the model again, or check that the copy is complete"
_BROKEN = "is not an ONNX model, or is cut short"


def check_onnx(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is a whole ``ModelProto`` with a graph; costs no time whatever its size."""
    if path.stat().st_size == 0:
        raise UsageError("is empty, not an ONNX model", where=path, hint=_HINT)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = {number for number, _, _ in _fields(data, 0, len(data))}
        except (IndexError, ValueError):
            raise UsageError(_BROKEN, where=path, hint=_HINT) from None
    if {_IR_VERSION, _GRAPH, _OPSET} - found:
        raise UsageError("is not an ONNX model: it has no graph or no version", where=path, hint=_HINT)


def external_files(path: Path) -> frozenset[str]:
    """The files in which the model keeps weights outside of itself, relative to its folder; raises ``UsageError``."""
    found = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for item in _inside(data, [(0, len(data))], _GRAPH, _INITIALIZER, _EXTERNAL_DATA):
                pair = {number: data[start:end] for number, start, end in _fields(data, *item)}
                if pair.get(_KEY) == b"location":
                    found.add(pair.get(_VALUE, b"").decode("utf-8", "replace"))
        except (IndexError, ValueError):
            raise UsageError(_BROKEN, where=path, hint=_HINT) from None
    return frozenset(found)


def _inside(data: mmap.mmap, messages: list[tuple[int, int]], *path: int) -> Iterator[tuple[int, int]]:
    """Where the messages lie that ``path``, field by field, leads to."""
    for start, end in messages:
        for number, first, last in _fields(data, start, end):
            if number == path[0]:
                yield from _inside(data, [(first, last)], *path[1:]) if path[1:] else [(first, last)]


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field's value; raises ``ValueError`` or ``IndexError`` for what is no message."""
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("field 0")
        if wire == 0:
            _, last = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            last = at + length
        elif wire in (1, 5):
            last = at + (8 if wire == 1 else 4)
        else:
            raise ValueError("wire type")
        if last > end:
            raise ValueError("cut short")
        yield number, at, last
        at = last


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("varint")
