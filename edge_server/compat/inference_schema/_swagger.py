"""Samples of plain Python as JSON Schemas, and as the JSON that a client would send."""

from __future__ import annotations

import base64
import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

Schema = dict[str, Any]

ALL_VERSIONS = ("2.0", "3.0", "3.1")

_DATETIME = "%Y-%m-%d %H:%M:%S.%f %z"
_TIME = "%H:%M:%S.%f %z"


class Described(ABC):
    """What has a schema of its own within a sample: every parameter type."""

    @abstractmethod
    def input_to_swagger(self) -> dict[str, Any]:
        """The schema, with an ``example``."""


def schema_of(value: Any) -> Schema:
    """The schema of a sample, without its example. A list is described by its last item that is not null.

    Raises TypeError for what JSON cannot hold.
    """
    if isinstance(value, Described):
        schema = dict(value.input_to_swagger())
        schema.pop("example", None)
        return schema
    if value is None:
        return {"type": "object"}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "format": "int64"}
    if isinstance(value, float):
        return {"type": "number", "format": "double"}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, (bytes, bytearray)):
        return {"type": "string", "format": "byte"}
    if isinstance(value, datetime.datetime):
        return {"type": "string", "format": "date-time"}
    if isinstance(value, datetime.date):
        return {"type": "string", "format": "date"}
    if isinstance(value, datetime.time):
        return {"type": "string", "format": "time"}
    if isinstance(value, dict):
        return {
            "type": "object",
            "required": list(value),
            "properties": {key: schema_of(inner) for key, inner in value.items()},
        }
    if isinstance(value, (list, tuple, range)):
        return {"type": "array", "items": schema_of(typical(value))}
    raise TypeError(
        f"the sample holds {type(value).__name__}, which JSON cannot; use numbers, text, dates, lists and dictionaries"
    )


def typical(items: Iterable[Any]) -> Any:
    """The last item that is not null; nulls in a last dictionary are filled from the dictionaries before it."""
    found = [item for item in items if item is not None]
    if not found or not isinstance(found[-1], dict):
        return found[-1] if found else None
    filled = dict(found[-1])
    for key in [key for key, inner in filled.items() if inner is None]:
        filled[key] = next(
            (item[key] for item in reversed(found) if isinstance(item, dict) and item.get(key) is not None), None
        )
    return filled


def example_of(value: Any) -> Any:
    """The sample as the JSON value that a client sends."""
    if isinstance(value, Described):
        return value.input_to_swagger()["example"]
    if isinstance(value, datetime.datetime):
        return _zoned(value).strftime(_DATETIME)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).strftime(_TIME)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and value - value != 0:  # NaN and infinities are not JSON
        return None
    if isinstance(value, dict):
        return {key: example_of(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [example_of(inner) for inner in value]
    return value


def _zoned(moment: datetime.datetime) -> datetime.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def versions_of(example: Any) -> list[str]:
    """The OpenAPI versions that can describe the example: 2.0 has no arrays of several types."""
    return list(ALL_VERSIONS if _uniform(example) else ALL_VERSIONS[1:])


def _uniform(example: Any) -> bool:
    if isinstance(example, dict):
        return all(map(_uniform, example.values()))
    if isinstance(example, list):
        return len({type(item) for item in example}) <= 1 and all(map(_uniform, example))
    return True
