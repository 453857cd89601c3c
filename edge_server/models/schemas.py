"""A model's inputs and outputs as JSON Schemas of OpenAPI 3.0's subset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_server.models.bodies.frames import Columns
from edge_server.models.files.manifest import InputSpec, OutputSpec, Rejects

Schema = dict[str, Any]

# How many names and values are listed; a description is read by people.
SHOWN = 50
# A table with more columns than that is described by rows only.
_RECORD_COLUMNS = 200

_NUMBERS: Mapping[str, Schema] = {
    "float16": {"type": "number", "format": "float"},
    "float32": {"type": "number", "format": "float"},
    "float64": {"type": "number", "format": "double"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
}


def body(inputs: Sequence[InputSpec], rejects: Rejects, methods: Sequence[str]) -> Schema:
    """The JSON bodies of POST /score: alternatives, the usual one first, as is the first of ``methods``."""
    used = [spec for spec in inputs if not spec.unused]
    by_rows = _rows(inputs, rejects)
    # No rows are the same in both forms, of which exactly one is to match.
    by_records = _records(inputs, rejects, least_rows(rejects) if by_rows is None else 1)
    by_name = {
        "type": "object",
        "properties": {spec.name: _described(spec, tensor(spec, rejects)) for spec in inputs},
        "required": [spec.name for spec in used if not spec.optional],
        "additionalProperties": False,
    }
    found = [("Rows", "data", by_rows), ("Records", "data", by_records), ("Inputs by name", "inputs", by_name)]
    if len(inputs) > 1:
        # Columns of several types, or inputs that are not tables: names are clearer than positions.
        wide = any(spec.width != 1 for spec in inputs)
        found = [found[2], found[1], found[0]] if wide else [found[1], found[2], found[0]]
    forms = [_form(title, field, schema, methods) for title, field, schema in found if schema is not None]
    return {"oneOf": forms} if len(forms) > 1 else forms[0]


def answer(outputs: Sequence[OutputSpec], methods: Mapping[str, Sequence[str]], default: str | None) -> Schema:
    """The answers of POST /score: alternatives where methods answer differently, that of the usual method first."""
    by_name = {output.name: output for output in outputs}
    names = [list(by_name)] if default is None else [methods[default], *methods.values()]
    schemas: list[Schema] = []
    for answered in names:
        values = {name: _output(by_name[name]) for name in answered}
        schema = (
            next(iter(values.values()))
            if len(values) == 1
            else {"type": "object", "properties": values, "required": list(values)}
        )
        if schema not in schemas:
            schemas.append(schema)
    return {"anyOf": schemas} if len(schemas) > 1 else schemas[0]


def tensor(spec: InputSpec, rejects: Rejects) -> Schema:
    """Nested arrays as deep as the input's shape."""
    if spec.shape is None:
        return {"description": "nested lists, of any depth"}
    missing = takes_missing(spec, rejects)
    schema = _nested(spec.shape, value(spec, nullable=missing), spec.columns, least_rows(rejects))
    # A row's schema is the same for all of its values.
    if missing and spec.complete and spec.columns is not None and spec.width is not None:
        complete = listed(spec.columns[position] for position in spec.complete)
        schema["items"]["description"] += f"; never null: {complete}"
    return schema


def value(spec: InputSpec, *, nullable: bool) -> Schema:
    """One value of the input."""
    schema = _scalar(spec.dtype)
    if spec.minimum is not None:
        schema["minimum"] = spec.minimum
    if spec.maximum is not None:
        schema["maximum"] = spec.maximum
    if spec.only is not None and len(spec.only) <= SHOWN:
        schema["enum"] = sorted(spec.only, key=lambda choice: (str(type(choice)), choice))
    if nullable:
        schema["nullable"] = True
        if "enum" in schema:
            schema["enum"].append(None)
    return schema


def least_rows(rejects: Rejects) -> int:
    """How few rows a request may have."""
    return 1 if rejects.empty else 0


