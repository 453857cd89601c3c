"""Bodies that are one tensor: its bytes as they lie in memory, or a .npy file."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import location
from edge_server.models.files.manifest import InputSpec

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array

_MAX_RANK = 32
_MAGIC = b"\x93NUMPY"
# numpy's own bound for headers of files that it does not trust.
_MAX_HEADER = 10_000
# numpy.lib.format: a dictionary of these three, as Python writes it.
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?[a-zA-Z]\d{1,9})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,]{0,1000})\)""")


def read_bytes(body: bytes, spec: InputSpec, shape: str | None) -> Array:
    """The tensor of an ``application/octet-stream`` body: row-major little-endian values of the input's dtype.

    ``shape`` is the client's, such as ``1,3,224,224``; without it, one free axis is computed. Raises
    BadRequest when the body has not as many bytes as that.
    """
    dtype = _dtype(spec)
    count, rest = divmod(len(body), dtype.itemsize)
    if rest:
        raise BadRequest(f"the body has {len(body)} bytes, not a multiple of {dtype.itemsize} ({spec.dtype})")
    if not count and shape is None:
        raise BadRequest("the body has no values; where none are meant, add their shape to the query: ?shape=0,4")
    axes = _shape_in_query(shape) if shape is not None else _inferred_shape(spec, count)
    if math.prod(axes) != count:
        raise BadRequest(f"the body has {count} values of {spec.dtype}, the shape {list(axes)} takes {math.prod(axes)}")
    if not count:
        return _nothing(spec.dtype, axes)
    if spec.dtype == "bool":
        _check_truths(body, spec)
    return np.frombuffer(body, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(axes)


def read_npy(body: bytes, spec: InputSpec) -> Array:
    """The array of a .npy file (versions 1 to 3) of numbers, truth values or text; BadRequest for anything else."""
    header, start = _header(body)
    descr, order, shape = _DESCR.search(header), _ORDER.search(header), _SHAPE.search(header)
    if descr is None or order is None or shape is None:
        raise BadRequest(
            "the body is not an .npy file of a plain array: its header has no descr, fortran_order and shape"
        )
    if descr[1].lstrip("<>|=")[0] not in "biufU":
        raise BadRequest(f"the .npy file has values of type {descr[1]!r}, which no model takes")
    try:
        dtype = np.dtype(descr[1])
    except TypeError:
        raise BadRequest(f"the .npy file has values of type {descr[1]!r}, which is not a type of NumPy") from None
    axes = tuple(int(size) for size in shape[1].split(",") if size.strip())
    count = math.prod(axes)
    if len(axes) > _MAX_RANK or not dtype.itemsize:
        raise BadRequest(f"the .npy file has no values, or too many axes: its shape is {shape[1]!r:.80}")
    if count * dtype.itemsize != len(body) - start:
        raise BadRequest(
            f"the .npy file has {len(body) - start} bytes of values, its header takes {count * dtype.itemsize}"
        )
    if not count:
        return _nothing(dtype.newbyteorder("="), axes)
    if dtype.kind == "b":
        _check_truths(body[start:], spec)
    array = np.frombuffer(body, dtype, count, start).astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U":
        _check_characters(array.view(np.uint32))
    return array.reshape(axes, order="F" if order[1] == "True" else "C")


def _nothing(dtype: Any, axes: tuple[int, ...]) -> Array:
    try:
        return np.empty(0, dtype).reshape(axes)
    except ValueError:  # an axis of length 0 beside others that are too long for any machine
        raise BadRequest(f"the shape {list(axes)} is too large") from None


def _header(body: bytes) -> tuple[str, int]:
    if not body.startswith(_MAGIC) or len(body) < 12:
        raise BadRequest("the body is not an .npy file")
    wide = body[6] > 1
    begin = 12 if wide else 10
    length = int.from_bytes(body[8:begin], "little")
    if body[6] not in (1, 2, 3) or length > _MAX_HEADER or begin + length > len(body):
        raise BadRequest("the .npy file has a header that is cut off, too long or of an unknown version")
    return body[begin : begin + length].decode("utf-8", "replace"), begin + length


def _dtype(spec: InputSpec) -> np.dtype[np.generic]:
    if spec.dtype == "string":
        raise BadRequest(f"{location(spec, ())} takes strings, which have no raw form; send JSON", 415)
    return np.dtype(spec.dtype).newbyteorder("<")


def _shape_in_query(text: str) -> tuple[int, ...]:
    sizes = text.split(",") if text else []
    if len(sizes) > _MAX_RANK or not all(size.isascii() and size.isdigit() and len(size) < 16 for size in sizes):
        raise BadRequest(f"'shape' must be whole numbers such as 1,3,224,224, not {text!r:.80}")
    return tuple(map(int, sizes))


def _inferred_shape(spec: InputSpec, count: int) -> tuple[int, ...]:
    axes = spec.shape
    if axes is None or axes.count(None) > 1:
        shown = "an unknown shape" if axes is None else f"the shape {_shown(axes)}"
        raise BadRequest(f"{location(spec, ())} has {shown}; add it to the query, such as ?shape=1,3,224,224")
    fixed = math.prod(size for size in axes if size is not None)
    if None not in axes:
        return tuple(size for size in axes if size is not None)
    if not fixed or count % fixed:
        raise BadRequest(f"the body has {count} values of {spec.dtype}, which do not fill the shape {_shown(axes)}")
    return tuple(count // fixed if size is None else size for size in axes)


def _shown(axes: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in axes)}]"


def _check_characters(codes: Array) -> None:
    # numpy keeps any value; Python's text and UTF-8 do not have such characters.
    if ((codes > sys.maxunicode) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise BadRequest("the .npy file has text of characters that Unicode does not have")


def _check_truths(body: bytes, spec: InputSpec) -> None:
    # Any other byte is not a valid boolean, and the runtime's behaviour is undefined.
    if max(body) > 1:
        raise BadRequest(f"{location(spec, ())} takes the bytes 0 and 1 for false and true")
