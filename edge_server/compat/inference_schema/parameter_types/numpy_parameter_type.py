"""Arrays of numpy, known by a sample array."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from edge_server.compat.inference_schema._swagger import ALL_VERSIONS, Schema, example_of
from edge_server.compat.inference_schema.errors import InvalidInput

from ._cells import describe, find_cell
from .abstract_parameter_type import AbstractParameterType

_FLOATS = {2: "float", 4: "float", 8: "double"}
_UNITS = {
    "years": "Y", "months": "M", "weeks": "W", "days": "D", "hours": "h", "minutes": "m", "seconds": "s",
    "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns",
}  # fmt: skip
_TRUTH = {"true": True, "false": False}


class NumpyParameterType(AbstractParameterType):
    """An array like the sample: its dtype with ``enforce_column_type``, its shape but for axis 0 with
    ``enforce_shape``.

    Raises TypeError for a sample that is not an array, has no dimension, or holds what a schema cannot describe.
    """

    def __init__(self, sample_input: Any, enforce_column_type: bool = True, enforce_shape: bool = True) -> None:
        if not isinstance(sample_input, np.ndarray):
            raise TypeError(f"the sample must be a numpy array, not {type(sample_input).__name__}")
        if sample_input.ndim == 0:
            raise TypeError("the sample must have at least one dimension")
        super().__init__(sample_input)
        self.enforce_column_type = enforce_column_type
        self.enforce_shape = enforce_shape
        self._dtype = sample_input.dtype
        self._swagger = _array_schema(sample_input)

    def deserialize_input(self, input_data: Any) -> Any:
        """Make an array of nested lists; InvalidInput says where a value does not fit."""
        if isinstance(input_data, np.ndarray):
            array = input_data
        elif isinstance(input_data, (list, tuple)):
            array = self._array(input_data)
        else:
            raise InvalidInput(f"must be an array, not {describe(input_data)}")
        if self.enforce_shape and array.shape[1:] != self.sample_input.shape[1:]:
            self._refuse_shape(array)
        return array

    def _array(self, values: Any) -> Any:
        convert = convert_cells if self.enforce_column_type else _unconverted
        try:
            return convert(values, self._dtype)
        except (ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError) as error:
            place = find_cell(values, lambda cell: convert([cell], self._dtype), self._dtype.names is not None)
            raise InvalidInput(f"{place} ({self._dtype})" if place else str(error)) from None

    def _refuse_shape(self, array: Any) -> None:
        wanted = self.sample_input.shape
        if array.ndim != len(wanted):
            raise InvalidInput(f"has {array.ndim} dimensions (shape {array.shape}), where the sample has {len(wanted)}")
        axis = next(axis for axis in range(1, array.ndim) if array.shape[axis] != wanted[axis])
        what = "columns" if axis == 1 else f"values along axis {axis}"
        raise InvalidInput(f"row 0 has {array.shape[axis]} {what}, where the sample has {wanted[axis]}")

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema with the sample as its example."""
        return dict(self._swagger)

    def supported_versions(self) -> list[str]:
        """All: an array has one dtype, whatever its example holds."""
        return list(ALL_VERSIONS)


def _unconverted(values: Any, _dtype: Any) -> Any:
    return np.array(values)


def convert_cells(values: Any, dtype: Any) -> Any:
    """Convert a list of values, nested or not, to an array of the dtype; raises what numpy raises, or ValueError."""
    kind = dtype.kind
    if kind == "f":
        # None becomes NaN, as in numpy; a number that is too large for the type must not become infinite.
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
        if dtype.itemsize < 8 and np.isinf(array).any() and not np.isinf(np.array(values, np.float64)).all():
            wide = np.array(values, np.float64)
            if (np.isinf(array) & np.isfinite(wide)).any():
                raise OverflowError(f"is out of the range of {dtype}")
        return array
    if kind == "b":
        return _booleans(np.array(values))
    if kind == "U":
        return np.array(values, str)
    if kind == "S":
        return _mapped(values, _binary, bytes)
    if kind == "m":
        return _mapped(values, lambda text: _timedelta(text, dtype), dtype)
    if kind == "V" and dtype.names:
        return _records(values, dtype)
    return np.array(values, dtype)


