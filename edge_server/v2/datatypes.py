"""V2's datatypes, and ours and numpy's for each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from edge_server.errors import BadRequest

_NAMES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64", "string": "BYTES"}
_NAMES |= {f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)}

# V2's name of each of our dtypes (edge_server.models.files.manifest.DTYPES), and the other way round.
DATATYPES: Mapping[str, str] = MappingProxyType(_NAMES)
DTYPES: Mapping[str, str] = MappingProxyType({datatype: dtype for dtype, datatype in _NAMES.items()})

# One element in binary data: little-endian, like all machines with an ONNX Runtime. BYTES have
# no fixed size.
ELEMENTS: Mapping[str, np.dtype] = MappingProxyType(
    {datatype: np.dtype(dtype) for dtype, datatype in _NAMES.items() if dtype != "string"}
)

# Looked up by the arrays' dtype: a dtype's name is computed at each use.
_OF: Mapping[np.dtype, str] = {kind: datatype for datatype, kind in ELEMENTS.items()}
_UNSIZED = ("BYTES", "BOOL")
_DIGITS = "0123456789"


def unknown(datatype: object, where: str) -> BadRequest:
    """The refusal of a datatype that V2 or this server does not have."""
    if datatype == "BF16":
        return BadRequest(f"{where} is BF16, which this server does not read; send FP32")
    return BadRequest(f"{where} has the datatype {datatype!r:.80}; V2 has {', '.join(sorted(DTYPES))}")


def of(kind: np.dtype) -> str | None:
    """V2's name of an array's dtype, None where there is none."""
    return _OF.get(kind) or ("BYTES" if kind.kind in "OU" else None)


def fits(array: np.ndarray, dtype: str) -> bool:
    """Whether an array has the dtype of ours; Python objects are the runtime's strings."""
    return array.dtype == ELEMENTS.get(DATATYPES[dtype], object)


def widens(given: str, wanted: str) -> bool:
    """Whether all elements of one datatype are some of the other's too: numbers of the same kind in more bytes."""
    if given in _UNSIZED or wanted in _UNSIZED:
        return False
    return given.rstrip(_DIGITS) == wanted.rstrip(_DIGITS) and ELEMENTS[given].itemsize < ELEMENTS[wanted].itemsize
