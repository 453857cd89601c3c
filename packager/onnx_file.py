"""What can be told of an ONNX file without the onnx package: the outer fields of its protocol buffer.

``ModelProto`` (onnx.proto): ir_version = 1 (varint), graph = 7 and opset_import = 8 (both length-delimited).
"""

from __future__ import annotations

import mmap
from pathlib import Path

from edgepack.errors import UsageError

_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8
_HINT = "export the model again, or check that the copy is complete"


def check_onnx(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is a whole ``ModelProto`` with a graph; costs no time whatever its size."""
    if path.stat().st_size == 0:
        raise UsageError("is empty, not an ONNX model", where=path, hint=_HINT)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            fields = _outer_fields(data)
        except (IndexError, ValueError):
            raise UsageError("is not an ONNX model, or is cut short", where=path, hint=_HINT) from None
    missing = {_IR_VERSION, _GRAPH, _OPSET} - fields
    if missing:
        raise UsageError("is not an ONNX model: it has no graph or no version", where=path, hint=_HINT)


def _outer_fields(data: mmap.mmap) -> set[int]:
    found, at, end = set(), 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise ValueError("field 0")
        found.add(field)
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("wire type")
    if at != end:
        raise ValueError("cut short")
    return found


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("varint")
