"""What a server asks of decorated functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _registry
from ._swagger import ALL_VERSIONS


def get_input_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """The schema of an object of all decorated parameters, with its example; ``{"type": "object"}`` without any."""
    entry = _registry.ENTRIES.get(_registry.key_of(func))
    return entry.input_schema if entry and entry.input_schema is not None else {"type": "object"}


def get_output_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """The schema of the answer, with its example; ``{"type": "object"}`` without any."""
    entry = _registry.ENTRIES.get(_registry.key_of(func))
    return entry.output_schema if entry and entry.output_schema is not None else {"type": "object"}


def get_supported_versions(func: Callable[..., Any]) -> list[str]:
    """The OpenAPI versions that can describe the function."""
    entry = _registry.ENTRIES.get(_registry.key_of(func))
    return list(entry.versions if entry else ALL_VERSIONS)


def get_schemas_dict() -> dict[str, dict[str, Any]]:
    """The schemas of every decorated function, by module and qualified name."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in _registry.ENTRIES.items():
        found[name] = {}
        if entry.output_schema is not None:
            found[name]["output_schema"] = entry.output_schema
        if entry.input_schema is not None:
            found[name]["input_schema"] = entry.input_schema
    return found


def is_schema_decorated(func: Callable[..., Any]) -> bool:
    """Whether the function has any of the two decorators."""
    return _registry.key_of(func) in _registry.ENTRIES
