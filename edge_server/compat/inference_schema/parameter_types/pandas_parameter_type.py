"""Data frames of pandas, known by a sample frame."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_timedelta64_dtype

from edge_server.compat.inference_schema._swagger import schema_of
from edge_server.compat.inference_schema.errors import InvalidInput

from ._cells import describe
from ._frames import Columns, read_columns
from .abstract_parameter_type import AbstractParameterType
from .numpy_parameter_type import convert_cells

ORIENTS = ("split", "records", "index", "columns", "values", "table")
_REFUSED = (ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError)


class PandasParameterType(AbstractParameterType):
    """A frame like the sample, from JSON in one of pandas' orients.

    ``enforce_shape`` asks for as many columns as the sample has, ``enforce_column_type`` converts them to its dtypes,
    by name; other columns become objects. ``apply_column_names`` names columns after the sample's, by position unless
    they came by the same names. Raises TypeError for a sample that is not a frame, ValueError for an unknown orient.
    """

    def __init__(
        self,
        sample_input: Any,
        enforce_column_type: bool = True,
        enforce_shape: bool = True,
        apply_column_names: bool = False,
        orient: str = "records",
    ) -> None:
        if not isinstance(sample_input, pd.DataFrame):
            raise TypeError(f"the sample must be a pandas DataFrame, not {type(sample_input).__name__}")
        if orient not in ORIENTS:
            raise ValueError(f"orient must be one of {', '.join(ORIENTS)}, not {orient!r}")
        super().__init__(sample_input)
        self.enforce_column_type = enforce_column_type
        self.enforce_shape = enforce_shape
        self.apply_column_names = apply_column_names
        self.orient = orient
        self._names = list(sample_input.columns)
        self._dtypes = dict(zip(self._names, sample_input.dtypes, strict=False))
        self._is_unique = sample_input.columns.is_unique
        # JSON writes every name as text.
        self._by_text = {str(name): name for name in self._names}
        self._plain = sample_input.columns if sample_input.columns.nlevels == 1 else None
        kinds = set(self._dtypes.values())
        only = next(iter(kinds)) if len(kinds) == 1 else None
        # A frame of one plain number type is made of one array, several times as fast.
        self._block: Any = only if isinstance(only, np.dtype) and only.kind in "iuf" else None

    def deserialize_input(self, input_data: Any) -> Any:
        """Make a frame of parsed JSON; InvalidInput names the row and column that do not fit."""
        if isinstance(input_data, pd.DataFrame):
            columns = Columns({name: input_data[name] for name in input_data.columns}, input_data.index)
        else:
            columns = read_columns(input_data, self.orient, may_repeat=not self._is_unique)
        if self.enforce_shape and len(columns.values) != len(self._names):
            raise InvalidInput(self._wrong_width(columns))
        names, values = self._named(columns)
        if self.enforce_column_type and self._block is not None and names == self._names and names:
            return self._one_block(values, columns.index)
        return self._frame(names, values, columns.index)

    def _frame(self, names: list[Any], values: list[Any], index: Any) -> Any:
        converted = [self._column(name, column) for name, column in zip(names, values, strict=True)]
        try:
            if self._is_unique or len(set(names)) == len(names):
                return pd.DataFrame(dict(zip(names, converted, strict=True)), index=index, copy=False)
            # A dictionary would keep one of two columns of the same name.
            frame = pd.DataFrame(dict(enumerate(converted)), index=index, copy=False)
        except _REFUSED as error:
            raise InvalidInput(f"is not a table: {error}") from None
        frame.columns = names
        return frame

    def _named(self, columns: Columns) -> tuple[list[Any], list[Any]]:
        """The names that the frame's columns get, and their values; in the sample's order where all its names came."""
        found, values = list(columns.values), list(columns.values.values())
        if not columns.by_name:
            return (self._names if self._applies(columns) else found), values
        named = {self._by_text.get(str(name), name): column for name, column in columns.values.items()}
        if self._is_unique and len(named) == len(self._names) and all(name in named for name in self._names):
            return self._names, [named[name] for name in self._names]
        return (self._names, values) if self._applies(columns) else (list(named), list(named.values()))

    def _applies(self, columns: Columns) -> bool:
        if self.apply_column_names and len(columns.values) != len(self._names):
            raise InvalidInput(self._wrong_width(columns))
        # Positions are names, where the sample's columns are positions too.
        return self.apply_column_names or (not columns.by_name and self._names == list(range(len(columns.values))))

    def _wrong_width(self, columns: Columns) -> str:
        text = f"has {len(columns.values)} columns, where the sample has {len(self._names)}"
        if not columns.by_name:
            return text
        lacking = [name for name in self._by_text if name not in {str(found) for found in columns.values}]
        unknown = [str(name) for name in columns.values if str(name) not in self._by_text]
        parts = [
            f"{what} {', '.join(map(repr, names[:5]))}"
            for what, names in (("lacks", lacking), ("does not know", unknown))
            if names
        ]
        return f"{text}; it {' and '.join(parts)}" if parts else text

    def _one_block(self, values: list[Any], index: Any) -> Any:
        try:
            table = np.array(values, self._block).T
        except _REFUSED:
            table = None
        if table is None or table.ndim != 2 or (self._block.itemsize < 8 and self._block.kind == "f"):
            return self._frame(self._names, values, index)
        columns = self._plain if self._plain is not None else self._names
        return pd.DataFrame(table, index=index, columns=columns, copy=False)

    def _column(self, name: Any, values: Any) -> Any:
        if not self.enforce_column_type:
            return values
        dtype = self._dtypes.get(name)
        try:
            return convert_column(values, dtype)
        except _REFUSED:
            for row, value in enumerate(values):
                try:
                    convert_column([value], dtype)
                except _REFUSED:
                    raise InvalidInput(
                        f"row {row}, column {name!r} does not take {describe(value)} ({dtype})"
                    ) from None
            raise InvalidInput(f"column {name!r} does not fit {dtype}") from None

    @functools.cached_property
    def _swagger(self) -> dict[str, Any]:
        import json

        sample = self.sample_input
        example = json.loads(sample.to_json(orient=self.orient, date_format="iso"))
        schema = schema_of(example)
        moments = {str(n): "date-time" for n, kind in self._dtypes.items() if is_datetime64_any_dtype(kind)}
        moments |= {str(n): "timedelta" for n, kind in self._dtypes.items() if is_timedelta64_dtype(kind)}
        _mark(schema, self.orient, moments)
        return {**schema, "example": example, "format": f"pandas.DataFrame:{self.orient}"}

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema in the frame's orient, with the sample as its example."""
        return dict(self._swagger)


