"""Finds what is wrong with values that cannot be an array: in reading order, reported with row and column.

Rows and columns count from 0, as they do in the arrays that models are trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from edge_server.errors import BadRequest
from edge_server.models.files.manifest import InputSpec, Rejects

# numpy's own limit is 64, and no model comes near.
MAX_RANK = 32
_SHOWN = 10
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def refuse(value: Any, spec: InputSpec, rejects: Rejects) -> NoReturn:
    """Raise BadRequest for the first fault of a nested list that ``spec`` does not describe."""
    _check_level(value, spec, _concrete_shape(value, spec), (), rejects)
    raise BadRequest(f"{location(spec, ())} does not fit the model")


def refuse_leaf(flat: Sequence[Any], spec: InputSpec, shape: tuple[int, ...], rejects: Rejects) -> NoReturn:
    """Raise BadRequest for the first of the values, given in reading order, that does not fit ``spec``."""
    for position, value in enumerate(flat):
        check_leaf(value, spec, unravel(position, shape), rejects)
    raise BadRequest(f"{location(spec, ())} does not fit the model")


def check_leaf(value: Any, spec: InputSpec, index: tuple[int, ...], rejects: Rejects) -> None:
    """Raise BadRequest for a single value that the model does not take."""
    dtype = spec.dtype
    if dtype == "string":
        fits = isinstance(value, str) or (value is None and spec.missing is not None)
        wanted = "the model takes strings"
    elif dtype == "bool":
        fits = isinstance(value, bool)
        wanted = "the model takes true or false"
    elif value is None and dtype.startswith("float"):
        fits = not rejects.nan
        wanted = "and the model takes no missing values"
    else:
        fits = isinstance(value, (int, float))
        wanted = f"the model takes numbers ({dtype})"
    if not fits:
        raise BadRequest(f"{location(spec, index)} is {name_of(value)}, {wanted}")


def without_values(name: str, shape: Sequence[int]) -> BadRequest:
    """The refusal of an input that has an axis of length 0."""
    lacks = "rows" if shape and not shape[0] else "values"
    return BadRequest(f"input {name!r:.80} has no {lacks} (shape {list(shape)}), and the model cannot be run on that")


def location(spec: InputSpec, index: tuple[int, ...]) -> str:
    """Where a value is, such as ``input 'x': row 2, column 0 ('age')``."""
    table = spec.shape is not None and len(spec.shape) == 2
    if not index:
        return f"input '{spec.name}'"
    if len(index) == 1:
        return f"input '{spec.name}': row {index[0]}"
    if table and len(index) == 2:
        names = spec.columns
        if spec.shape is not None and spec.shape[1] == 1 and names in (None, (spec.name,)):
            return f"input '{spec.name}': row {index[0]}"
        name = f" ('{names[index[1]]}')" if names is not None and index[1] < len(names) else ""
        return f"input '{spec.name}': row {index[0]}, column {index[1]}{name}"
    return f"input '{spec.name}': element {''.join(f'[{position}]' for position in index)}"


def name_of(value: Any) -> str:
    """The name of the value's type in JSON."""
    return _NAMES.get(type(value), "a number")


def some(values: Iterable[Any]) -> str:
    """The first of many values for a sentence, in order."""
    shown = sorted(values)
    more = len(shown) - _SHOWN
    return ", ".join(f"{value!r:.80}" for value in shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def unravel(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of the element that is at ``position`` in reading order."""
    index: list[int] = []
    for size in reversed(shape):
        position, rest = divmod(position, size)
        index.append(rest)
    return tuple(reversed(index))


def _concrete_shape(value: Any, spec: InputSpec) -> tuple[int, ...]:
    """The shape to check the value against: fixed axes by the model, free ones by the first element. Where the value
    has too few levels for the model, the next check says where.
    """
    axes = (None,) * MAX_RANK if spec.shape is None else spec.shape
    shape: list[int] = []
    for size in axes:
        if spec.shape is None and not isinstance(value, list):
            break
        length = len(value) if isinstance(value, list) else 0
        shape.append(length if size is None else size)
        value = value[0] if length else None
    return tuple(shape)


def _check_level(value: Any, spec: InputSpec, shape: tuple[int, ...], index: tuple[int, ...], rejects: Rejects) -> None:
    depth = len(index)
    if depth == len(shape):
        check_leaf(value, spec, index, rejects)
        return
    if not isinstance(value, list):
        raise BadRequest(f"{location(spec, index)} is {name_of(value)}, {_needed(spec, depth)}")
    if len(value) != shape[depth]:
        free = spec.shape is None or spec.shape[depth] is None
        other = f"row 0 has {shape[depth]}" if free else f"the model takes {shape[depth]}"
        unit = "row" if depth == 0 else "value"
        count = f"{len(value)} {unit}{'' if len(value) == 1 else 's'}"
        raise BadRequest(f"{location(spec, index)} has {count}, {other}")
    for position, item in enumerate(value):
        _check_level(item, spec, shape, (*index, position), rejects)


def _needed(spec: InputSpec, depth: int) -> str:
    if spec.shape is not None and len(spec.shape) == 2:
        return "the model takes a list of rows" if depth == 0 else "a row must be a list of values, even a single row"
    rank = "" if spec.shape is None else f" of {len(spec.shape)} levels"
    return f"the model takes nested lists{rank}"
