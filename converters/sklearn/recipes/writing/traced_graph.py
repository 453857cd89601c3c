"""What was traced of a user's function, written as a graph: columns that are made alike are made together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.traced_numbers import FLAGS, Node
from converters.sklearn.recipes.writing import arithmetic
from converters.sklearn.recipes.writing.functions import FUNCTIONS
from converters.sklearn.recipes.writing.ops import Ops

_PLAIN = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}
_COMPARISONS = {
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}  # fmt: skip
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}


def write(ops: Ops, matrix: str, columns: Sequence[Any]) -> str:
    """A matrix whose columns are the traced ``columns`` of each row of ``matrix``, shape (rows, features)."""
    keys = _Keys()
    groups: dict[int, list[int]] = {}
    for position, value in enumerate(columns):
        groups.setdefault(keys.of(value), []).append(position)
    pieces, order = [], []
    for positions in groups.values():
        pieces.append(_Writer(ops, matrix).numbers(tuple(columns[position] for position in positions)))
        order += positions
    whole = pieces[0] if len(pieces) == 1 else ops.add("Concat", *pieces, axis=1)
    if order == sorted(order):
        return whole
    return ops.columns(whole, [int(place) for place in np.argsort(order)])


class _Keys:
    """Numbers for what is made alike: the same operations, whatever the columns and constants."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._known: dict[int, tuple[Any, int]] = {}  # with the node, so that its identity is not given again

    def of(self, value: Any) -> int:
        if not isinstance(value, Node):
            return -1
        found = self._known.get(id(value))
        if found is None:
            kind = (value.op, tuple(map(self.of, value.args)))
            found = self._known[id(value)] = (value, self._numbers.setdefault(kind, len(self._numbers)))
        return found[1]


class _Writer:
    """Writes columns that are made alike, side by side; each method takes one value a column."""

    def __init__(self, ops: Ops, matrix: str) -> None:
        self._ops, self._matrix = ops, matrix
        self._made: dict[tuple[int, ...], str] = {}

    def numbers(self, values: tuple[Any, ...]) -> str:
        """The columns as numbers, shape (rows, columns)."""
        if not isinstance(values[0], Node):
            return self._ops.for_each_row(np.asarray([values], dtype=self._ops.dtype))
        return self._as_numbers(values)

    def _as_numbers(self, values: tuple[Any, ...]) -> str:
        if not isinstance(values[0], Node):
            return self._constant(values)
        name = self._node(values)
        return self._ops.cast(name) if values[0].op in FLAGS else name

    def _as_flags(self, values: tuple[Any, ...]) -> str:
        if isinstance(values[0], Node) and values[0].op in FLAGS:
            return self._node(values)
        equal = self._ops.add("Equal", self._as_numbers(values), 0.0)
        return self._ops.add("Not", equal)

    def _constant(self, values: tuple[Any, ...]) -> str:
        array = np.asarray([values], dtype=np.float64)
        first = array[0, 0]
        same = all(value == first or (math.isnan(value) and math.isnan(first)) for value in array[0])
        return self._ops.constant(float(first) if same else array)

    def _node(self, nodes: tuple[Any, ...]) -> str:
        key = tuple(map(id, nodes))
        if key not in self._made:
            self._made[key] = self._written(nodes)
        return self._made[key]

    def _written(self, nodes: tuple[Any, ...]) -> str:
        op = nodes[0].op
        if op == "input":
            return self._ops.columns(self._matrix, [node.column for node in nodes])
        args = [tuple(node.args[place] for node in nodes) for place in range(len(nodes[0].args))]
        ops = self._ops
        if op == "logical_not":
            return ops.add("Not", self._as_flags(args[0]))
        if op in _LOGICAL:
            return ops.add(_LOGICAL[op], self._as_flags(args[0]), self._as_flags(args[1]))
        if op == "where":
            return ops.add("Where", self._as_flags(args[0]), *map(self._as_numbers, args[1:]))
        if op == "power" and (written := self._power(args)) is not None:
            return written
        names = list(map(self._as_numbers, args))
        if op in _PLAIN:
            return ops.add(_PLAIN[op], *names)
        if op in _COMPARISONS:
            return ops.add(_COMPARISONS[op], *names)
        return (_FUNCTIONS.get(op) or FUNCTIONS[op])(ops, *names)

    def _power(self, args: Sequence[tuple[Any, ...]]) -> str | None:
        """The powers that numpy calculates in other ways; None for others."""
        exponents = set(args[1]) if not any(isinstance(one, Node) for one in args[1]) else set()
        if exponents not in ({2}, {0.5}, {-1}):
            return None
        base = self._as_numbers(args[0])
        match exponents.pop():
            case 2:
                return self._ops.add("Mul", base, base)
            case 0.5:
                return self._ops.add("Sqrt", base)
            case _:
                return self._ops.add("Reciprocal", base)


