"""Rows whose columns have names: records, columns of lists, and data frames of split orientation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import name_of
from edge_server.models.files.manifest import InputSpec

_SPLIT = {"columns", "data", "index"}
_SHOWN = 20


class Columns:
    """The names of a model's columns, in the order of its rows. Those of unused inputs may be left out."""

    def __init__(self, names: Sequence[str], unused: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        self._all = set(names)
        self._needed = self._all - set(unused)
        pick = itemgetter(*self.names)
        self._pick: Callable[[dict[str, Any]], list[Any]] = (
            (lambda record: [pick(record)]) if len(self.names) == 1 else (lambda record: list(pick(record)))
        )

    @classmethod
    def of(cls, inputs: Sequence[InputSpec]) -> Columns | None:
        """The columns of all inputs side by side; None where they have no names, or are not tables.

        A table of one column has the name of its input. The columns of a single table without names are named by their
        positions, as in a data frame.
        """
        names: list[str] = []
        for spec in inputs:
            width = columns_of(spec, len(inputs))
            if width is None:
                return None
            if spec.columns is not None:
                names += spec.columns
            elif len(inputs) == 1:
                names += map(str, range(width))
            elif width == 1:
                names.append(spec.name)
            else:
                return None
        if not names or len(set(names)) < len(names):
            return None
        return cls(names, [name for spec in inputs if spec.unused for name in spec.columns or (spec.name,)])

    def rows(self, data: Any, field: str) -> list[list[Any]]:
        """The values in the model's order, row by row, of an object or a list of objects that came in ``field``.

        Raises BadRequest for a column that is missing, unknown or there twice, and columns of different lengths.
        """
        if isinstance(data, list):
            return self._records(data, field)
        if data.keys() >= {"columns", "data"} and not self._all >= {"columns", "data"}:
            return self._split(data, field)
        self._check(data, f"'{field}'")
        if any(isinstance(value, list) for value in data.values()):
            return self._transposed(data)
        return [self._with_gaps(data)]

    def _records(self, records: list[Any], field: str) -> list[list[Any]]:
        if set(map(type, records)) == {dict} and set(map(len, records)) == {len(self.names)}:
            # As many keys as columns, and every column among them, so there are no others.
            try:
                return list(map(self._pick, records))
            except KeyError:
                pass
        for number, record in enumerate(records):
            if type(record) is not dict:
                raise BadRequest(f"row {number} of '{field}' is {name_of(record)}, and row 0 is an object")
            self._check(record, f"row {number} of '{field}'")
        return [self._with_gaps(record) for record in records]

    def _split(self, frame: dict[str, Any], field: str) -> list[list[Any]]:
        unknown = sorted(frame.keys() - _SPLIT)
        if unknown:
            raise BadRequest(
                f"unknown field {unknown[0]!r:.80} in '{field}'; a frame has 'columns', 'data' and 'index'"
            )
        columns, data = frame["columns"], frame["data"]
        if not isinstance(columns, list) or not all(type(name) in (str, int) for name in columns):
            raise BadRequest(f"'columns' of '{field}' must be a list of names")
        if not isinstance(data, list):
            raise BadRequest(f"'data' of '{field}' must be a list of rows")
        # pandas numbers columns without names.
        names = [str(name) for name in columns]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise BadRequest(f"'{field}' has the column {twice[0]!r:.80} more than once")
        self._check(dict.fromkeys(names), f"'{field}'")
        for number, row in enumerate(data):
            if type(row) is not list:
                raise BadRequest(f"row {number} of '{field}' is {name_of(row)}, and must be a list of values")
            if len(row) != len(names):
                raise BadRequest(f"row {number} of '{field}' has {len(row)} values for {len(names)} columns")
        if tuple(names) == self.names:
            return data
        positions = {name: position for position, name in enumerate(names)}
        order = [positions.get(name) for name in self.names]
        return [[None if position is None else row[position] for position in order] for row in data]

    def _transposed(self, data: dict[str, Any]) -> list[list[Any]]:
        lengths = {}
        for name, values in data.items():
            if not isinstance(values, list):
                raise BadRequest(f"the column {name!r:.80} is {name_of(values)}, and others are lists")
            lengths[name] = len(values)
        first, count = next(iter(lengths.items()))
        for name, length in lengths.items():
            if length != count:
                text = f"{first!r:.80} has {count}, {name!r:.80} has {length}"
                raise BadRequest(f"the columns have different lengths: {text}")
        nothing = [None] * count
        return [list(row) for row in zip(*(data.get(name, nothing) for name in self.names), strict=True)]

    def _with_gaps(self, record: dict[str, Any]) -> list[Any]:
        return [record.get(name) for name in self.names]

    def _check(self, found: Mapping[str, Any], where: str) -> None:
        for name in sorted(found.keys() - self._all):
            raise BadRequest(f"unknown column {name!r:.80} in {where}; the model has {listed(self.names)}")
        for name in self.names:
            if name in self._needed and name not in found:
                raise BadRequest(f"{where} lacks the column {name!r:.80}; the model has {listed(self.names)}")


def columns_of(spec: InputSpec, inputs: int) -> int | None:
    """How many columns an input is of the rows of a model with so many inputs; None where it is not a table.

    Among several, an input of one free axis is a column.
    """
    return 1 if inputs > 1 and spec.shape == (None,) else spec.width


def listed(names: Iterable[str]) -> str:
    """Names for a sentence, the first of many."""
    all_names = list(names)
    shown = ", ".join(f"{name!r:.80}" for name in all_names[:_SHOWN])
    more = len(all_names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
