"""Polynomials, power and quantile transforms; skl2onnx's have no float64, or interpolate in float32."""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.writing import arithmetic
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

_BOUNDS = 1e-7  # sklearn.preprocessing._data.BOUNDS_THRESHOLD


def polynomial_features(ops: Ops) -> None:
    """Products of columns: the factors of each product side by side, filled up with ones."""
    import numpy as np

    model, x = ops.model, ops.matrix()
    powers = np.asarray(model.powers_)
    factors = [np.repeat(np.arange(powers.shape[1]), row) for row in powers]
    degree = max((len(row) for row in factors), default=0)
    ones = ops.add("Add", ops.add("Mul", ops.columns(x, [0]), 0.0), 1.0)
    extended = ops.add("Concat", x, ones, axis=1)
    padded = np.full((len(factors), max(degree, 1)), powers.shape[1])
    for row, chosen in enumerate(factors):
        padded[row, : len(chosen)] = chosen
    result = ops.columns(extended, padded[:, 0].tolist())
    for place in range(1, degree):
        result = ops.add("Mul", result, ops.columns(extended, padded[:, place].tolist()))
    ops.answer(0, result)


def power_transformer(ops: Ops) -> None:
    """Yeo-Johnson's or Box and Cox's power of each column, then scaled; NaN stays NaN."""
    import numpy as np

    model, x = ops.model, ops.matrix()
    power = np.asarray(model.lambdas_, dtype=float)
    if model.method == "box-cox":
        result = _box_cox(ops, ops.add("Log", x), power)
    else:
        low = ops.add("Neg", ops.add("Min", x, 0.0))
        above = _box_cox(ops, arithmetic.log1p(ops, ops.add("Max", x, 0.0)), power)
        below = ops.add("Neg", _box_cox(ops, arithmetic.log1p(ops, low), 2.0 - power))
        result = ops.add("Where", ops.add("Less", x, 0.0), below, above)
        result = ops.add("Where", ops.add("IsNaN", x), x, result)
    if model.standardize:
        scaler = model._scaler
        if scaler.mean_ is not None:
            result = ops.add("Sub", result, np.asarray(scaler.mean_, dtype=float)[None, :])
        if scaler.scale_ is not None:
            result = ops.add("Div", result, np.asarray(scaler.scale_, dtype=float)[None, :])
    ops.answer(0, result)


def _box_cox(ops: Ops, logarithm: str, power: Any) -> str:
    """(exp(power * logarithm) - 1) / power, or the logarithm itself where the power is zero."""
    import numpy as np

    zero = np.abs(power) < np.spacing(1.0)
    powered = arithmetic.expm1(ops, ops.add("Mul", logarithm, np.where(zero, 1.0, power)[None, :]))
    divided = ops.add("Div", powered, np.where(zero, 1.0, power)[None, :])
    return divided if not zero.any() else ops.add("Where", zero[None, :], logarithm, divided)


def binarizer(ops: Ops) -> None:
    """1 for what is above the threshold; skl2onnx compares in float32."""
    ops.answer(0, ops.cast(ops.add("Greater", ops.matrix(), float(ops.model.threshold))))


def normalizer(ops: Ops) -> None:
    """Each row over its length."""
    ops.answer(0, normalized(ops, ops.matrix(), ops.model.norm))


def normalized(ops: Ops, name: str, norm: str) -> str:
    """Rows over their ``l1``, ``l2`` or ``max`` norm; rows of zeros stay as they are."""
    size = ops.add("Mul", name, name) if norm == "l2" else ops.add("Abs", name)
    total = ops.add("ReduceMax" if norm == "max" else "ReduceSum", size, [1], keepdims=1)
    total = ops.add("Sqrt", total) if norm == "l2" else total
    return ops.add("Div", name, ops.add("Where", ops.add("Equal", total, 0.0), 1.0, total))


