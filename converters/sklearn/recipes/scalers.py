"""Scalers to the last bit, so that a value on a tree's threshold stays there.

skl2onnx's are exact on one matrix of float64 only: on float32 they multiply by a rounded reciprocal or round the
parameters first, whole numbers they scale in float32, and they leave out ``MaxAbsScaler(clip=True)``.
"""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def standard_scaler(ops: Ops) -> None:
    """Less the mean, over the scale, both in the type of the features."""
    model, name = ops.model, ops.matrix()
    if model.with_mean:
        name = ops.add("Sub", name, model.mean_)
    if model.with_std:
        name = ops.add("Div", name, model.scale_)
    ops.answer(0, name)


def min_max_scaler(ops: Ops) -> None:
    """Times the scale, plus the least, and within the range if that is wanted."""
    model = ops.model
    name = _in_double(ops, "Add", _in_double(ops, "Mul", ops.matrix(), model.scale_), model.min_)
    low, high = model.feature_range
    ops.answer(0, ops.add("Clip", name, float(low), float(high)) if model.clip else name)


def max_abs_scaler(ops: Ops) -> None:
    """Over the scale, and between -1 and 1 if that is wanted."""
    name = _in_double(ops, "Div", ops.matrix(), ops.model.scale_)
    ops.answer(0, ops.add("Clip", name, -1.0, 1.0) if getattr(ops.model, "clip", False) else name)


def robust_scaler(ops: Ops) -> None:
    """Less the centre, over the scale."""
    model, name = ops.model, ops.matrix()
    if model.with_centering:
        name = _in_double(ops, "Sub", name, model.center_)
    if model.with_scaling:
        name = _in_double(ops, "Div", name, model.scale_)
    ops.answer(0, name)


def _in_double(ops: Ops, operator: str, name: str, value: Any) -> str:
    """As NumPy changes an array in place: in double where the parameter is, then rounded to the type of the array."""
    from onnx import TensorProto

    wide = ops.cast(name, int(TensorProto.DOUBLE))
    return ops.cast(ops.add(operator, wide, ops.constant(value, "float64")))


def _width(model: Any) -> int:
    return int(model.n_features_in_)


RECIPES = tuple(
    Recipe((f"sklearn.preprocessing.{name}",), "transformer", emit, width=_width)
    for name, emit in (
        ("StandardScaler", standard_scaler),
        ("MinMaxScaler", min_max_scaler),
        ("MaxAbsScaler", max_abs_scaler),
        ("RobustScaler", robust_scaler),
    )
)
