"""Isotonic regression: skl2onnx has no converter for it, and calibration needs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import arithmetic
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def isotonic(ops: Ops) -> None:
    """Straight lines between the fitted knots."""
    ops.answer(0, interpolate(ops, ops.matrix(), ops.model))


def interpolate(ops: Ops, x: str, model: Any) -> str:
    """A fitted ``IsotonicRegression`` at ``x``, both of shape (rows, 1).

    Outside of the knots it answers as ``out_of_bounds`` says: the nearest knot's value, or NaN, which also replaces
    the error of 'raise'.
    """
    knots = np.asarray(model.X_thresholds_, dtype=np.float64)
    answer = polyline(ops, x, knots, np.asarray(model.y_thresholds_, dtype=np.float64))
    if model.out_of_bounds == "clip" or len(knots) == 1:
        return answer
    outside = ops.add("Or", ops.add("Less", x, np.float64(knots[0])), ops.add("Greater", x, np.float64(knots[-1])))
    return ops.add("Where", outside, np.float64(np.nan), answer)


def polyline(ops: Ops, x: str, knots: Any, values: Any) -> str:
    """``numpy.interp``: straight lines between knots that increase, level beyond them; NaN stays NaN.

    ``x`` and the answer have shape (rows, 1).
    """
    if len(knots) == 1:
        return ops.add("Add", ops.add("Mul", x, np.float64(0.0)), np.float64(values[0]))
    # min and max, unlike Clip, let a NaN through.
    x = ops.add("Min", ops.add("Max", x, np.float64(knots[0])), np.float64(knots[-1]))
    # The segment is the number of inner knots at or below x.
    segment = arithmetic.count_at_most(ops, x, knots[1:-1]) if len(knots) > 2 else None

    def of_segment(table: Any) -> str:
        if segment is None:
            return ops.constant(table[None])
        return ops.add("Unsqueeze", ops.add("Gather", table, segment, axis=0), [1])

    slopes = np.diff(values) / np.diff(knots)
    step = ops.add("Mul", ops.add("Sub", x, of_segment(knots[:-1])), of_segment(slopes))
    answer = ops.add("Add", step, of_segment(values[:-1]))
    # The last knot is met exactly, not to rounding.
    return ops.add("Where", ops.add("Equal", x, np.float64(knots[-1])), np.float64(values[-1]), answer)


RECIPES = (Recipe(("sklearn.isotonic.IsotonicRegression",), "regressor", isotonic),)