def convert_column(values: Any, dtype: Any) -> Any:
    """Convert a column's values to a dtype of the sample; None, for a column that it has not, keeps objects."""
    if dtype is None or (isinstance(dtype, np.dtype) and dtype.kind == "O"):
        column = np.empty(len(values), object)
        column[:] = list(values)
        # An Index keeps its dtype, where a frame makes text of an array of objects.
        return pd.Index(column, dtype=object)
    if is_datetime64_any_dtype(dtype):
        return _moments(values, dtype)
    if isinstance(dtype, np.dtype):
        if dtype.kind == "m":
            spans = pd.to_timedelta(pd.Series(values, dtype=object if not len(values) else None), unit=_unit(values))
            return spans.astype(dtype).array
        column = convert_cells(values if isinstance(values, list) else list(values), dtype)
        if column.ndim != 1:
            raise TypeError("a cell must not be an array")
        return column
    if isinstance(dtype, pd.CategoricalDtype):
        known = set(dtype.categories)
        return pd.Categorical([value if value in known else None for value in values], dtype=dtype)
    if isinstance(dtype, pd.StringDtype):
        values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
    return pd.array(values, dtype=dtype)


def _text(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else str(value)


def _unit(values: Any) -> str | None:
    """Whole numbers are milliseconds, as pandas writes them in JSON."""
    return "ms" if len(values) and all(isinstance(v, (int, float)) or v is None for v in values) else None


def _moments(values: Any, dtype: Any) -> Any:
    cells, unit = list(values), _unit(values)
    try:
        found = pd.to_datetime(cells, utc=True, unit=unit, format=None if unit else "ISO8601")
    except ValueError:
        # As the original, in any of the forms that people write, each cell by itself; 03/02 is the second of March.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a day above 12 can only be a day
            found = pd.to_datetime(cells, utc=True, format="mixed")
    moments = pd.Series(found)
    zone = getattr(dtype, "tz", None)
    return (moments.dt.tz_convert(zone) if zone else moments.dt.tz_localize(None)).astype(dtype).array


def _mark(schema: dict[str, Any], orient: str, formats: dict[str, str]) -> None:
    """Say of columns of moments and spans that they are; JSON has them as text."""
    if orient == "columns":
        for name, kind in formats.items():
            for cell in schema["properties"].get(name, {}).get("properties", {}).values():
                cell["format"] = kind
        return
    rows = {
        "records": lambda: [schema["items"]],
        "index": lambda: list(schema["properties"].values()),
        "table": lambda: [schema["properties"]["data"]["items"]],
    }.get(orient, list)()
    for row in rows:
        for name, kind in formats.items():
            if name in row.get("properties", {}):
                row["properties"][name]["format"] = kind
