"""The arguments of ``run``, made from a request in one of three ways."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from edge_server.scripts.json_bodies import is_json_type, read_json

# The longest list of query parameters that is read.
_QUERY_FIELDS = 1000


class RefusedInputError(Exception):
    """The request is not what ``run`` takes: ``status`` and the message are for the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def read_text(body: bytes) -> str:
    """The body as text, whatever its content type; 400 when it is not UTF-8."""
    try:
        return str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise RefusedInputError(f"Input cannot be decoded as UTF-8: {error.reason} at byte {error.start}") from None


def read_query(query: str) -> dict[str, Any]:
    """The query's fields, each value as JSON where it is JSON and as text where not; repeated ones as a list."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS)
    except ValueError:
        raise RefusedInputError(f"The query has more than {_QUERY_FIELDS} fields") from None
    found: dict[str, list[Any]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(_json_or_text(text))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def query_as_text(query: str) -> str:
    """The query's fields as one JSON object, which is what an undecorated ``run`` gets from a GET."""
    return json.dumps(read_query(query))


def _json_or_text(text: str) -> Any:
    try:
        return read_json(text.encode())
    except ValueError:
        return text


def read_object(content_type: str, body: bytes) -> dict[str, Any]:
    """The JSON object in the body; 415 for another content type, 400 for what is not a JSON object."""
    media_type = content_type.partition(";")[0].strip().lower()
    if not is_json_type(media_type):
        sent = f", not {media_type[:80]}" if media_type else ""
        raise RefusedInputError(f"Expects Content-Type to be application/json{sent}", 415)
    if not body:
        raise RefusedInputError("POST body is empty. Expecting a JSON dictionary.")
    try:
        found = read_json(body)
    except ValueError as error:
        raise RefusedInputError(f"POST body could not be decoded as JSON: {error}") from None
    if not isinstance(found, dict):
        raise RefusedInputError("POST body should be a JSON dictionary.")
    return found


def pick_parameters(given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The arguments of a decorated ``run``; 400 for a parameter that has no value.

    Other fields are ignored, as by the server that such scripts were written for: their clients may send them.
    """
    arguments = {}
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if value is inspect.Parameter.empty:
            raise RefusedInputError(f"A value is not provided for the {name!r} parameter.")
        arguments[name] = value
    return arguments


def header_names(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Headers as ``request_headers`` has them: names in title case, repeated ones joined by commas."""
    found: dict[str, str] = {}
    for name, value in headers:
        title = name.title()
        found[title] = f"{found[title]},{value}" if title in found else value
    return found
