"""How rows become the feeds of a graph that stands for a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from converters import manifest
from converters.samples import Table
from converters.sklearn.known import Column
from edgepack.errors import ConversionError

Layout = Literal["matrix", "texts", "columns"]
Floats = Literal["float64", "float32"]

MATRIX = "X"
MISSING_TEXT = ""


@dataclass(frozen=True)
class Inputs:
    """One matrix of numbers, one of text, or an input a column; ``dtypes`` are the graph's, one an input.

    ``graph_names`` are what the converter made of the columns' names.
    """

    layout: Layout
    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    graph_names: tuple[str, ...]
    categories: tuple[tuple[Any, ...] | None, ...]

    def named(self, graph_names: Sequence[str]) -> Inputs:
        """With the names that the graph has."""
        return replace(self, graph_names=tuple(graph_names))

    def feeds(self, table: Table) -> dict[str, Any]:
        """Feeds of the graph for rows of a table."""
        import numpy as np

        with np.errstate(over="ignore"):
            if self.layout == "matrix":
                return {self.graph_names[0]: table.matrix().astype(self.dtypes[0])}
            if self.layout == "texts":
                return {self.graph_names[0]: np.column_stack([_text(column) for column in table.columns])}
            return {
                name: _text(column).reshape(-1, 1) if dtype == "string" else column.astype(dtype).reshape(-1, 1)
                for name, dtype, column in zip(self.graph_names, self.dtypes, table.columns, strict=True)
            }

    def given(self, table: Table) -> Table:
        """The rows as the original sees them: numbers are fractions but where they are categories."""
        import numpy as np

        if self.layout != "columns":
            return table
        columns = [
            column.astype(np.float64) if dtype.startswith("float") and column.dtype.kind in "iu" else column
            for dtype, column in zip(self.dtypes, table.columns, strict=True)
        ]
        return Table(table.names, tuple(columns))

    def initial_types(self) -> list[tuple[str, Any]]:
        """The inputs as skl2onnx wants them."""
        from skl2onnx.common import data_types

        kinds = {
            "float64": data_types.DoubleTensorType,
            "float32": data_types.FloatTensorType,
            "int64": data_types.Int64TensorType,
            "bool": data_types.BooleanTensorType,
            "string": data_types.StringTensorType,
        }
        if self.layout == "columns":
            return [(name, kinds[dtype]([None, 1])) for name, dtype in zip(self.names, self.dtypes, strict=True)]
        return [(MATRIX, kinds[self.dtypes[0]]([None, len(self.names)]))]

    def describe(self, named: bool) -> list[manifest.Input]:
        """The manifest's inputs."""
        if self.layout != "columns":
            missing = MISSING_TEXT if self.layout == "texts" else None
            columns = self.names if named else None
            shape = (None, len(self.names))
            return [manifest.Input(MATRIX, self.graph_names[0], self.dtypes[0], shape, columns, missing=missing)]
        return [
            manifest.Input(
                name,
                inner,
                dtype,
                (None, 1),
                categories=categories,
                missing=MISSING_TEXT if dtype == "string" else None,
            )
            for name, inner, dtype, categories in zip(
                self.names, self.graph_names, self.dtypes, self.categories, strict=True
            )
        ]


def plan(table: Table, known: Sequence[Column], by_name: bool, floats: Floats) -> Inputs:
    """The inputs for such rows, whose numbers are ``floats``; ``by_name`` where a part chooses columns by name."""
    names = table.names
    text = [column.dtype.kind == "O" for column in table.columns]
    categories = tuple(tuple(column.categories) or None for column in known)
    if not by_name and not any(text):
        return Inputs("matrix", names, (floats,), (MATRIX,), categories)
    if not by_name and all(text):
        return Inputs("texts", names, ("string",), (MATRIX,), categories)
    dtypes = [_dtype(column, entry, floats) for column, entry in zip(table.columns, known, strict=True)]
    return Inputs("columns", names, tuple(dtypes), names, categories)


def _dtype(column: Any, known: Column, floats: Floats) -> str:
    if column.dtype.kind == "O":
        return "string"
    if column.dtype.kind == "b":
        return "bool"
    whole = known.categories and all(isinstance(value, int) for value in known.categories)
    return "int64" if whole and column.dtype.kind in "iu" else floats


def _text(column: Any) -> Any:
    import numpy as np

    return np.array([MISSING_TEXT if cell is None else str(cell) for cell in column], dtype=object)


def complete(table: Table, notes: list[str]) -> Table:
    """The rows that have all their text; a missing text has no one form in ONNX."""
    import numpy as np

    whole = np.ones(len(table), dtype=bool)
    for column in table.columns:
        if column.dtype.kind == "O":
            whole &= np.array([cell is not None for cell in column])
    if not whole.any():
        raise ConversionError("every row of the sample lacks a text", hint="give a sample with complete rows")
    if not whole.all():
        notes.append(f"{int((~whole).sum())} sample rows with a missing text were left out of the comparison")
    return table.take(whole)


def summary(inputs: Inputs) -> Mapping[str, Any]:
    """For the report: how the inputs are laid out and typed."""
    return {"layout": inputs.layout, "dtypes": sorted(set(inputs.dtypes))}