def _booleans(array: Any) -> Any:
    if array.dtype.kind == "U":
        return np.array([_TRUTH[text.lower()] for text in array.ravel().tolist()], bool).reshape(array.shape)
    if array.dtype.kind == "O":
        raise TypeError("is not true or false")
    return array.astype(bool)


def _mapped(values: Any, convert: Any, dtype: Any) -> Any:
    array = np.array(values, object)
    return np.array([convert(cell) for cell in array.ravel().tolist()], dtype).reshape(array.shape)


def _binary(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None


def _timedelta(value: Any, dtype: Any) -> Any:
    span: Any = np.timedelta64
    if isinstance(value, int):
        return span(value, np.datetime_data(dtype)[0])
    number, _, unit = str(value).strip().partition(" ")
    return span(int(number), _UNITS[unit.strip() if unit.endswith("s") else unit + "s"])


def _records(values: Any, dtype: Any) -> Any:
    """Structured rows come as objects, or as arrays in the order of the fields."""
    if isinstance(values, list) and values and isinstance(values[0], list) and isinstance(values[0][0], (list, dict)):
        return np.array([_records(inner, dtype) for inner in values], dtype)
    return np.array([_record(row, dtype) for row in values], dtype)


def _record(row: Any, dtype: Any) -> tuple[Any, ...]:
    cells = [row[name] for name in dtype.names] if isinstance(row, dict) else list(row)
    if len(cells) != len(dtype.names):
        raise ValueError(f"has {len(cells)} fields, where the sample has {len(dtype.names)}")
    kinds = [dtype.fields[name][0] for name in dtype.names]
    return tuple(_record(cell, kind) if kind.names else cell for cell, kind in zip(cells, kinds, strict=True))


def _array_schema(sample: Any) -> Schema:
    schema = dtype_schema(sample.dtype)
    for _ in range(sample.ndim):
        schema = {"type": "array", "items": schema}
    return {**schema, "example": example_of(_examples(sample)), "format": "numpy.ndarray"}


def dtype_schema(dtype: Any) -> Schema:
    """The schema of one value of a dtype; TypeError for complex and extended ones."""
    kind, size = dtype.kind, dtype.itemsize
    if kind in "iu":
        return {"type": "integer", "format": dtype.name}
    if kind == "f" and size in _FLOATS:
        return {"type": "number", "format": _FLOATS[size]}
    if kind == "V" and dtype.subdtype:
        inner, shape = dtype.subdtype
        schema = dtype_schema(inner)
        for _ in shape:
            schema = {"type": "array", "items": schema}
        return schema
    if kind == "V" and dtype.names:
        return {"type": "object", "properties": {name: dtype_schema(dtype.fields[name][0]) for name in dtype.names}}
    simple: dict[str, Schema] = {
        "b": {"type": "boolean"},
        "U": {"type": "string"},
        "S": {"type": "string", "format": "binary"},
        "M": {"type": "string", "format": "date-time"},
        "m": {"type": "string", "format": "timedelta"},
        "O": {"type": "object"},
    }
    if kind not in simple:
        raise TypeError(f"a schema cannot describe an array of {dtype}; use a simpler dtype")
    return simple[kind]


def _examples(sample: Any) -> Any:
    """The sample as JSON that deserialize_input takes."""
    kind = sample.dtype.kind
    if kind == "M":
        return np.datetime_as_string(sample).tolist()
    if kind == "m":
        unit = np.datetime_data(sample.dtype)[0]
        name = next(name for name, code in _UNITS.items() if code == unit)
        return _nested(sample.astype(np.int64), lambda count: f"{count} {name}")
    if kind == "V" and sample.dtype.names:
        return _nested(sample, lambda row: _example_record(row, sample.dtype))
    if kind == "O":
        return _nested(sample, lambda cell: cell if isinstance(cell, (str, int, float, dict, list)) else str(cell))
    return sample.tolist()


def _nested(array: Any, write: Any) -> Any:
    if array.ndim == 1:
        return [write(cell) for cell in array.tolist()]
    return [_nested(inner, write) for inner in array]


def _example_record(row: Any, dtype: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, cell in zip(dtype.names, row, strict=True):
        kind = dtype.fields[name][0]
        record[name] = _example_record(cell, kind) if kind.names else cell.tolist() if kind.subdtype else cell
    return record
