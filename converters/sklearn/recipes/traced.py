"""A user's function of rows, traced: it is run once on stand-ins of its numbers, which record what is done to them.

The stand-ins lie in arrays of objects, or in data frames, so that numpy itself does all that only moves numbers:
columns taken, put side by side, reshaped, matrices multiplied. What the function does to a row must not depend on other
rows, on how many there are, or on the numbers themselves: it is run on two and on three rows, and each row must come
out alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.traced_arrays import traced
from converters.sklearn.recipes.traced_frames import frame
from converters.sklearn.recipes.traced_numbers import Node, UntraceableError, is_number

_ROWS = (2, 3)
# A function that makes more of a row than this is a program, and its graph would be one.
_MOST_NODES = 20_000


def trace(
    function: Callable[..., Any],
    width: int,
    *,
    names: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """What ``function`` makes of a row of ``width`` numbers: a node or a constant for each column of its answer.

    It is given a data frame with columns ``names`` where there are some, else an array of shape (rows, ``width``), and
    ``options`` as keyword arguments. Raises ``UntraceableError``.
    """
    found = [row for rows in _ROWS for row in _answers(function, rows, width, names, options or {})]
    first = found[0]
    for other in found[1:]:
        if len(other) != len(first) or not all(map(_alike, first, other)):
            raise UntraceableError("treats a row by what is in other rows, by how many there are, or by chance")
    if len(_nodes(first)) > _MOST_NODES:
        raise UntraceableError(f"makes more than {_MOST_NODES} steps for a row")
    return tuple(first)


def _answers(
    function: Callable[..., Any], rows: int, width: int, names: Sequence[str] | None, options: Mapping[str, Any]
) -> list[list[Any]]:
    """The columns of each row of the answer, checked to depend on that row alone, which is then called row 0."""
    given: Any = np.empty((rows, width), dtype=object)
    for row in range(rows):
        for column in range(width):
            given[row, column] = Node("input", (), row, column)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = np.asarray(function(frame(given, names) if names is not None else traced(given), **options))
    except UntraceableError:
        raise
    except RecursionError:
        raise UntraceableError("makes too many steps for a row") from None
    except Exception as error:  # a user's function may raise anything
        said = " ".join(str(error).split())[:200]
        raise UntraceableError(f"cannot be followed ({type(error).__name__}: {said})") from error
    if answer.ndim != 2 or answer.shape[0] != rows or not answer.shape[1]:
        raise UntraceableError(f"answers {_shape(answer, rows)} where a table with a line for each row is needed")
    for row in range(rows):
        for value in answer[row]:
            if not is_number(value):
                raise UntraceableError(f"answers a {type(value).__name__}, which is no number")
        if any(node.op == "input" and node.row != row for node in _nodes(answer[row])):
            raise UntraceableError("treats a row by what is in other rows")
    return [list(line) for line in answer]


def _shape(answer: Any, rows: int) -> str:
    return "one number a row" if answer.shape == (rows,) else f"the shape {answer.shape}"


def _alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for the row that they are of."""
    waiting, seen = [(one, other)], set()
    while waiting:
        a, b = waiting.pop()
        if isinstance(a, Node) != isinstance(b, Node):
            return False
        if not isinstance(a, Node):
            if not (a == b or (a != a and b != b)):
                return False
            continue
        if (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        if (a.op, a.column, len(a.args)) != (b.op, b.column, len(b.args)):
            return False
        waiting += zip(a.args, b.args, strict=True)
    return True


def _nodes(values: Sequence[Any]) -> list[Node]:
    """All nodes that ``values`` are made of, each once."""
    found: dict[int, Node] = {}
    waiting = [value for value in values if isinstance(value, Node)]
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting += [arg for arg in node.args if isinstance(arg, Node)]
    return list(found.values())
