"""SplineTransformer as the polynomial of each knot interval; skl2onnx has none."""

from __future__ import annotations

from typing import Any

from converters.graph import checks
from converters.sklearn.recipes.writing.arithmetic import count_at_most
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def spline_transformer(ops: Ops) -> None:
    """Per column its splines' values: Horner's rule with the coefficients of the interval that the value is in."""
    model, x = ops.model, ops.matrix()
    blocks = []
    degree = model.degree
    for index, spline in enumerate(model.bsplines_):
        column = ops.columns(x, [index])
        missing = ops.add("IsNaN", column)
        if model.extrapolation == "error":
            column = _within_knots(ops, column, spline)
        known = ops.add("Where", missing, float(spline.t[spline.k]), column)
        if model.extrapolation == "linear":
            bound = degree
            # The original's loop over the columns raises its degree here for good (scikit-learn 1.0 to 1.9 at least):
            # of low degrees, later columns are continued from another knot. We answer what it answers.
            degree += 1 if degree <= 1 else 0
            values = _continued(ops, known, spline, bound, degree)
        else:
            values = _evaluate(ops, known, spline, model.extrapolation)
        if getattr(model, "handle_missing", "error") == "zeros":
            values = ops.add("Where", missing, 0.0, values)
        width = spline.c.shape[1] - (0 if model.include_bias else 1)
        blocks.append(ops.columns(values, list(range(width))))
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def _within_knots(ops: Ops, column: str, spline: Any) -> str:
    """The column again; a run fails that has a number beyond the knots, as the original refuses it."""
    import numpy as np

    least, most = float(spline.t[spline.k]), float(spline.t[len(spline.t) - spline.k - 1])
    beyond = ops.add("Or", ops.add("Less", column, least), ops.add("Greater", column, most))
    count = ops.add("ReduceSum", ops.cast(beyond, _INT64), keepdims=0)
    return checks.passed(ops, column, ops.add("Greater", count, ops.constant(np.zeros((), np.int64))))


def _evaluate(ops: Ops, column: str, spline: Any, extrapolation: str) -> str:
    first, last = float(spline.t[spline.k]), float(spline.t[len(spline.t) - spline.k - 1])
    if extrapolation == "periodic":
        column = _wrapped(ops, column, first, last)
    elif extrapolation == "constant":
        column = ops.add("Min", ops.add("Max", column, first), last)
    return _horner(ops, column, spline)


def _continued(ops: Ops, column: str, spline: Any, bound: int, edge: int) -> str:
    """Linear beyond the knots number ``bound`` from each end, the ``edge`` outermost splines alone."""
    import numpy as np

    first, last = float(spline.t[bound]), float(spline.t[-bound - 1])
    inside = ops.add("Min", ops.add("Max", column, first), last)
    values = _horner(ops, inside, spline)
    outermost = np.arange(spline.c.shape[1]) < edge
    for end, beyond, taken in ((first, "Less", outermost), (last, "Greater", outermost[::-1])):
        start = np.where(taken, spline(end), 0.0)
        slope = np.where(taken, spline(end, nu=1), 0.0)
        line = ops.add("Add", ops.add("Mul", ops.add("Sub", column, end), slope[None, :]), start[None, :])
        values = ops.add("Where", ops.add(beyond, column, end), line, values)
    return values


def _horner(ops: Ops, column: str, spline: Any) -> str:
    breaks, coefficients = _pieces(spline)
    starts = breaks[:-1]
    if len(starts) > 1:
        place = count_at_most(ops, column, starts[1:])
    else:
        place = ops.reshape(ops.cast(ops.add("Mul", column, 0.0), _INT64), [-1])
    offset = ops.add("Sub", column, ops.reshape(ops.add("Gather", starts, place), [-1, 1]))
    result = ops.add("Gather", coefficients[0], place, axis=0)
    for power in range(1, len(coefficients)):
        result = ops.add("Add", ops.add("Mul", result, offset), ops.add("Gather", coefficients[power], place, axis=0))
    return result


def _wrapped(ops: Ops, column: str, first: float, last: float) -> str:
    """The value moved by whole periods to [first, last), as Python's % does it."""
    period = last - first
    if period <= 0:
        return ops.add("Mul", column, 0.0)
    offset = ops.add("Sub", column, first)
    rest = ops.add("Mod", offset, period, fmod=1)
    rest = ops.add("Where", ops.add("Less", rest, 0.0), ops.add("Add", rest, period), rest)
    return ops.add("Add", rest, first)


def _pieces(spline: Any) -> tuple[Any, Any]:
    """Break points, and coefficients (degree + 1, intervals, splines) from the highest power, of a B-spline.

    They are Taylor's at the start of each interval, where a spline is continuous from the right.
    """
    import math

    import numpy as np

    breaks = np.unique(spline.t[spline.k : len(spline.t) - spline.k])
    if len(breaks) == 1:
        breaks = np.repeat(breaks, 2)
    powers = range(spline.k, -1, -1)
    return breaks, [np.asarray(spline(breaks[:-1], nu=power), dtype=float) / math.factorial(power) for power in powers]


_INT64 = 7  # TensorProto.INT64

RECIPES = (
    Recipe(
        ("sklearn.preprocessing.SplineTransformer",),
        "transformer",
        spline_transformer,
        width=lambda model: int(model.n_features_out_),
    ),
)
