"""The JSON body of /score: what a client asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from scoring.errors import BadRequest

# The fields that hold rows: ours, and those that servers of MLflow models take.
_ROWS = ("data", "input_data", "dataframe_split", "dataframe_records", "instances")
_FIELDS = {*_ROWS, "inputs", "method"}
_HINT = 'the body must be a JSON object such as {"data": [[1, 2, 3]]}'


@dataclass(slots=True)
class Asked:
    """A parsed body: rows or a data frame in `data`, which the client wrote in `field`; or values by name in `inputs`.

    `inputs` is None where the rows are in `data`.
    """

    data: Any
    field: str
    inputs: dict[str, Any] | None
    method: str | None


def parse(body: bytes | bytearray) -> Asked:
    """Parse a /score body; raises BadRequest as `load` and `ask` do."""
    return ask(load(body))


def load(body: bytes | bytearray) -> dict[str, Any]:
    """The object that a body holds; where it has a field twice, the last one counts.

    Raises BadRequest for what is not UTF-8 JSON or not an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise BadRequest(_HINT)
    return document


def ask(document: dict[str, Any]) -> Asked:
    """What the object of a body asks for; BadRequest for other fields than one of values and `method`."""
    if len(document) == 1 and "data" in document:
        return Asked(document["data"], "data", None, None)
    unknown = sorted(document.keys() - _FIELDS)
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r:.80}; a body has 'data' or 'inputs', and 'method'")
    method = document.pop("method", None)
    if method is not None and not isinstance(method, str):
        raise BadRequest("'method' must be a string")
    if len(document) != 1:
        raise BadRequest("the body must have either 'data' or 'inputs'")
    field, value = document.popitem()
    if field == "inputs":
        if not isinstance(value, dict):
            raise BadRequest("'inputs' must be an object of input names and values")
        return Asked(None, field, value, method)
    if field == "dataframe_split" and not (isinstance(value, dict) and value.keys() >= {"columns", "data"}):
        raise BadRequest("'dataframe_split' must be an object with 'columns' and 'data'")
    if field == "dataframe_records" and not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        raise BadRequest("'dataframe_records' must be a list of objects")
    return Asked(value, field, None, method)
