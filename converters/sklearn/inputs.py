"""How rows become the feeds of a graph that stands for a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters import manifest
from converters.samples import Table
from edgepack.errors import ConversionError


@dataclass(frozen=True)
class Inputs:
    """How rows become feeds: one float32 matrix, or a column each."""

    table: Table
    by_column: bool
    graph_names: tuple[str, ...]

    def feeds(self, table: Table) -> dict[str, Any]:
        """Feeds of the graph for rows of a table."""
        import numpy as np

        if not self.by_column:
            with np.errstate(over="ignore"):
                return {self.graph_names[0]: table.matrix().astype(np.float32)}
        columns = [
            column.astype(np.float32) if column.dtype.kind == "f" else column.astype(template.dtype)
            for column, template in zip(table.columns, self.table.columns, strict=True)
        ]
        return {name: column.reshape(-1, 1) for name, column in zip(self.graph_names, columns, strict=True)}

    def describe(self, named: bool) -> list[manifest.Input]:
        """The manifest's inputs."""
        if not self.by_column:
            columns = self.table.names if named else None
            return [manifest.Input("X", self.graph_names[0], "float32", (None, len(self.table.names)), columns)]
        kinds = {"f": "float32", "i": "int64", "b": "bool", "O": "string"}
        triples = zip(self.table.names, self.graph_names, self.table.columns, strict=True)
        return [manifest.Input(name, inner, kinds[column.dtype.kind], (None, 1)) for name, inner, column in triples]


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
