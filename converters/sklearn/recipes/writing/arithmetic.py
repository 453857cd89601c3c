"""Functions of numbers that ONNX lacks, or that onnxruntime has for float32 only, written as arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from converters.sklearn.recipes.writing.ops import Ops


def log1p(ops: Ops, name: str) -> str:
    """log(1 + x), exact for small x too (Kahan's correction of the rounding of 1 + x)."""
    whole = ops.add("Add", name, 1.0)
    lost = ops.add("Sub", whole, 1.0)
    plain = ops.add("Log", whole)
    exact = ops.add("Div", ops.add("Mul", plain, name), lost)
    tiny = ops.add("Equal", lost, 0.0)
    # Beyond 1e8 the correction is below the last digit, and would make NaN of infinity.
    huge = ops.add("Greater", name, 1e8)
    zero = ops.add("LessOrEqual", whole, 0.0)
    return where(ops, ops.add("Or", huge, zero), plain, where(ops, tiny, name, exact))


def expm1(ops: Ops, name: str) -> str:
    """exp(x) - 1, exact for small x too: expm1(x) = tanh(x / 2) * (exp(x) + 1) there."""
    plain = ops.add("Sub", ops.add("Exp", name), 1.0)
    half = ops.add("Tanh", ops.add("Mul", name, 0.5))
    small = ops.add("Mul", half, ops.add("Add", ops.add("Exp", name), 1.0))
    return where(ops, ops.add("Less", ops.add("Abs", name), 0.5), small, plain)


def arctan(ops: Ops, name: str) -> str:
    """The angle whose tangent is x; onnxruntime has it for float32 only. By Cephes' atan: error about 1e-16."""
    size = ops.add("Abs", name)
    large, middle = ops.add("Greater", size, 2.414213562373095), ops.add("Greater", size, 0.66)
    turned = ops.add("Div", ops.add("Sub", size, 1.0), ops.add("Add", size, 1.0))
    x = where(ops, large, ops.add("Neg", ops.add("Reciprocal", size)), where(ops, middle, turned, size))
    start = where(ops, large, math.pi / 2, where(ops, middle, math.pi / 4, 0.0))
    rest = where(ops, large, 6.123233995736766e-17, where(ops, middle, 3.061616997868383e-17, 0.0))
    square = ops.add("Mul", x, x)
    curve = ops.add("Mul", square, _ratio(ops, square, _ARCTAN))
    angle = ops.add("Add", start, ops.add("Add", ops.add("Add", ops.add("Mul", x, curve), x), rest))
    return where(ops, ops.add("Less", name, 0.0), ops.add("Neg", angle), angle)


def where(ops: Ops, condition: str, yes: object, no: object) -> str:
    """``yes`` where the condition holds, else ``no``; each a tensor's name or a number."""
    return ops.add("Where", condition, yes, no)


def polynomial(ops: Ops, name: str, coefficients: Sequence[float]) -> str:
    """A polynomial by Horner's rule; coefficients from the highest power to the constant."""
    result = ops.constant(float(coefficients[0]))
    for value in coefficients[1:]:
        result = ops.add("Add", ops.add("Mul", result, name), float(value))
    return result


def count_at_most(ops: Ops, name: str, bounds: object, *, strictly: bool = False) -> str:
    """How many of the bounds are at most (``strictly``: less than) the value; name is (rows, 1), int64 (rows,)."""
    import numpy as np
    from onnx import TensorProto

    flags = ops.add("Less" if strictly else "LessOrEqual", np.asarray(bounds, dtype=float)[None, :], name)
    return ops.sum(ops.cast(flags, int(TensorProto.INT64)), 1)


def places_among(ops: Ops, x: str, bounds: Any) -> tuple[str, Any]:
    """For a matrix (rows, columns) how many of each column's sorted ``bounds`` (bounds, columns) are at most the value.

    By halving, so that a thousand bounds take ten steps. Returns int64 (rows, columns), and the places (1, columns) at
    which each column begins in the bounds laid out column by column.
    """
    import numpy as np
    from onnx import TensorProto

    count, columns = bounds.shape
    size = 1 << int(count).bit_length()
    padded = np.full((columns, size), np.inf)
    padded[:, :count] = bounds.T
    flat = ops.constant(padded.ravel())
    place = ops.constant((np.arange(columns, dtype=np.int64) * size)[None, :])
    step = size // 2
    while step:
        tried = ops.add("Gather", flat, ops.add("Add", place, step - 1))
        reached = ops.cast(ops.add("LessOrEqual", tried, x), int(TensorProto.INT64))
        place = ops.add("Add", place, ops.add("Mul", reached, step))
        step //= 2
    found = ops.add("Sub", place, (np.arange(columns, dtype=np.int64) * size)[None, :])
    return ops.add("Min", found, count), (np.arange(columns, dtype=np.int64) * count)[None, :]


def normal_quantile(ops: Ops, name: str) -> str:
    """The inverse of the standard normal distribution's cumulative function, inside of (0, 1).

    Wichura's PPND16 (Applied Statistics 37, 1988, algorithm AS 241): relative error about 1e-16 in float64.
    """
    centred = ops.add("Sub", name, 0.5)
    square = ops.add("Sub", 0.180625, ops.add("Mul", centred, centred))
    middle = ops.add("Mul", centred, _ratio(ops, square, _MIDDLE))
    tail = ops.add("Min", name, ops.add("Sub", 1.0, name))
    depth = ops.add("Sqrt", ops.add("Neg", ops.add("Log", ops.add("Max", tail, 1e-300))))
    near = _ratio(ops, ops.add("Sub", depth, 1.6), _NEAR)
    far = _ratio(ops, ops.add("Sub", depth, 5.0), _FAR)
    outer = where(ops, ops.add("LessOrEqual", depth, 5.0), near, far)
    signed = where(ops, ops.add("Less", centred, 0.0), ops.add("Neg", outer), outer)
    return where(ops, ops.add("LessOrEqual", ops.add("Abs", centred), 0.425), middle, signed)


def _ratio(ops: Ops, name: str, table: tuple[tuple[float, ...], tuple[float, ...]]) -> str:
    above, below = table
    return ops.add("Div", polynomial(ops, name, above), polynomial(ops, name, below))


_ARCTAN = (
    (
        -8.750608600031904122785e-1,
        -1.615753718733365076637e1,
        -7.500855792314704667340e1,
        -1.228866684490136173410e2,
        -6.485021904942025371773e1,
    ),
    (
        1.0,
        2.485846490142306297962e1,
        1.650270098316988542046e2,
        4.328810604912902668951e2,
        4.853903996359136964868e2,
        1.945506571482613964425e2,
    ),
)
_MIDDLE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_NEAR = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_FAR = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908503148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
