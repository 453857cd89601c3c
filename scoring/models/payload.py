"""The body of /score: what a client asks, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from scoring.errors import BadRequest

_FIELDS = {"data", "inputs", "method"}


@dataclass(frozen=True)
class Request:
    """A parsed body: rows in `data`, or values by input name in `inputs`; never both."""

    data: Any
    inputs: dict[str, Any] | None
    method: str | None


def parse(body: bytes | bytearray) -> Request:
    """Parse a /score body.

    Raises BadRequest for what is not UTF-8 JSON, not an object, or has other fields than `data` or
    `inputs`, and `method`.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest('the body must be a JSON object such as {"data": [[1, 2, 3]]}')
    unknown = sorted(document.keys() - _FIELDS)
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r:.80}; a body has 'data' or 'inputs', and 'method'")
    if ("data" in document) == ("inputs" in document):
        raise BadRequest("the body must have either 'data' or 'inputs'")
    inputs = document.get("inputs")
    if "inputs" in document and not isinstance(inputs, dict):
        raise BadRequest("'inputs' must be an object of input names and values")
    method = document.get("method")
    if method is not None and not isinstance(method, str):
        raise BadRequest("'method' must be a string")
    return Request(document.get("data"), inputs, method)


def dump(answer: Any) -> bytes:
    """JSON of an answer; arrays become nested lists, NaN and infinity null."""
    return orjson.dumps(answer, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    # What orjson does not write by itself: arrays of strings, and arrays that are not contiguous.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
