"""Which inputs and outputs of a graph are scalars: the runtime shows no axes for them, and for any number of axes too.

Read from the file's protobuf. Source: onnx.proto for the numbers of fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edge_server.models.files.protobuf import BYTES, read_fields

# Numbers of the fields, by message.
_MODEL_GRAPH = 7
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TYPE_OPTIONAL = 1, 9
_OPTIONAL_OF = 1
_TENSOR_SHAPE = 2
_SHAPE_AXIS = 1


def scalars(path: Path) -> frozenset[str]:
    """The names of inputs and outputs that declare a shape without axes; none where the file cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return frozenset(_scalars(content))
    except (OSError, ValueError):  # not a protobuf, or one that the runtime reads differently
        return frozenset()


def _scalars(model: mmap.mmap) -> Iterator[str]:
    for start, end in _parts(model, 0, len(model), _MODEL_GRAPH):
        for first, last in _parts(model, start, end, _GRAPH_INPUT, _GRAPH_OUTPUT):
            if _is_scalar(model, first, last):
                for begin, stop in _parts(model, first, last, _VALUE_NAME):
                    yield model[begin:stop].decode("utf-8", "replace")


def _is_scalar(model: mmap.mmap, start: int, end: int) -> bool:
    declared = False
    for first, last in _parts(model, start, end, _VALUE_TYPE):
        for begin, stop in (*_parts(model, first, last, _TYPE_TENSOR), *_of_optional(model, first, last)):
            for shape, after in _parts(model, begin, stop, _TENSOR_SHAPE):
                if any(_parts(model, shape, after, _SHAPE_AXIS)):
                    return False
                declared = True
    return declared


def _of_optional(model: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The tensor's type of an optional one."""
    for first, last in _parts(model, start, end, _TYPE_OPTIONAL):
        for begin, stop in _parts(model, first, last, _OPTIONAL_OF):
            yield from _parts(model, begin, stop, _TYPE_TENSOR)


def _parts(model: mmap.mmap, start: int, end: int, *numbers: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each field of these numbers that holds bytes."""
    for field in read_fields(model, start, end):
        if field.kind == BYTES and field.number in numbers:
            yield field.start, field.end
