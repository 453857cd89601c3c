"""Schemas of OpenAPI 3.0's subset in the words of Swagger 2 and of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keywords whose values are values of the described kind, and no schemas.
_VALUES = frozenset(("default", "enum", "example", "required"))
_ALTERNATIVES = ("oneOf", "anyOf")


def translated(schema: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The schema for version `2`, `3` or `3.1`."""
    if version == "3":
        return dict(schema)
    return _to_31(schema) if version == "3.1" else _to_2(schema)


def _to_2(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Swagger 2 knows no alternatives (the usual one is told) and no null (but by a word that many tools know)."""
    for keyword in _ALTERNATIVES:
        if keyword in schema:
            rest = {key: value for key, value in schema.items() if key != keyword}
            return _to_2({**schema[keyword][0], **rest})
    told = _walked(schema, _to_2)
    # Newer versions of inference-schema say so of arrays; the specification's example does not.
    if told.get("format") == "numpy.ndarray":
        del told["format"]
    if told.pop("nullable", False):
        told["x-nullable"] = True
        if "enum" in told:
            told["enum"] = [choice for choice in told["enum"] if choice is not None]
    return told


def _to_31(schema: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.1 has JSON Schema's own words for null and for examples."""
    told = _walked(schema, _to_31)
    if told.pop("nullable", False) and "type" in told:
        told["type"] = [told["type"], "null"]
    if "example" in told:
        told["examples"] = [told.pop("example")]
    return told


def _walked(schema: Mapping[str, Any], translate: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _VALUES:
            told[key] = value
        elif key == "properties":
            told[key] = {name: translate(inner) for name, inner in value.items()}
        elif isinstance(value, Mapping):
            told[key] = translate(value)
        elif isinstance(value, list):
            told[key] = [translate(inner) if isinstance(inner, Mapping) else inner for inner in value]
        else:
            told[key] = value
    return told
