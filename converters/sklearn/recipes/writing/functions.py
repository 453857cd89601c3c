"""numpy's and scipy's well-known functions of one number, and of two, as arithmetic of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converters.sklearn.recipes.writing import arithmetic
from converters.sklearn.recipes.writing.ops import Ops

Emit = Callable[[Ops, str], str]


def _plain(op_type: str) -> Emit:
    return lambda ops, name: ops.add(op_type, name)


def _times(factor: float) -> Emit:
    return lambda ops, name: ops.add("Mul", name, factor)


def _log_of_base(base: float) -> Emit:
    import math

    return lambda ops, name: ops.add("Div", ops.add("Log", name), math.log(base))


def _power_of(base: float) -> Emit:
    return lambda ops, name: ops.add("Pow", base, name)


def _root(ops: Ops, name: str) -> str:
    size = ops.add("Pow", ops.add("Abs", name), 1.0 / 3.0)
    return ops.add("Mul", ops.add("Sign", name), size)


def _tangent(ops: Ops, name: str) -> str:
    return ops.add("Div", ops.add("Sin", name), ops.add("Cos", name))


def _square(ops: Ops, name: str) -> str:
    return ops.add("Mul", name, name)


def _hyperbolic_sine(ops: Ops, name: str) -> str:
    # sinh(x) = tanh(x) * cosh(x) loses no digits near zero.
    plain = ops.add("Mul", ops.add("Sub", ops.add("Exp", name), ops.add("Exp", ops.add("Neg", name))), 0.5)
    small = ops.add("Mul", ops.add("Tanh", name), _hyperbolic_cosine(ops, name))
    return ops.add("Where", ops.add("Less", ops.add("Abs", name), 1.0), small, plain)


def _hyperbolic_cosine(ops: Ops, name: str) -> str:
    return ops.add("Mul", ops.add("Add", ops.add("Exp", name), ops.add("Exp", ops.add("Neg", name))), 0.5)


def _inverse_hyperbolic_sine(ops: Ops, name: str) -> str:
    # sign(x) * log1p(|x| + x^2 / (1 + sqrt(1 + x^2))) loses no digits near zero.
    size = ops.add("Abs", name)
    square = ops.add("Mul", name, name)
    root = ops.add("Add", ops.add("Sqrt", ops.add("Add", square, 1.0)), 1.0)
    return ops.add(
        "Mul", ops.add("Sign", name), arithmetic.log1p(ops, ops.add("Add", size, ops.add("Div", square, root)))
    )


def _logit(ops: Ops, name: str) -> str:
    return ops.add("Log", ops.add("Div", name, ops.add("Sub", 1.0, name)))


def _truncated(ops: Ops, name: str) -> str:
    return ops.add("Mul", ops.add("Sign", name), ops.add("Floor", ops.add("Abs", name)))


def _without_nan(ops: Ops, name: str) -> str:
    import numpy as np

    largest = float(np.finfo(np.float64 if ops.dtype.itemsize == 8 else np.float32).max)
    bounded = ops.add("Max", ops.add("Min", name, largest), -largest)
    return ops.add("Where", ops.add("IsNaN", name), 0.0, bounded)


# By the name under which numpy and scipy.special know it; several names may mean one function.
FUNCTIONS: dict[str, Emit] = {
    "abs": _plain("Abs"),
    "absolute": _plain("Abs"),
    "arcsinh": _inverse_hyperbolic_sine,
    "around": _plain("Round"),
    "cbrt": _root,
    "ceil": _plain("Ceil"),
    "copy": _plain("Identity"),
    "cos": _plain("Cos"),
    "cosh": _hyperbolic_cosine,
    "deg2rad": _times(0.017453292519943295),
    "degrees": _times(57.29577951308232),
    "exp": _plain("Exp"),
    "exp2": _power_of(2.0),
    "expit": _plain("Sigmoid"),
    "expm1": arithmetic.expm1,
    "fabs": _plain("Abs"),
    "floor": _plain("Floor"),
    "log": _plain("Log"),
    "log10": _log_of_base(10.0),
    "log1p": arithmetic.log1p,
    "log2": _log_of_base(2.0),
    "logit": _logit,
    "nan_to_num": _without_nan,
    "negative": _plain("Neg"),
    "positive": _plain("Identity"),
    "rad2deg": _times(57.29577951308232),
    "radians": _times(0.017453292519943295),
    "reciprocal": _plain("Reciprocal"),
    "rint": _plain("Round"),
    "round": _plain("Round"),
    "sign": _plain("Sign"),
    "sin": _plain("Sin"),
    "sinh": _hyperbolic_sine,
    "sqrt": _plain("Sqrt"),
    "square": _square,
    "tan": _tangent,
    "tanh": _plain("Tanh"),
    "trunc": _truncated,
}
_HOMES = ("numpy", "scipy.special", "builtins")


def known(func: Any) -> Emit | None:
    """The arithmetic of a function of numpy, scipy or Python, found by its name."""
    import importlib

    name = getattr(func, "__name__", "")
    for home in _HOMES:
        if name in FUNCTIONS and getattr(importlib.import_module(home), name, None) is func:
            return FUNCTIONS[name]
    return None
