"""Regressors of a transformed target: skl2onnx has no converter for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes import isotonic
from converters.sklearn.recipes.traced import trace
from converters.sklearn.recipes.traced_numbers import UntraceableError
from converters.sklearn.recipes.writing import arithmetic, inner_estimators
from converters.sklearn.recipes.writing.functions import known
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.traced_graph import write
from edgepack.errors import ConversionError


def transformed_target(ops: Ops) -> None:
    """The prediction, taken back to the target's own scale."""
    model = ops.model
    ops.answer(0, inverse(ops, model.transformer_, inner_estimators.predicted(ops, model.regressor_)))


def inverse(ops: Ops, transformer: Any, y: str) -> str:
    """``transformer.inverse_transform`` of a matrix. Raises ``ConversionError`` for an unsupported one."""
    name = type(transformer).__name__
    if name not in _INVERSES:
        raise ConversionError(
            f"the inverse of {name}, by which the target was transformed, has no ONNX form",
            hint="transform the target by a scaler, PowerTransformer, or numpy functions such as np.log1p and np.expm1",
        )
    return _INVERSES[name](ops, transformer, y)


def _function(ops: Ops, transformer: Any, y: str) -> str:
    function = transformer.inverse_func
    if function is None:
        return y
    emit = None if transformer.inv_kw_args else known(function)
    if emit is not None:
        return emit(ops, y)
    try:
        columns = trace(function, int(transformer.n_features_in_), options=transformer.inv_kw_args)
    except UntraceableError as error:
        raise ConversionError(
            f"the target's inverse_func {error}",
            hint="write it with numpy's functions, each row for itself, such as np.exp or np.expm1",
        ) from error
    return write(ops, y, columns)


def _standard(ops: Ops, transformer: Any, y: str) -> str:
    if transformer.with_std:
        y = ops.add("Mul", y, np.asarray(transformer.scale_, dtype=np.float64))
    return ops.add("Add", y, np.asarray(transformer.mean_, dtype=np.float64)) if transformer.with_mean else y


def _min_max(ops: Ops, transformer: Any, y: str) -> str:
    y = ops.add("Sub", y, np.asarray(transformer.min_, dtype=np.float64))
    return ops.add("Div", y, np.asarray(transformer.scale_, dtype=np.float64))


def _max_abs(ops: Ops, transformer: Any, y: str) -> str:
    return ops.add("Mul", y, np.asarray(transformer.scale_, dtype=np.float64))


def _robust(ops: Ops, transformer: Any, y: str) -> str:
    if transformer.with_scaling:
        y = ops.add("Mul", y, np.asarray(transformer.scale_, dtype=np.float64))
    return ops.add("Add", y, np.asarray(transformer.center_, dtype=np.float64)) if transformer.with_centering else y


def _power(ops: Ops, transformer: Any, y: str) -> str:
    if transformer.standardize:
        y = _standard(ops, transformer._scaler, y)
    one = _box_cox if transformer.method == "box-cox" else _yeo_johnson
    columns = [one(ops, ops.columns(y, [number]), float(power)) for number, power in enumerate(transformer.lambdas_)]
    return ops.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]


def _box_cox(ops: Ops, y: str, power: float) -> str:
    return ops.add("Exp", y) if power == 0 else _root(ops, y, power)


def _yeo_johnson(ops: Ops, y: str, power: float) -> str:
    # Each branch is worked out on its own side of zero, so that neither makes NaN of the other's values.
    upper, lower = ops.add("Max", y, np.float64(0.0)), ops.add("Neg", ops.add("Min", y, np.float64(0.0)))
    if abs(power) < np.spacing(1.0):
        above = arithmetic.expm1(ops, upper)
    else:
        above = ops.add("Sub", _root(ops, upper, power), np.float64(1.0))
    if abs(power - 2) > np.spacing(1.0):
        below = ops.add("Sub", np.float64(1.0), _root(ops, lower, 2.0 - power))
    else:
        below = ops.add("Neg", arithmetic.expm1(ops, lower))
    return ops.add("Where", ops.add("Less", y, np.float64(0.0)), below, above)


def _root(ops: Ops, y: str, power: float) -> str:
    """(power * y + 1) ** (1 / power)"""
    inner = ops.add("Add", ops.add("Mul", y, np.float64(power)), np.float64(1.0))
    return ops.add("Pow", inner, np.float64(1.0 / power))


def _quantile(ops: Ops, transformer: Any, y: str) -> str:
    if transformer.output_distribution != "uniform":
        raise ConversionError(
            "a QuantileTransformer of the target to a normal distribution has no ONNX form",
            hint="use output_distribution='uniform', or PowerTransformer",
        )
    columns = [
        isotonic.polyline(ops, ops.columns(y, [number]), np.asarray(transformer.references_), quantiles)
        for number, quantiles in enumerate(np.asarray(transformer.quantiles_, dtype=np.float64).T)
    ]
    return ops.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]


def _chain(ops: Ops, transformer: Any, y: str) -> str:
    for _, step in reversed(transformer.steps):
        if step is not None and step != "passthrough":
            y = inverse(ops, step, y)
    return y


_INVERSES = {
    "FunctionTransformer": _function,
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
    "Pipeline": _chain,
}


def _width(model: Any) -> int | None:
    # A regressor tells its number of targets in ways of its own, one target is by far the most common.
    return 1 if model._training_dim == 1 else None


RECIPES = (Recipe(("sklearn.compose.TransformedTargetRegressor",), "regressor", transformed_target, width=_width),)