def _remainder(ops: Ops, x: str, y: str) -> str:
    # As numpy: the remainder of C, which is exact, with the sign of the divisor.
    rest = ops.add("Mod", x, y, fmod=1)
    differs = ops.add("Xor", ops.add("Less", rest, 0.0), ops.add("Less", y, 0.0))
    wrong = ops.add("And", differs, ops.add("Not", ops.add("Equal", rest, 0.0)))
    return ops.add("Where", wrong, ops.add("Add", rest, y), rest)


def _floor_divide(ops: Ops, x: str, y: str) -> str:
    # What is left after the remainder is a whole number but for rounding.
    exact = ops.add("Div", ops.add("Sub", x, _remainder(ops, x, y)), y)
    whole = ops.add("Floor", ops.add("Add", exact, 0.5))
    # Beyond, numbers are whole anyway; and what is infinite or no number stays so.
    small = ops.add("Less", ops.add("Abs", exact), 1e15)
    return ops.add("Where", small, whole, ops.add("Where", ops.add("Equal", y, 0.0), ops.add("Div", x, y), exact))


def _maximum(ops: Ops, x: str, y: str) -> str:
    first = ops.add("Or", ops.add("GreaterOrEqual", x, y), ops.add("IsNaN", x))
    return ops.add("Where", first, x, y)


def _minimum(ops: Ops, x: str, y: str) -> str:
    first = ops.add("Or", ops.add("LessOrEqual", x, y), ops.add("IsNaN", x))
    return ops.add("Where", first, x, y)


def _hypotenuse(ops: Ops, x: str, y: str) -> str:
    x, y = ops.add("Abs", x), ops.add("Abs", y)
    large, small = _maximum(ops, x, y), _minimum(ops, x, y)
    part = ops.add("Div", small, large)
    size = ops.add("Mul", large, ops.add("Sqrt", ops.add("Add", ops.add("Mul", part, part), 1.0)))
    return ops.add("Where", ops.add("Equal", large, 0.0), 0.0, size)


def _not_equal(ops: Ops, x: str, y: str) -> str:
    return ops.add("Not", ops.add("Equal", x, y))


def _is_negative(ops: Ops, x: str) -> str:
    """Whether the sign is negative, of zero too."""
    return ops.add("Or", ops.add("Less", x, 0.0), ops.add("Less", ops.add("Reciprocal", x), 0.0))


def _copysign(ops: Ops, x: str, y: str) -> str:
    size = ops.add("Abs", x)
    return ops.add("Where", _is_negative(ops, y), ops.add("Neg", size), size)


def _heaviside(ops: Ops, x: str, middle: str) -> str:
    step = ops.add("Where", ops.add("Less", x, 0.0), 0.0, ops.add("Where", ops.add("Equal", x, 0.0), middle, 1.0))
    return ops.add("Where", ops.add("IsNaN", x), x, step)


def _arctan2(ops: Ops, y: str, x: str) -> str:
    right = arithmetic.arctan(ops, ops.add("Div", y, x))
    negative = _is_negative(ops, y)
    turned = ops.add("Add", right, ops.add("Where", negative, -math.pi, math.pi))
    # Zero by zero is no number: numpy answers by the signs.
    both = ops.add("And", ops.add("Equal", x, 0.0), ops.add("Equal", y, 0.0))
    none = ops.add("Where", negative, -0.0, 0.0)
    behind = ops.add("Where", negative, -math.pi, math.pi)
    zero = ops.add("Where", _is_negative(ops, x), behind, none)
    return ops.add("Where", both, zero, ops.add("Where", _is_negative(ops, x), turned, right))


def _arcsin(ops: Ops, x: str) -> str:
    root = ops.add("Sqrt", ops.add("Mul", ops.add("Sub", 1.0, x), ops.add("Add", 1.0, x)))
    return arithmetic.arctan(ops, ops.add("Div", x, root))


def _arccos(ops: Ops, x: str) -> str:
    half = ops.add("Sqrt", ops.add("Div", ops.add("Sub", 1.0, x), ops.add("Add", 1.0, x)))
    return ops.add("Mul", arithmetic.arctan(ops, half), 2.0)


def _is_infinite(ops: Ops, x: str) -> str:
    return ops.add("Equal", ops.add("Abs", x), np.inf)


def _is_finite(ops: Ops, x: str) -> str:
    return ops.add("Less", ops.add("Abs", x), np.inf)


def _float32(ops: Ops, x: str) -> str:
    from onnx import TensorProto

    return ops.cast(ops.cast(x, int(TensorProto.FLOAT)))


_FUNCTIONS: dict[str, Callable[..., str]] = {
    "arccos": _arccos, "arcsin": _arcsin, "arctan": arithmetic.arctan, "arctan2": _arctan2, "copysign": _copysign,
    "float32": _float32, "floor_divide": _floor_divide, "heaviside": _heaviside, "hypot": _hypotenuse,
    "isfinite": _is_finite, "isinf": _is_infinite, "isnan": lambda ops, x: ops.add("IsNaN", x), "maximum": _maximum,
    "minimum": _minimum, "not_equal": _not_equal, "power": lambda ops, x, y: ops.add("Pow", x, y),
    "remainder": _remainder, "truncated": FUNCTIONS["trunc"],
}  # fmt: skip
