"""The JSON body of /score, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from edge_server.errors import BadRequest

# The fields that hold rows: ours, and those that servers of MLflow models take.
_ROWS = ("data", "input_data", "dataframe_split", "dataframe_records", "instances")
_FIELDS = {*_ROWS, "inputs", "method"}
_MLFLOW = "or one of 'dataframe_split', 'dataframe_records', 'instances' and 'input_data', as MLflow's clients send"
_EXAMPLE = '{"data": [[1, 2, 3]]}'


@dataclass(slots=True)
class ParsedBody:
    """A parsed body: rows or a data frame in ``data``, which the client wrote in ``field``; or values by name in
    ``inputs``.

    ``inputs`` is None where the rows are in ``data``.
    """

    data: Any
    field: str
    inputs: dict[str, Any] | None
    method: str | None


def parse(body: bytes | bytearray) -> ParsedBody:
    """Parse a /score body; raises BadRequest as ``load`` and ``ask`` do."""
    return interpret(load(body))


def load(body: bytes | bytearray, example: str = _EXAMPLE) -> dict[str, Any]:
    """The object that a body holds, such as ``example``; where it has a field twice, the last one counts.

    Raises BadRequest for what is not UTF-8 JSON or not an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_no_json(bytes(body), error, example)) from None
    if type(document) is not dict:
        raise BadRequest(f"the body must be a JSON object such as {example}")
    return document


def _no_json(body: bytes, error: Exception, example: str) -> str:
    if not body.strip():
        return f"the body is empty; send an object such as {example}"
    import re

    # As a whole value: what Python and JavaScript write for numbers that JSON does not have. What stands before it is
    # looked at last: only a pattern that begins with fixed letters is searched for at the speed of memory.
    for number in (rb"NaN", rb"-Infinity", rb"Infinity"):
        if re.search(rb"%s(?<=[\[:,\s]%s)\s*[\],}]" % (number, number), body) is not None:
            return f"{number.decode()} is not JSON; send null"
    return f"the body is not JSON: {error}"


def interpret(document: dict[str, Any]) -> ParsedBody:
    """Interpret the object of a body; BadRequest for fields beside one of values and ``method``."""
    if len(document) == 1 and "data" in document:
        return ParsedBody(document["data"], "data", None, None)
    unknown = sorted(document.keys() - _FIELDS)
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r:.80}; a body has 'data' or 'inputs', {_MLFLOW}, and 'method'")
    method = document.pop("method", None)
    if method is not None and not isinstance(method, str):
        raise BadRequest("'method' must be a string")
    if len(document) != 1:
        raise BadRequest("the body must have either 'data' or 'inputs'")
    field, value = document.popitem()
    if field == "inputs":
        # MLflow's clients send rows here, too.
        if isinstance(value, list):
            return ParsedBody(value, field, None, method)
        if not isinstance(value, dict):
            raise BadRequest("'inputs' must be an object of input names and values, or a list of rows")
        return ParsedBody(None, field, value, method)
    if field == "dataframe_split" and not (isinstance(value, dict) and value.keys() >= {"columns", "data"}):
        raise BadRequest("'dataframe_split' must be an object with 'columns' and 'data'")
    if field == "dataframe_records" and not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        raise BadRequest("'dataframe_records' must be a list of objects")
    return ParsedBody(value, field, None, method)
