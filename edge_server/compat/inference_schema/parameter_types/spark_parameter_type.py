"""Data frames of Spark, known by a sample frame; needs pyspark."""

from __future__ import annotations

import datetime
import decimal
import functools
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from edge_server.compat.inference_schema._swagger import schema_of
from edge_server.compat.inference_schema.errors import InvalidInput

from ._cells import describe
from .abstract_parameter_type import AbstractParameterType

_FORMATS = {
    "byte": ("integer", "int8"), "short": ("integer", "int16"), "integer": ("integer", "int32"),
    "long": ("integer", "int64"), "float": ("number", "float"), "double": ("number", "double"),
    "boolean": ("boolean", None), "string": ("string", None), "date": ("string", "date"),
    "timestamp": ("string", "date-time"), "binary": ("string", "binary"),
}  # fmt: skip


class SparkParameterType(AbstractParameterType):
    """A frame of Spark from JSON records: of the sample's schema with `apply_sample_schema`, else of a guessed one."""

    def __init__(self, sample_input: Any, apply_sample_schema: bool = True) -> None:
        if not isinstance(sample_input, DataFrame):
            raise TypeError(f"the sample must be a Spark DataFrame, not {type(sample_input).__name__}")
        super().__init__(sample_input)
        self.apply_sample_schema = apply_sample_schema

    def deserialize_input(self, input_data: Any) -> Any:
        """Make a frame of a list of objects; InvalidInput names the row and column that do not fit."""
        if isinstance(input_data, DataFrame):
            return input_data
        if not isinstance(input_data, list) or not input_data:
            raise InvalidInput(f"must be an array of at least one row, not {describe(input_data)}")
        for position, row in enumerate(input_data):
            if not isinstance(row, dict):
                raise InvalidInput(f"row {position} must be an object, not {describe(row)}")
        session = SparkSession.builder.getOrCreate()
        if self.apply_sample_schema:
            rows = [self._row(position, row) for position, row in enumerate(input_data)]
            return session.createDataFrame(rows, self.sample_input.schema, verifySchema=False)
        try:
            return session.createDataFrame(input_data)
        except Exception as error:  # noqa: BLE001 - Spark's own errors have no common kind in all versions
            raise InvalidInput(f"is no table: {str(error).splitlines()[0][:200]}") from None

    def _row(self, position: int, row: dict[str, Any]) -> tuple[Any, ...]:
        """The row in the sample's order, each value of the Python type that its column takes; what lacks is null."""
        cells = []
        for field in self.sample_input.schema:
            value = row.get(field.name)
            try:
                cells.append(_cell(value, field.dataType.typeName()))
            except (ValueError, TypeError, ArithmeticError):
                kind = field.dataType.simpleString()
                place = f"row {position}, column {field.name!r}"
                raise InvalidInput(f"{place} does not take {describe(value)} ({kind})") from None
        return tuple(cells)

    @functools.cached_property
    def _swagger(self) -> dict[str, Any]:
        example = [_json(row.asDict(recursive=True)) for row in self.sample_input.collect()]
        properties = {}
        for field in self.sample_input.schema:
            kind, form = _FORMATS.get(field.dataType.typeName(), (None, None))
            cells = [row[field.name] for row in example if row[field.name] is not None]
            described = {"type": kind} if kind else schema_of(cells[-1] if cells else None)
            properties[field.name] = {**described, "format": form} if form else described
        items = {"type": "object", "properties": properties}
        return {"type": "array", "items": items, "example": example}

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema of records, with the sample as its example."""
        return dict(self._swagger)


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind in ("double", "float"):
        return float(value)
    if kind in ("byte", "short", "integer", "long"):
        return int(value)
    if kind == "string":
        return str(value)
    if kind == "decimal":
        return decimal.Decimal(str(value))
    if kind == "date":
        return datetime.date.fromisoformat(value)
    if kind.startswith("timestamp"):
        return datetime.datetime.fromisoformat(value)
    return value


def _json(value: Any) -> Any:
    """A cell as JSON that deserialize_input takes."""
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else value
