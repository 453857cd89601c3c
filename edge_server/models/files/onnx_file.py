"""Whether a file is an ONNX model at all: the outermost fields of its protobuf, without reading what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from edge_server.errors import ConfigurationError

# The field of a ModelProto that holds the graph; the others have numbers up to a few dozen.
_GRAPH = 7
_LAST_FIELD = 100
_VARINT, _BYTES = 0, 2
_MOST_FIELDS = 100_000


def check_onnx(path: Path) -> None:
    """Raise ConfigurationError when the file is no ONNX model, or not a whole one."""
    try:
        with path.open("rb") as file:
            if _has_graph(file, path.stat().st_size):
                return
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read ({error.strerror})"]) from None
    raise ConfigurationError(
        str(path),
        [
            "is not an ONNX file, or not a whole one; convert it (edgepack model convert) "
            "or open it from a script (--entry-script)"
        ],
    )


def _has_graph(file: BinaryIO, size: int) -> bool:
    found = False
    for _ in range(_MOST_FIELDS):
        if file.tell() == size:
            return found
        tag = _varint(file)
        value = None if tag is None else _varint(file)
        if tag is None or value is None or not 0 < tag >> 3 <= _LAST_FIELD or tag & 7 not in (_VARINT, _BYTES):
            return False
        if tag & 7 == _BYTES:
            end = file.tell() + value
            if end > size:
                return False
            file.seek(end)
            found = found or tag >> 3 == _GRAPH
    return False


def _varint(file: BinaryIO) -> int | None:
    """The number at the file's position, None where there is none; of 64 bits at most."""
    number = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
    return None
