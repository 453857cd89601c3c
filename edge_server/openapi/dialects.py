"""Translates schemas of OpenAPI 3.0's subset to Swagger 2 and OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keywords whose values are plain values, not schemas.
_VALUES = frozenset(("default", "enum", "example", "required"))
_ALTERNATIVES = ("oneOf", "anyOf")


def translated(schema: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The schema for version ``2``, ``3`` or ``3.1``."""
    if version == "3":
        return dict(schema)
    return _to_31(schema) if version == "3.1" else _to_2(schema)


def _to_2(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Swagger 2 has no alternatives (the usual one is taken) and no null (but a keyword that many tools support)."""
    for keyword in _ALTERNATIVES:
        if keyword in schema:
            rest = {key: value for key, value in schema.items() if key != keyword}
            return _to_2({**schema[keyword][0], **rest})
    translated = _walked(schema, _to_2)
    if translated.pop("nullable", False):
        translated["x-nullable"] = True
        if "enum" in translated:
            translated["enum"] = [choice for choice in translated["enum"] if choice is not None]
    return translated


def _to_31(schema: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.1 has JSON Schema's keywords for null and for examples."""
    translated = _walked(schema, _to_31)
    if translated.pop("nullable", False) and "type" in translated:
        translated["type"] = [translated["type"], "null"]
    if "example" in translated:
        translated["examples"] = [translated.pop("example")]
    return translated


def _walked(schema: Mapping[str, Any], translate: Any) -> dict[str, Any]:
    translated: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _VALUES:
            translated[key] = value
        elif key == "properties":
            translated[key] = {name: translate(inner) for name, inner in value.items()}
        elif isinstance(value, Mapping):
            translated[key] = translate(value)
        elif isinstance(value, list):
            translated[key] = [translate(inner) if isinstance(inner, Mapping) else inner for inner in value]
        else:
            translated[key] = value
    return translated
