"""Whether a file is an ONNX model: checks the outermost fields of its protobuf, not their contents."""

from __future__ import annotations

import mmap
from pathlib import Path

from edge_server.errors import ConfigurationError
from edge_server.models.files.protobuf import BYTES, VARINT, MalformedError, read_fields

# The field of a ModelProto that holds the graph; the others have numbers up to a few dozen.
_GRAPH = 7
_LAST_FIELD = 100
_MOST_FIELDS = 100_000


def check_onnx(path: Path) -> None:
    """Raise ConfigurationError when the file is not an ONNX model, or is incomplete."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size:  # else there is nothing to map
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    if _has_graph(content):
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


def _has_graph(content: mmap.mmap) -> bool:
    found = False
    try:
        for count, field in enumerate(read_fields(content, 0, len(content))):
            if not 0 < field.number <= _LAST_FIELD or field.kind not in (VARINT, BYTES) or count >= _MOST_FIELDS:
                return False
            found = found or (field.kind == BYTES and field.number == _GRAPH)
    except MalformedError:
        return False
    return found
