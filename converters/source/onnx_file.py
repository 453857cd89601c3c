"""What can be read of an ONNX file without the onnx package, by walking its protocol buffer.

The numbers of the fields are those of onnx.proto. Nothing is copied but names, whatever the size of the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgepack.errors import UsageError

# ModelProto.
_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8
# TensorProto.external_data, whose entries have a key and a value.
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
# Where tensors lie: message -> number of a field -> the message in it.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {_GRAPH: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {_EXTERNAL_DATA: "entry"},
}
# A file of a few gigabytes may have more fields than anybody waits for. Real models have thousands.
MAX_FIELDS = 10_000_000
_HINT = "export the model again, or check that the copy is complete"
_BROKEN = "is not an ONNX model, or is cut short"


def check_onnx(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is a whole ``ModelProto`` with a graph; costs no time whatever its size."""
    if path.stat().st_size == 0:
        raise UsageError("is empty, not an ONNX model", where=path, hint=_HINT)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = {number for number, _, _ in _Walk(data).fields(0, len(data))}
        except (IndexError, ValueError):
            raise UsageError(_BROKEN, where=path, hint=_HINT) from None
    if {_IR_VERSION, _GRAPH, _OPSET} - found:
        raise UsageError("is not an ONNX model: it has no graph or no version", where=path, hint=_HINT)


def external_files(path: Path) -> frozenset[str]:
    """The files in which the model keeps weights outside of itself, relative to its folder.

    Those of initializers, of nodes' attributes, of inner graphs and of functions. Raises ``UsageError`` for a file that
    is not an ONNX model, or has more than ``MAX_FIELDS`` fields.
    """
    if path.stat().st_size == 0:
        return frozenset()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"location") < 0:  # in most models, and much faster than the walk
            return frozenset()
        try:
            return frozenset(_Walk(data).locations())
        except (IndexError, ValueError):
            raise UsageError(_BROKEN, where=path, hint=_HINT) from None


class _Walk:
    """A walk over the messages in ``data``, of ``MAX_FIELDS`` fields at most."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._left = MAX_FIELDS

    def locations(self) -> Iterator[str]:
        """The ``location`` of every tensor that is kept outside."""
        pending = [("model", 0, len(self._data))]
        while pending:
            message, start, end = pending.pop()
            if message == "entry":
                pair = {number: self._data[first:last] for number, first, last in self.fields(start, end)}
                if pair.get(_KEY) == b"location":
                    yield pair.get(_VALUE, b"").decode("utf-8", "replace")
                continue
            inner = _MESSAGES[message]
            pending += [(inner[number], a, b) for number, a, b in self.fields(start, end) if number in inner]

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field's value; ``ValueError`` or ``IndexError`` for what is not a message."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("too many fields")
            key, at = self._varint(at)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise ValueError("field 0")
            if wire == 0:
                _, last = self._varint(at)
            elif wire == 2:
                length, at = self._varint(at)
                last = at + length
            elif wire in (1, 5):
                last = at + (8 if wire == 1 else 4)
            else:
                raise ValueError("wire type")
            if last > end:
                raise ValueError("cut short")
            yield number, at, last
            at = last

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value, at
        raise ValueError("varint")
