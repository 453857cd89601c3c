"""Tables in pandas' JSON orients, as columns of plain lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_server.compat.inference_schema.errors import InvalidInput

from ._cells import describe


@dataclass
class Columns:
    """Values by column name, or by position where the orient has none (not ``by_name``); ``index`` None counts rows."""

    values: dict[Any, Any]
    index: Any = None
    by_name: bool = True


def read_columns(data: Any, orient: str, *, may_repeat: bool = False) -> Columns:
    """Read parsed JSON of one of pandas' orients; InvalidInput when it is not of that form.

    ``may_repeat`` takes several columns of one name, and numbers them as pandas does: ``a``, ``a.1``.
    """
    if orient == "split":
        return _split(data, may_repeat)
    if orient == "index":
        rows = _object(data, "index")
        return Columns(_records(list(rows.values())).values, _labels(rows))
    if orient == "columns":
        return _columns(data)
    if orient == "table":
        return _table(_object(data, "table"))
    if isinstance(data, dict):
        return _columns(data)
    table = _array(data, None)
    return _records(table) if table and isinstance(table[0], dict) else _rows(table)


def _object(data: Any, orient: str) -> dict[Any, Any]:
    if not isinstance(data, dict):
        raise InvalidInput(f"must be an object of the orient {orient!r}, not {describe(data)}")
    return data


def _array(data: Any, name: str | None) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidInput(f"{f'{name} ' if name else ''}must be an array of rows, not {describe(data)}")
    return data


def _records(rows: list[Any]) -> Columns:
    """Objects, one for each row; a name that a row lacks is null there."""
    if not rows:
        return Columns({})
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(f"row {position} must be an object, not {describe(row)}")
    first = rows[0]
    width = len(first)
    try:
        if all(len(row) == width for row in rows):
            return Columns({name: [row[name] for row in rows] for name in first})
    except KeyError:
        pass  # rows of different names: the slow way
    names = dict.fromkeys(name for row in rows for name in row)
    return Columns({name: [row.get(name) for row in rows] for name in names})


def _rows(rows: list[Any]) -> Columns:
    """Arrays, one for each row, all of the same length; a row that is not an array is one value."""
    table = [row if isinstance(row, list) else [row] for row in rows]
    width = len(table[0]) if table else 0
    for position, row in enumerate(table):
        if len(row) != width:
            raise InvalidInput(f"row {position} has {len(row)} values, where row 0 has {width}")
    return Columns({position: [row[position] for row in table] for position in range(width)}, by_name=False)


def _split(data: Any, may_repeat: bool) -> Columns:
    fields = _object(data, "split")
    found = _rows(_array(fields.get("data"), "data"))
    names, index = fields.get("columns"), fields.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(fields["data"])):
        raise InvalidInput(f"index must have {len(fields['data'])} labels, as there are rows")
    if names is None:
        return Columns(found.values, index, by_name=False)
    if not isinstance(names, list) or any(isinstance(name, (list, dict)) for name in names):
        raise InvalidInput(f"columns must be an array of names, not {describe(names)}")
    if fields["data"] and len(names) != len(found.values):
        raise InvalidInput(f"row 0 has {len(found.values)} values, where there are {len(names)} columns")
    if not may_repeat and len(set(names)) != len(names):
        raise InvalidInput("columns has a name twice")
    values = list(found.values.values()) or [[] for _ in names]
    return Columns(dict(zip(_numbered(names), values, strict=True)), index)


def _numbered(names: list[Any]) -> list[Any]:
    """The names with ``.1``, ``.2`` and so on after those that came before, as pandas reads them."""
    taken: dict[Any, int] = {}
    numbered = []
    for name in names:
        number = taken.get(name, 0)
        unique = name
        while number and unique in taken:
            unique = f"{name}.{number}"
            number += 1
        taken[name] = max(number, 1)
        taken.setdefault(unique, 1)
        numbered.append(unique)
    return numbered


def _table(fields: dict[Any, Any]) -> Columns:
    """Records, of which the schema may say that one field is the row's label."""
    found = _records(_array(fields.get("data"), "data"))
    schema = fields.get("schema")
    keys = schema.get("primaryKey") if isinstance(schema, dict) else None
    if isinstance(keys, list) and len(keys) == 1 and isinstance(keys[0], str) and keys[0] in found.values:
        found.index = found.values.pop(keys[0])
    return found


def _columns(data: Any) -> Columns:
    """Columns by name, each an array, or an object by row label."""
    values: dict[Any, Any] = {}
    index: Any = None
    length: int | None = None
    for name, column in _object(data, "columns").items():
        if isinstance(column, dict):
            index = _labels(column) if index is None else index
            cells = list(column.values())
        elif isinstance(column, list):
            cells = column
        else:
            raise InvalidInput(f"column {name!r} must be an array of values, not {describe(column)}")
        if length is not None and len(cells) != length:
            raise InvalidInput(f"column {name!r} has {len(cells)} values, where the first has {length}")
        length = len(cells)
        values[name] = cells
    return Columns(values, index)


def _labels(rows: dict[Any, Any]) -> list[Any]:
    """Row labels; numbers where all of them are, as pandas reads them."""
    labels = list(rows)
    return [int(label) for label in labels] if all(label.isdecimal() for label in labels) else labels
