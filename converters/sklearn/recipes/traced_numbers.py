"""Stand-ins of the numbers of a row, which record what is done to them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# What numpy's functions of one number are called here where they have several names.
_ALIASES = {
    "absolute": "abs", "fabs": "abs", "degrees": "rad2deg", "radians": "deg2rad", "rint": "round", "around": "round",
    "true_divide": "divide", "mod": "remainder", "fmax": "maximum", "fmin": "minimum", "bitwise_and": "logical_and",
    "bitwise_or": "logical_or", "bitwise_xor": "logical_xor", "invert": "logical_not", "float_power": "power",
    "conjugate": "positive",
}  # fmt: skip
UNARY = {
    "abs",
    "arccos",
    "arcsin",
    "arcsinh",
    "arctan",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "deg2rad",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_not",
    "logit",
    "negative",
    "positive",
    "rad2deg",
    "reciprocal",
    "round",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
}  # fmt: skip
BINARY = {
    "add",
    "arctan2",
    "copysign",
    "divide",
    "equal",
    "floor_divide",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "less",
    "less_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "not_equal",
    "power",
    "remainder",
    "subtract",
}  # fmt: skip
# Whose answers are true or false.
FLAGS = {
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
}


class UntraceableError(Exception):
    """Why a function cannot be put in a graph, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, eq=False)
class Node:
    """A number that depends on a row: ``op`` of ``args``, nodes or constants; ``column`` of ``row`` for an input.

    ``size`` counts the operations that it takes. Python's operators and numpy's functions record further nodes.
    """

    op: str
    args: tuple[Any, ...] = ()
    row: int = -1
    column: int = -1

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise UntraceableError("decides by a number what to do; use np.where for that")

    def __float__(self) -> float:
        raise UntraceableError("makes plain numbers of its input, as math.sin and float() do; use numpy's functions")

    __int__ = __index__ = __float__

    def __len__(self) -> int:
        raise UntraceableError("takes a number for a list")

    @property
    def real(self) -> Node:
        """Itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        # Numpy calls a method of the same name for each object of an array: np.sin(x) calls x.sin().
        plain = _ALIASES.get(name, name)
        if plain in UNARY:
            return functools.partial(made, plain, self)
        raise AttributeError(name)


def _operators() -> None:
    names = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
        "mod": "remainder", "pow": "power", "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
    }  # fmt: skip

    def forward(op: str) -> Callable[[Any, Any], Any]:
        return lambda self, other: made(op, self, other) if is_number(other) else NotImplemented

    def backward(op: str) -> Callable[[Any, Any], Any]:
        return lambda self, other: made(op, other, self) if is_number(other) else NotImplemented

    for method, op in names.items():
        setattr(Node, f"__{method}__", forward(op))
        setattr(Node, f"__r{method}__", backward(op))
    comparisons = {
        "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    }  # fmt: skip
    for method, op in comparisons.items():
        setattr(Node, f"__{method}__", forward(op))
    for method, op in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "logical_not"}.items():
        setattr(Node, f"__{method}__", lambda self, op=op: made(op, self))


def is_number(value: object) -> bool:
    return isinstance(value, Node | int | float | np.bool_ | np.integer | np.floating)


_operators()


def _of_constants(op: str, *args: Any) -> Any:
    if op in ("expit", "logit"):
        import importlib

        special = importlib.import_module("scipy.special")

        return getattr(special, op)(*args)
    return args[0].astype(np.float32) if op == "float32" else getattr(np, {"truncated": "trunc"}.get(op, op))(*args)


def made(op: str, *args: Any) -> Any:
    """The node ``op`` of ``args``; of constants alone the constant that numpy makes of them."""
    op = _ALIASES.get(op, op)
    if not any(isinstance(arg, Node) for arg in args):
        return _of_constants(op, *args)
    if op == "clip":
        return made("minimum", made("maximum", *args[:2]), args[2])
    if op not in UNARY | BINARY | {"where", "truncated", "float32"}:
        raise UntraceableError(f"calls np.{op}, which has no ONNX form here")
    for arg in args:
        if not is_number(arg):
            raise UntraceableError(f"calculates with a {type(arg).__name__}")
    if op == "positive":
        return args[0]
    return Node(op, args)
