"""Finds the value that an array or a column refused, for the message to the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MAX_DEPTH = 64  # numpy's largest number of dimensions

_JSON = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def describe(value: Any) -> str:
    """The name of the value's type in JSON, with the value itself when it is short."""
    kind = _JSON.get(type(value), "a number")
    return f"{value!r:.60}" if isinstance(value, (str, int, float)) and not isinstance(value, bool) else kind


def find_cell(values: Any, convert: Callable[[Any], Any], rows_are_cells: bool) -> str | None:
    """Find where nested lists hold a value that ``convert`` refuses, or differ in length; None when nowhere.

    With ``rows_are_cells`` an innermost row is converted as a whole.
    """
    return _ragged(values, ()) or _refused(values, convert, (), rows_are_cells)


def _where(place: tuple[int, ...]) -> str:
    if not place:
        return "it"
    row = f"row {place[0]}"
    return row if len(place) == 1 else f"{row}, column {', '.join(map(str, place[1:]))}"


def _ragged(values: Any, place: tuple[int, ...]) -> str | None:
    """Where a list is longer or shorter than its first neighbour, or is beside something that is not a list."""
    if not isinstance(values, (list, tuple)) or not values:
        return None
    if len(place) > MAX_DEPTH:
        return f"{_where(place[:1])} is nested deeper than {MAX_DEPTH} levels"
    lists = [isinstance(item, (list, tuple)) for item in values]
    if not any(lists):
        return None
    first = values[0]
    for position, item in enumerate(values):
        if lists[position] != lists[0]:
            return f"{_where((*place, position))} is {describe(item)}, where row 0 is {describe(first)}"
        if not lists[position]:
            continue
        if len(item) != len(first):
            return f"{_where((*place, position))} has {len(item)} values, where row 0 has {len(first)}"
        if (found := _ragged(item, (*place, position))) is not None:
            return found
    return None


def _refused(values: Any, convert: Callable[[Any], Any], place: tuple[int, ...], rows_are_cells: bool) -> str | None:
    for position, item in enumerate(values):
        inner = (*place, position)
        row = rows_are_cells and isinstance(item, (list, tuple)) and not any(isinstance(c, (list, dict)) for c in item)
        if isinstance(item, (list, tuple)) and not row:
            if (found := _refused(item, convert, inner, rows_are_cells)) is not None:
                return found
            continue
        try:
            convert(item)
        except KeyError as error:
            what = f"lacks the field {error}" if isinstance(item, dict) else f"does not take {describe(item)}"
            return f"{_where(inner)} {what}"
        except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
            return f"{_where(inner)} does not take {describe(item)}"
    return None
