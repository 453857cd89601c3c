"""How rows become the feeds of a scikit-learn estimator's graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from converters.package import manifest
from converters.proof.samples import Table
from converters.sklearn.training_columns import Column

Layout = Literal["matrix", "texts", "columns"]
Floats = Literal["float64", "float32"]

MATRIX = "X"
# Reserved by Unicode, so that no text holds it.
MISSING_TEXT = "\uffff"


@dataclass(frozen=True)
class Inputs:
    """One matrix of numbers, one of text, or an input a column; ``dtypes`` are the graph's, one an input.

    ``graph_names`` are what the converter made of the columns' names; ``unused`` says which of these columns the model
    drops, so that the graph does not have them as inputs. A ``free`` matrix has any number of columns.
    """

    layout: Layout
    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    graph_names: tuple[str, ...]
    trained: tuple[Column, ...]
    unused: tuple[bool, ...]
    free: bool = False

    def of(self, graph_names: Sequence[str], read: Collection[str]) -> Inputs:
        """With the names that the graph has, and what of them it reads."""
        unused = self.unused
        if self.layout == "columns":
            unused = tuple(name not in read for name in graph_names)
        return replace(self, graph_names=tuple(graph_names), unused=unused)

    def feeds(self, table: Table) -> dict[str, Any]:
        """Feeds of the graph for rows of a table."""
        import numpy as np

        with np.errstate(over="ignore"):
            if self.layout == "matrix":
                return {self.graph_names[0]: table.matrix().astype(self.dtypes[0])}
            if self.layout == "texts":
                return {self.graph_names[0]: np.column_stack([_text(column) for column in table.columns])}
            return {
                name: (_text(column) if dtype == "string" else column.astype(dtype)).reshape(-1, 1)
                for name, dtype, column, unused in zip(
                    self.graph_names, self.dtypes, table.columns, self.unused, strict=True
                )
                if not unused
            }

    def given(self, table: Table) -> Table:
        """The rows as the original sees them: a missing text as in training, whole numbers only for categories."""
        import numpy as np

        columns = []
        for index, (column, trained) in enumerate(zip(table.columns, self.trained, strict=True)):
            if column.dtype.kind == "O":
                column = np.array([trained.missing if cell is None else cell for cell in column], dtype=object)
            elif self.layout == "columns" and self.dtypes[index].startswith("float") and column.dtype.kind in "iu":
                column = column.astype(np.float64)
            columns.append(column)
        return Table(table.names, tuple(columns))

    def initial_types(self) -> list[tuple[str, Any]]:
        """The inputs as skl2onnx expects them."""
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
        return [(MATRIX, kinds[self.dtypes[0]]([None, None if self.free else len(self.names)]))]

    def describe(
        self,
        named: bool,
        missing: Collection[str] = (),
        closed: Collection[str] = (),
        complete: Collection[str] = (),
    ) -> list[manifest.Input]:
        """The manifest's inputs.

        Columns in ``missing`` take a missing text, those in ``closed`` no unknown value, in ``complete`` no missing
        number.
        """
        if self.layout != "columns":
            whole = self.layout == "texts" and set(missing) >= set(self.names)
            columns = self.names if named else None
            shape = (None, None if self.free else len(self.names))
            text = MISSING_TEXT if whole else None
            places = tuple(index for index, name in enumerate(self.names) if name in complete)
            graph_name, dtype = self.graph_names[0], self.dtypes[0]
            return [manifest.Input(MATRIX, graph_name, dtype, shape, columns, missing=text, complete=places)]
        return [
            manifest.Input(
                name,
                inner,
                dtype,
                (None, 1),
                categories=None if unused else trained.categories or None,
                missing=MISSING_TEXT if name in missing else None,
                closed=name in closed,
                complete=(0,) if name in complete else (),
                unused=unused,
            )
            for name, inner, dtype, trained, unused in zip(
                self.names, self.graph_names, self.dtypes, self.trained, self.unused, strict=True
            )
        ]


def plan(table: Table, trained: Sequence[Column], by_name: bool, floats: Floats) -> Inputs:
    """The inputs for such rows, whose numbers are ``floats``; ``by_name`` where a part chooses columns by name."""
    names, kept = table.names, tuple(trained)
    text = [column.dtype.kind == "O" for column in table.columns]
    used = (False,) * len(names)
    # Only columns of their own can be held to their categories.
    if not by_name and not any(column.closed for column in trained):
        if not any(text):
            return Inputs("matrix", names, (floats,), (MATRIX,), kept, used)
        if all(text):
            return Inputs("texts", names, ("string",), (MATRIX,), kept, used)
    dtypes = [_dtype(column, entry, floats) for column, entry in zip(table.columns, trained, strict=True)]
    return Inputs("columns", names, tuple(dtypes), names, kept, used)


def _dtype(column: Any, trained: Column, floats: Floats) -> str:
    if column.dtype.kind == "O":
        return "string"
    if column.dtype.kind == "b":
        return "bool"
    whole = trained.categories and all(isinstance(value, int) for value in trained.categories)
    return "int64" if whole and column.dtype.kind in "iu" else floats


def _text(column: Any) -> Any:
    import numpy as np

    return np.array([MISSING_TEXT if cell is None else str(cell) for cell in column], dtype=object)


def summary(inputs: Inputs) -> Mapping[str, Any]:
    """For the report: how the inputs are laid out and typed."""
    return {"layout": inputs.layout, "dtypes": sorted(set(inputs.dtypes))}
