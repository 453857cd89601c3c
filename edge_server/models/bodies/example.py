"""A body for POST /score that the model answers, for descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from edge_server.models.bodies.frames import Columns, columns_of
from edge_server.models.files.manifest import InputSpec, Manifest


def example_body(inputs: Sequence[InputSpec], manifest: Manifest | None, columns: Columns | None) -> dict[str, Any]:
    """The first of the golden inputs, else values made for the inputs.

    One row in ``data`` for a single input, a record where every input is a column, else ``inputs`` by name.
    """
    values = _golden(manifest) or {}
    given = {}
    for spec in inputs:
        if spec.name in values:
            value = values[spec.name]
            free = spec.shape is not None and spec.shape[:1] == (None,)
            given[spec.name] = value[:1] if free and isinstance(value, list) else value
        elif not spec.unused and (len(inputs) == 1 or not spec.optional):
            given[spec.name] = _made(spec)
    if len(inputs) == len(given) == 1:
        return {"data": given[inputs[0].name]}
    if columns is not None and all(columns_of(spec, len(inputs)) == 1 for spec in inputs):
        return {"data": [_record(given, inputs)]}
    return {"inputs": given}


def _record(given: Mapping[str, Any], inputs: Sequence[InputSpec]) -> dict[str, Any]:
    names = {spec.name: (spec.columns or (spec.name,))[0] for spec in inputs}
    # A table of one column may have been written as a plain list.
    firsts = {name: value[0] for name, value in given.items()}
    return {names[name]: first[0] if isinstance(first, list) else first for name, first in firsts.items()}


def _golden(manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None or manifest.golden is None:
        return None
    try:
        inputs = orjson.loads(manifest.golden.path.read_bytes())["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the file was checked at the start; a missing example is not an error
    return inputs if isinstance(inputs, dict) else None


def _made(spec: InputSpec) -> Any:
    value = _value(spec)
    for size in reversed((None,) if spec.shape is None else spec.shape):
        value = [value] * (1 if size is None else size)
    return value


def _value(spec: InputSpec) -> Any:
    if spec.categories:
        return spec.categories[0]
    if spec.dtype == "string":
        return "text"
    if spec.dtype == "bool":
        return False
    if spec.dtype.startswith("float"):
        return 0.5
    return max(0, spec.minimum or 0) if spec.maximum is None else min(spec.maximum, max(0, spec.minimum or 0))
