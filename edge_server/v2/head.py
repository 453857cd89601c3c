"""The JSON object of an inference: its tensors and the outputs that it requests.

The Open Inference Protocol's "Inference Request JSON Object", and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import MAX_RANK
from edge_server.v2 import datatypes


class Tensor(NamedTuple):
    """One input in the JSON: its elements are ``size`` bytes after the JSON or, where that is None, in ``data``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: int
    size: int | None
    data: Any


class Wanted(NamedTuple):
    """One requested output; of its last axis only the ``top`` largest values, as texts, where that is not 0."""

    name: str
    binary: bool
    top: int = 0


class Head(NamedTuple):
    """A parsed object. ``id`` is None where the client gave none, ``outputs`` where it wants all. ``binary`` is the
    default for outputs. ``method`` names one of the model's.
    """

    id: str | None
    tensors: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] | None
    binary: bool
    method: str | None


def read(content: bytes | memoryview) -> Head:
    """Read the JSON object; BadRequest for what breaks the protocol, naming the field or the tensor."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest('the request must be a JSON object such as {"inputs": [...]}')
    entries = document.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise BadRequest("'inputs' must be a list of at least one tensor")
    tensors: dict[str, Tensor] = {}
    for number, entry in enumerate(entries):
        tensor = _tensor(entry, number)
        if tensor.name in tensors:
            raise BadRequest(f"the input {tensor.name!r:.80} comes twice")
        tensors[tensor.name] = tensor
    parameters = _parameters(document, "the request")
    binary = _flag(parameters, "binary_data_output", False)
    return Head(
        _text(document, "id"), tuple(tensors.values()), _outputs(document, binary), binary, _text(parameters, "method")
    )


_MOST_CLASSES = 1 << 31

# Clients send the same head many times where only binary data differs, and parsing it is most of the time of a small
# request. Heads no longer than LONGEST are cached.
LONGEST = 2048
read_again = lru_cache(maxsize=64)(read)


def _tensor(entry: Any, number: int) -> Tensor:
    name = _name(entry, "inputs", number)
    where = f"input {name!r:.80}"
    size = _parameters(entry, where).get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise BadRequest(f"{where} needs its values in 'data', or 'binary_data_size'")
    elif type(size) is not int or size < 0:
        raise BadRequest(f"'binary_data_size' of {where} must be a whole number of bytes")
    elif "data" in entry:
        raise BadRequest(f"{where} has both 'data' and 'binary_data_size'")
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in datatypes.DTYPES:
        raise datatypes.unknown(datatype, where)
    if datatype == "FP16" and size is None:
        raise BadRequest(f"{where} is FP16, which can only be sent as binary data")
    shape, count = _shape(entry, where)
    if size is not None and datatype != "BYTES":
        needed = count * datatypes.ELEMENTS[datatype].itemsize
        if needed != size:
            raise BadRequest(
                f"{where} has {size} bytes of binary data, its shape {list(shape)} of {datatype} needs {needed}"
            )
    return Tensor(name, datatype, shape, count, size, entry.get("data"))


def _name(entry: Any, field: str, number: int) -> str:
    if not isinstance(entry, dict):
        raise BadRequest(f"{field}[{number}] must be an object")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{field}[{number}].name must be a string")
    return name


def _shape(entry: dict[str, Any], where: str) -> tuple[tuple[int, ...], int]:
    """The shape, and how many elements it has; Python's integers do not overflow."""
    shape = entry.get("shape")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise BadRequest(f"the shape of {where} must be a list of at most {MAX_RANK} whole numbers")
    count = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise BadRequest(f"the shape of {where} has {length!r:.40}, which is not a length")
        count *= length
    return tuple(shape), count


def _parameters(entry: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"'parameters' of {where} must be an object")
    if "shared_memory_region" in parameters:
        raise BadRequest(f"{where} is in shared memory, which this server does not offer")
    return parameters


def _flag(parameters: dict[str, Any], name: str, fallback: bool) -> bool:
    value = parameters.get(name, fallback)
    if not isinstance(value, bool):
        raise BadRequest(f"the parameter {name!r} must be true or false")
    return value


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name!r} must be a string")
    return value


def _outputs(document: dict[str, Any], binary: bool) -> tuple[Wanted, ...] | None:
    entries = document.get("outputs")
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list):
        raise BadRequest("'outputs' must be a list of requested outputs")
    wanted: dict[str, Wanted] = {}
    for number, entry in enumerate(entries):
        name = _name(entry, "outputs", number)
        where = f"output {name!r:.80}"
        if name in wanted:
            raise BadRequest(f"the {where} is requested twice")
        parameters = _parameters(entry, where)
        top = parameters.get("classification", 0)
        if type(top) is not int or not 0 <= top <= _MOST_CLASSES:
            raise BadRequest(f"'classification' of {where} must be a whole number from 1 to {_MOST_CLASSES}")
        wanted[name] = Wanted(name, _flag(parameters, "binary_data", binary), top)
    return tuple(wanted.values())
