"""Partial least squares and canonical correlation: skl2onnx has only PLSRegression, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def predictor(ops: Ops) -> None:
    """The targets, and the scores of X as a further method."""
    model, x = ops.model, ops.matrix()
    centred = ops.add("Sub", x, np.asarray(model._x_mean, dtype=np.float64))
    product = ops.add("MatMul", centred, np.asarray(model.coef_, dtype=np.float64).T)
    ops.answer(0, ops.add("Add", product, np.asarray(model.intercept_, dtype=np.float64).reshape(-1)))
    if ops.wants("transform"):
        scaled = ops.add("Div", centred, np.asarray(model._x_std, dtype=np.float64))
        ops.answer_method("transform", ops.add("MatMul", scaled, np.asarray(model.x_rotations_, dtype=np.float64)))


def singular(ops: Ops) -> None:
    """The scores of X."""
    model, x = ops.model, ops.matrix()
    scaled = ops.add("Div", ops.add("Sub", x, model._x_mean), np.asarray(model._x_std, dtype=np.float64))
    ops.answer(0, ops.add("MatMul", scaled, np.asarray(model.x_weights_, dtype=np.float64)))


def _targets(model: Any) -> int:
    return int(np.asarray(model.coef_).shape[0])


_MODULE = "sklearn.cross_decomposition."

RECIPES = (
    Recipe(
        tuple(_MODULE + name for name in ("PLSRegression", "PLSCanonical", "CCA")),
        "regressor",
        predictor,
        width=_targets,
        extra=lambda model: ("transform",),
    ),
    Recipe((_MODULE + "PLSSVD",), "transformer", singular, width=lambda model: int(model.x_weights_.shape[1])),
)