def quantile_transformer(ops: Ops) -> None:
    """Each column's place among its learnt quantiles, or the normal distribution's value at that place."""
    import numpy as np

    model, x = ops.model, ops.matrix()
    quantiles = np.asarray(model.quantiles_, dtype=float)
    if not np.isfinite(quantiles).all():
        raise ConversionError(
            "QuantileTransformer has learnt nothing of a column that was missing throughout",
            hint="leave that column out, or fill it before",
        )
    ops.answer(0, _place(ops, x, quantiles, np.asarray(model.references_, dtype=float), model))


def _place(ops: Ops, x: str, quantiles: Any, references: Any, model: Any) -> str:
    from statistics import NormalDist

    import numpy as np

    up = _interpolate(ops, x, quantiles, references)
    down = _interpolate(ops, ops.add("Neg", x), -quantiles[::-1], -references[::-1])
    place = ops.add("Mul", ops.add("Sub", up, down), 0.5)
    first, last = quantiles[:1], quantiles[-1:]
    if model.output_distribution == "normal":
        low = ops.add("Less", ops.add("Sub", x, _BOUNDS), first)
        high = ops.add("Greater", ops.add("Add", x, _BOUNDS), last)
    else:
        low, high = ops.add("Equal", x, first), ops.add("Equal", x, last)
    place = ops.add("Where", high, 1.0, place)
    place = ops.add("Where", low, 0.0, place)
    if model.output_distribution == "normal":
        end = _BOUNDS - float(np.spacing(1))
        least, most = (NormalDist().inv_cdf(bound) for bound in (end, 1 - end))
        inside = ops.add("Min", ops.add("Max", place, _BOUNDS / 2), 1.0 - _BOUNDS / 2)
        place = ops.add("Min", ops.add("Max", arithmetic.normal_quantile(ops, inside), least), most)
    return ops.add("Where", ops.add("IsNaN", x), x, place)


def _interpolate(ops: Ops, x: str, points: Any, values: Any) -> str:
    """numpy's ``interp`` of each column's points (points, columns), which may repeat; beyond the ends it is flat."""
    import numpy as np

    # numpy takes the last of the points that are at most x, and of equal points the last.
    found, starts = arithmetic.places_among(ops, x, points)
    last = len(points) - 1
    held = ops.add("Max", ops.add("Min", ops.add("Sub", found, 1), max(last - 1, 0)), 0)
    steps, rises = np.diff(points, axis=0), np.broadcast_to(np.diff(values)[:, None], (last, points.shape[1]))
    slopes = np.zeros(points.shape)
    np.divide(rises, steps, out=slopes[:last], where=steps > 0)
    at = ops.add("Add", held, starts)
    start = ops.add("Gather", points.T.ravel(), at)
    slope = ops.add("Gather", slopes.T.ravel(), at)
    line = ops.add("Add", ops.add("Mul", ops.add("Sub", x, start), slope), ops.add("Gather", values, held))
    line = ops.add("Where", ops.add("GreaterOrEqual", x, points[-1:]), float(values[-1]), line)
    return ops.add("Where", ops.add("Less", x, points[:1]), float(values[0]), line)


def _as_given(model: Any) -> int | None:
    # Needs no fit, and may have had none.
    return getattr(model, "n_features_in_", None)


RECIPES = (
    Recipe(
        ("sklearn.preprocessing.PolynomialFeatures",),
        "transformer",
        polynomial_features,
        width=lambda model: int(model.n_output_features_),
    ),
    Recipe(
        ("sklearn.preprocessing.PowerTransformer",),
        "transformer",
        power_transformer,
        width=lambda model: len(model.lambdas_),
    ),
    Recipe(("sklearn.preprocessing.Binarizer",), "transformer", binarizer, width=_as_given),
    Recipe(("sklearn.preprocessing.Normalizer",), "transformer", normalizer, width=_as_given),
    Recipe(
        ("sklearn.preprocessing.QuantileTransformer",),
        "transformer",
        quantile_transformer,
        width=lambda model: int(model.quantiles_.shape[1]),
    ),
)