def takes_missing(spec: InputSpec, rejects: Rejects) -> bool:
    """Whether the input may have nulls."""
    if spec.dtype == "string":
        return spec.missing is not None
    if not spec.dtype.startswith("float") or rejects.nan:
        return False
    return spec.width is None or len(set(spec.complete)) < spec.width


def listed(names: Iterable[Any]) -> str:
    """Names for people: the first of them, and how many more there are."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def _form(title: str, field: str, values: Schema, methods: Sequence[str]) -> Schema:
    properties: dict[str, Any] = {field: values}
    if methods:
        properties["method"] = {"type": "string", "enum": list(methods), "default": methods[0]}
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": [field],
        "additionalProperties": False,
    }


def _rows(inputs: Sequence[InputSpec], rejects: Rejects) -> Schema | None:
    if len(inputs) == 1:
        return _described(inputs[0], tensor(inputs[0], rejects))
    widths = [spec.width for spec in inputs]
    total = sum(width for width in widths if width is not None)
    if None in widths or not total:
        return None
    items: list[Schema] = []
    for spec in inputs:
        item = value(spec, nullable=takes_missing(spec, rejects))
        if item not in items:
            items.append(item)
    order = listed(name for spec in inputs for name in spec.columns or (spec.name,))
    row = {
        "type": "array",
        "items": {"anyOf": items} if len(items) > 1 else items[0],
        "minItems": total,
        "maxItems": total,
        "description": f"columns: {order}",
    }
    return {"type": "array", "items": row, "minItems": least_rows(rejects)}


def _records(inputs: Sequence[InputSpec], rejects: Rejects, rows: int) -> Schema | None:
    columns = Columns.of(inputs)
    unnamed = len(inputs) == 1 and inputs[0].columns is None
    if columns is None or unnamed or len(columns.names) > max(_RECORD_COLUMNS, len(inputs)):
        return None
    properties: dict[str, Any] = {}
    required = []
    for spec in inputs:
        missing = takes_missing(spec, rejects)
        for position, name in enumerate(spec.columns or (spec.name,)):
            properties[name] = _described(spec, value(spec, nullable=missing and position not in spec.complete))
            if not spec.unused:
                required.append(name)
    record = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "array", "items": record, "minItems": rows}


def _described(spec: InputSpec, schema: Schema) -> Schema:
    notes = []
    if spec.unused:
        notes.append("may be given, and changes nothing")
    if spec.categories is not None and "enum" not in schema:
        notes.append(f"such as {listed(spec.categories)}")
    return {**schema, "description": "; ".join(notes)} if notes and "description" not in schema else schema


def _nested(shape: Sequence[int | None], item: Schema, columns: Sequence[str] | None, rows: int) -> Schema:
    schema = item
    for axis in range(len(shape) - 1, -1, -1):
        size = shape[axis]
        least = 1 if axis else rows
        schema = {"type": "array", "items": schema, "minItems": least if size is None else size}
        if size is not None:
            schema["maxItems"] = size
        if columns is not None and axis == len(shape) - 1:
            schema["description"] = f"columns: {listed(columns)}"
    return schema


def _output(spec: OutputSpec) -> Schema:
    if spec.dtype is None or spec.shape is None:
        return {}
    item = _scalar(spec.dtype)
    if spec.role == "label" and spec.classes:
        item = _class(spec.classes)
    elif item["type"] == "number":
        item["nullable"] = True  # NaN and infinity, which JSON does not have
    for _ in spec.shape:
        item = {"type": "array", "items": item}
    if spec.classes:
        item["description"] = f"classes: {listed(spec.classes)}"
    return item


def _class(classes: Sequence[Any]) -> Schema:
    kinds = {type(choice) for choice in classes}
    if kinds == {bool}:
        return {"type": "boolean"}
    if kinds == {int}:
        return _scalar("int64")
    if kinds == {str}:
        return {"type": "string"}
    return _scalar("float64") if kinds <= {int, float} else {}


def _scalar(dtype: str) -> Schema:
    known = _NUMBERS.get(dtype)
    if known is not None:
        return dict(known)
    bits = int(dtype.lstrip("uint"))
    if dtype.startswith("u"):
        return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}
    return {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
