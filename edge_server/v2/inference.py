"""The body of ``…/infer``: JSON, followed by binary tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_server.errors import BadRequest
from edge_server.models.bodies.raw import read_bytes
from edge_server.models.bodies.tensors import Reader
from edge_server.models.files.manifest import InputSpec, Rejects
from edge_server.v2 import datatypes, head, strings
from edge_server.v2.head import Head, Tensor

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array

_NOTHING = Rejects()  # the model's own limits are checked later, for all tensors alike


class Inference(NamedTuple):
    """A parsed request: its JSON, and the arrays. ``tensors`` have the client's names, shapes and datatypes; those of
    binary data are views of the body where its bytes allow.
    """

    head: Head
    tensors: dict[str, Array]


def parse(body: bytes, header_length: bytes | None) -> Inference | None:
    """Read a whole body; ``header_length`` is the header Inference-Header-Content-Length, None where it is missing.
    None where that is 0: ``raw`` reads such a body.

    Raises BadRequest for what breaks the protocol, naming the field or the tensor. Memory is allocated for the bytes
    that came, never by a shape alone.
    """
    position = len(body)
    if header_length is not None:
        position = _size(header_length, position)
    if position == len(body):
        if header_length is not None and not position:
            return None
        said = head.read(body)
    elif not position:
        return None
    elif position <= head.LONGEST:
        said = head.read_again(body[:position])
    else:
        said = head.read(memoryview(body)[:position])
    tensors: dict[str, Array] = {}
    for tensor in said.tensors:
        size = tensor.size
        if size is None:
            tensors[tensor.name] = _from_json(tensor)
            continue
        left = len(body) - position
        if size > left:
            raise BadRequest(f"{_input(tensor)} has {size} bytes of binary data, the body has {left} left for it")
        tensors[tensor.name] = _from_bytes(tensor, body, position, size)
        position += size
    if position != len(body):
        raise BadRequest(f"the body has {len(body) - position} bytes after the last binary tensor")
    return Inference(said, tensors)


def raw(body: bytes, spec: InputSpec) -> Inference:
    """Read a body that is nothing but the elements of a model's only input; its answer is binary data.

    Triton's "Raw Binary Request", which Inference-Header-Content-Length 0 announces. The one free axis is computed. Of
    BYTES the whole body is one element. Raises BadRequest for a body that does not fill the input's shape.
    """
    if spec.dtype == "string":
        shape = tuple(1 if size is None else size for size in spec.shape or (1,))
        if any(size != 1 for size in shape):
            raise BadRequest(f"the body is one string, and the model takes {list(shape)} of them")
        array: Array = np.array([strings.text(body, "the body")], dtype=object).reshape(shape)
    else:
        if not body:
            raise BadRequest("the body has no values")
        array = read_bytes(body, spec, None)
    return Inference(Head(None, (), None, True, None), {spec.name: array})


def _size(value: bytes, total: int) -> int:
    if not value.isdigit() or len(value) > 19:
        raise BadRequest("Inference-Header-Content-Length must be a whole number of bytes")
    size = int(value)
    if size > total:
        raise BadRequest(f"Inference-Header-Content-Length is {size}, the body has {total} bytes")
    return size


def _from_bytes(tensor: Tensor, body: bytes, position: int, size: int) -> Array:
    count = tensor.elements
    if tensor.datatype == "BYTES":
        texts = strings.split(memoryview(body)[position : position + size], count, _input(tensor))
        return _reshaped(np.array(texts, dtype=object), tensor)
    array = np.frombuffer(body, datatypes.ELEMENTS[tensor.datatype], count, position)
    if tensor.datatype == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise BadRequest(f"{_input(tensor)} has bytes other than 0 and 1, which BOOL does not allow")
    # The JSON before it may have any length, and the runtime's kernels need aligned elements.
    return _reshaped(array if array.flags.aligned else array.copy(), tensor)


def _from_json(tensor: Tensor) -> Array:
    data, shape, count = tensor.data, tensor.shape, tensor.elements
    if not shape and isinstance(data, list) and len(data) == 1 and not isinstance(data[0], list):
        data = data[0]  # a scalar's data is a list too, as of every tensor
    nested = not isinstance(data, list) or not shape or (bool(data) and isinstance(data[0], list))
    if not nested and len(data) != count:
        raise BadRequest(f"{_input(tensor)} has {len(data)} values, its shape {list(shape)} needs {count}")
    if not count:
        return _reshaped(np.empty(0, datatypes.ELEMENTS.get(tensor.datatype, object)), tensor)
    # The tensor is checked against its own datatype and shape, as a model's input is against the model's.
    spec = InputSpec(tensor.name, tensor.name, datatypes.DTYPES[tensor.datatype], shape)
    reader = Reader(spec, _NOTHING)
    try:
        return reader.read(data) if nested else reader.read_flat(data, shape)
    except BadRequest:
        if nested or tensor.datatype != "BYTES" or not all(isinstance(item, (int, float)) for item in data):
            raise
        # Numbers with the datatype BYTES: refused later, where the error can say what the model takes.
        return _reshaped(np.fromiter(data, object, count), tensor)


def _reshaped(array: Array, tensor: Tensor) -> Array:
    try:
        return array.reshape(tensor.shape)
    except ValueError:  # an axis of length 0 beside others that are too long for any machine
        raise BadRequest(f"the shape {list(tensor.shape)} of {_input(tensor)} is too large") from None


def _input(tensor: Tensor) -> str:
    return f"input {tensor.name!r:.80}"
